"""A config's problems, all in one go: key, value, reason, suggestion, place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from export.terminal import one_line
from pipeline.core.errors import ConfigError

MAX_TOLD = 20
_LONGEST_KEY, _LONGEST_VALUE = 120, 60
UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config; as text, it is one line whatever the config holds."""

    key: str
    reason: str
    fix: str = ""
    value: object = None
    place: str = ""

    def __str__(self) -> str:
        key = cut(self.key, _LONGEST_KEY)
        head = f"{self.place}: {key}" if self.place else key
        shown = "" if self.value is None else f" = {cut(repr(self.value))}"
        tail = f"; {self.fix}" if self.fix else ""
        return one_line(f"{head}{shown}: {self.reason}{tail}")


def raise_problems(problems: Sequence[Callable[[], Problem]], source: str) -> None:
    """Raise one ConfigError that lists the first problems and counts the rest; return if there is none.

    Args:
        problems: each makes its problem when called; looking for near names costs too much for ones nobody reads.
        source: the config that has them.
    """
    if not problems:
        return
    if len(problems) == 1:
        problem = problems[0]()
        raise ConfigError(str(problem), where="" if problem.place else source)
    lines = [str(problem()) for problem in problems[:MAX_TOLD]]
    if len(problems) > MAX_TOLD:
        lines.append(f"and {len(problems) - MAX_TOLD:,} more")
    raise ConfigError("\n".join([f"{source}: {len(problems):,} problems", *lines]))


def cut(text: str, longest: int = _LONGEST_VALUE) -> str:
    """`text` on one line, with `...` for what is longer than `longest` characters."""
    shown = one_line(text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


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
