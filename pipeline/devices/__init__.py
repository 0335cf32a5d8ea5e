"""Devices reached through OpenSSH: the host's side. `session` is what the rest of the pipeline uses."""
