"""Choosing a student with the device in the loop: candidates measured untrained, and searched."""
