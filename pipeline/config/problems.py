"""A config's problems, all in one go: key, value, reason, suggestion, place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config."""

    key: str
    reason: str
    fix: str = ""
    value: object = None
    place: str = ""

    def __str__(self) -> str:
        head = f"{self.place}: {self.key}" if self.place else self.key
        shown = "" if self.value is None else f" = {_short(self.value)}"
        tail = f"; {self.fix}" if self.fix else ""
        return f"{head}{shown}: {self.reason}{tail}"


def raise_problems(problems: Sequence[Problem], source: str) -> None:
    """Raise one ConfigError that lists every problem; return if there is none."""
    if not problems:
        return
    if len(problems) == 1:
        raise ConfigError(str(problems[0]))
    lines = "\n".join(f"  {problem}" for problem in problems)
    raise ConfigError(f"{source}: {len(problems)} problems\n{lines}")


def nearest(word: str, choices: Iterable[str], n: int = 1) -> list[str]:
    """The choices that look most like `word`, best first; empty if none is close."""
    pool = list(choices)
    by_lower = {choice.lower(): choice for choice in pool}
    return [by_lower[m] for m in difflib.get_close_matches(word.lower(), by_lower, n=n, cutoff=0.5)]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """'did you mean X?', or the list of choices where nothing is near and the list is short."""
    pool = sorted(choices)
    if close := nearest(word, pool):
        return f"did you mean '{close[0]}'?"
    return f"choose from: {', '.join(pool)}" if len(pool) <= 20 else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
