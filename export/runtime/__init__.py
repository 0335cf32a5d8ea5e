"""What runs an engine: here, on a device, and inside a bundle. Python 3.8, standard library and numpy."""
