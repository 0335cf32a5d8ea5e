"""What a run will take, foreseen from short measurements on this machine, and how far off that was afterwards."""
