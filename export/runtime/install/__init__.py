"""Releases on a device: installed, judged, taken back, never without a verified model. Python 3.8, standard library.

`primitive.install` is the one way in; `recovery.recover` is what everything begins with; `disk` makes every change.
"""

COMMANDS = ("install", "rollback", "status", "gc", "recover")
"""What `main.main` runs."""
