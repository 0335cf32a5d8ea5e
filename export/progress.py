"""The progress callback that long functions take."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as `progress(done, total, note)`."""


def no_progress(done: int, total: int, note: str) -> None:
    """Ignore progress."""
