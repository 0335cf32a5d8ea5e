"""Options of a data set: plain values by name."""

from __future__ import annotations

Options = dict[str, bool | int | float | str]
"""The type of an option is that of its default."""
