"""Where engines are built, scored and timed: this machine, or a device."""
