"""Goals applied to engines, what ships, and why: parts of a result. Codes and numbers; the views make the words."""

from __future__ import annotations

from typing import Literal

from pipeline.config.metrics import Side
from pipeline.results.evidence import Part

Verdict = Literal["pass", "miss", "not_judged"]


class Judged(Part):
    """One budget applied to one engine."""

    metric: str
    goal: Side
    limit: float
    value: float | None
    """The metric; for `max_drop` the drop in percentage points."""
    verdict: Verdict
    margin: float | None
    """How much room is left; negative by how much it is missed."""
    scoped: bool = False
    """The goal names this engine's precision or target."""
    disturbed: bool = False
    """The value was measured while others were at work (see the target's entry in `loads`)."""


class Ratio(Part):
    """How many times as long one engine takes as another, from rounds in which they took turns."""

    ratio: float
    """Median over the rounds."""
    low: float
    """Lower end of its 95 % interval (of its range, below six rounds)."""
    high: float
    n: int
    """Rounds."""


class Rival(Part):
    """Another engine, and a comparison with it."""

    id: str
    median: float
    """Its median latency, ms."""
    times: Ratio | None
    """A comparison of the two; null where one was not timed."""
    tie: bool = False
    """The two cannot be told apart, or not by an amount that matters."""


Because = Literal[
    "fastest",
    "misses",
    "misses_unrun",
    "built_only",
    "no_engine",
    "no_such_precision",
    "guess",
    "unsound",
    "step_failed",
    "recorded",
]


class Reason(Part):
    """Why this engine ships, or none does."""

    code: Because
    """`fastest`: of the engines within budget that `select` left. `misses`: no engine meets every goal. `misses_unrun`:
    the same of engines that did not run, by what is known of them. `built_only`: engines were built, none can run here.
    `no_engine`: there is none. `no_such_precision`: `select` names a precision that did not run. `guess`: no engine is
    better than always answering the most frequent class. `unsound`: outputs that are not finite, or that differ for the
    same image. `step_failed`: a step of the target failed. `recorded`: see `text`."""
    about: str = ""
    """The engine that comes closest (`misses`), the engine that is looked at (`guess`), or the step that failed."""
    select: str = ""
    """`precision.select`, where it decided."""
    rivals: list[Rival] = []
    """The other engines within budget. Their `times`: how many times as long each takes as the one that ships."""
    text: str = ""
    """From results of schema 1: the reason in words."""


class Shipping(Part):
    """What to ship for one target."""

    target: str
    engine: str | None
    """Id of the engine; null if none can be recommended."""
    state: Literal["ship", "budget_missed", "no_better_than_guessing", "not_run", "failed"]
    """`no_better_than_guessing`: no engine is right more often than always answering the most frequent class."""
    reason: Reason
    disturbed: bool = False
    """Times decided what ships, or that nothing does, and others were at work while they were measured."""
