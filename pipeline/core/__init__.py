"""What every other part stands on: errors, files, the store, what is printed."""
