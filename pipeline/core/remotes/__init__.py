"""A place that the stores of several machines share: a folder, an SSH server, or objects as in S3."""
