"""What a reader should know before trusting a result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Tone = Literal["pass", "miss", "fail", "off"]
_WORST_FIRST: tuple[Tone, ...] = ("fail", "miss", "off", "pass")


@dataclass(frozen=True)
class Worry:
    """A sentence, and how serious it is."""

    tone: Tone
    text: str


def worst_first(worries: Iterable[Worry]) -> list[Worry]:
    """Equally serious ones in the given order."""
    return sorted(worries, key=lambda worry: _WORST_FIRST.index(worry.tone))
