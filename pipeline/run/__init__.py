"""Before and around the stages: what is checked first, which steps run, what is published."""
