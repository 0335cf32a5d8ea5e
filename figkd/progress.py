"""The one progress callback that every long-running function takes."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]


def no_progress(done: int, total: int, note: str) -> None:
    """Ignore a progress report: the default everywhere."""
