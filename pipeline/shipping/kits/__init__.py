"""What fleets that run on engines of others need, as folders that the command `ship kit` writes out."""
