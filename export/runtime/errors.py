"""Errors of loading, running and building engines, with what the library said and what helps."""

from __future__ import annotations

from typing import Iterable, Sequence

from .remedies import understood, with_meaning

# Of a library's messages the first say why; so many are kept at either end, and so much of each.
_FIRST, _LAST, _WIDTH = 20, 20, 500


class ExportError(Exception):
    """A failure with one clear sentence (`what`) and, where there is one, the remedy (`fix`)."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what if not fix else f"{what} ({fix})")
        self.what = what
        self.fix = fix


class BackendMissing(ExportError):
    """The library behind a back end is not installed or cannot be used here."""


class EngineError(ExportError):
    """An engine file could not be loaded, or failed while it ran.

    Attributes:
        what: the sentence, with the library's messages and what they mean.
        fix: what to do: the remedy for the library's messages where one is known, else the caller's.
        kind: `memory` where memory ran out, else `failed`.
        summary: the sentence alone.
        advice: the caller's fix.
        said: the library's messages of the failure, each once, bounded.
        beside: its warnings, bounded.
    """

    def __init__(
        self, what: str, fix: str = "", *, said: Iterable[str] = (), beside: Iterable[str] = ()
    ) -> None:
        self.summary, self.advice = what, fix
        self.said, self.beside = bounded(said), bounded(beside)
        whole = ": ".join(part for part in (what, "; ".join(self.said)) if part)
        found = understood([whole], self.beside) if self.said else None
        super().__init__(with_meaning(whole, found), found.fix if found else fix)
        self.kind = found.kind if found else "failed"


def bounded(lines: Iterable[str]) -> Sequence[str]:
    """Each line once and not too long; of many the first, which say why, and the last."""
    found = list(dict.fromkeys(" ".join(line.split())[:_WIDTH] for line in lines if line.strip()))
    return found if len(found) <= _FIRST + _LAST else found[:_FIRST] + found[-_LAST:]


def first_line(error: BaseException) -> str:
    """The first line of what a library says, at most 300 characters; its type where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line[:300] for line in lines if line), type(error).__name__)
