"""What a machine with a GPU has to show: `checks` names it, `run` has it done in processes, the others do it."""
