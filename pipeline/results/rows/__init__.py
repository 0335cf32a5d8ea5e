"""What stages leave for each other and for the result, as typed rows: one reader and one writer for each file."""
