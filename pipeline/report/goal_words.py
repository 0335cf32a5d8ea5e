"""Budgets in words: the goal, the value, how far they are apart."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.config.metrics import METRICS
from pipeline.report import numbers
from pipeline.results.choice import Judged
from pipeline.results.engine import Engine


def metric_name(name: str, *, short: bool = False, plain: bool = False) -> str:
    """A budget's metric in words; `plain`: without jargon."""
    metric = METRICS[name]
    return (metric.short if short else metric.plain if plain else "") or metric.words


def unit(judged: Judged) -> str:
    """Unit of a budget's value and limit."""
    return "points" if judged.goal == "max_drop" else METRICS[judged.metric].unit


def goal(judged: Judged, *, plain: bool = False) -> str:
    """A goal in words: 'p99 latency ≤ 5 ms', 'top-1 drop ≤ 1 points'."""
    drop = " drop" if judged.goal == "max_drop" else ""
    sign = "≥" if judged.goal == "min" else "≤"
    return f"{metric_name(judged.metric, plain=plain)}{drop} {sign} {judged.limit:g} {unit(judged)}".rstrip()


def value(judged: Judged) -> str:
    """The measured value of a goal with its unit."""
    if judged.value is None:
        return "not measured"
    return f"{numbers.fixed(judged.value, _digits(judged))} {unit(judged)}".rstrip()


def gap(judged: Judged) -> str:
    """How far a value is from its limit: '0.420 ms over', '1.20 % short', '0.69 points to spare'."""
    if judged.margin is None:
        return ""
    amount = f"{numbers.fixed(abs(judged.margin), _digits(judged))} {unit(judged)}".rstrip()
    if judged.goal != "max_drop":
        amount = amount.replace(" %", " points")
    if judged.verdict == "miss":
        return f"{amount} {'short' if judged.goal == 'min' else 'over'}"
    return f"{amount} to spare"


def missed(judged: Judged) -> str:
    """A missed goal in few words: 'p99 0.096 ms over'."""
    drop = " drop" if judged.goal == "max_drop" else ""
    return f"{metric_name(judged.metric, short=True)}{drop} {gap(judged)}"


def miss(judged: Judged) -> str:
    """A goal that was not met, without jargon: 'p99 latency ≤ 5 ms: 5.420 ms (0.420 ms over)'."""
    over = f" ({gap(judged)})" if judged.margin is not None else ""
    return f"{goal(judged, plain=True)}: {value(judged)}{over}"


def budget_summary(engine: Engine) -> str:
    """'4 of 4 met', '1 of 4 missed', '2 of 4 not measured'; a dash if no goal concerns the engine."""
    total = len(engine.budgets)
    if not total:
        return numbers.DASH
    missed = sum(j.verdict == "miss" for j in engine.budgets)
    unknown = sum(j.verdict == "not_judged" for j in engine.budgets)
    parts = [f"{missed} of {total} missed"] if missed else []
    parts += [f"{unknown} of {total} not measured"] if unknown else []
    return ", ".join(parts) or f"{total} of {total} met"


def any_open(engines: Iterable[Engine]) -> bool:
    """Some budget could not be judged."""
    return any(j.verdict == "not_judged" for e in engines for j in e.budgets)


def _digits(judged: Judged) -> int:
    return 2 if judged.goal == "max_drop" else METRICS[judged.metric].digits
