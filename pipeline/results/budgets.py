"""Goals against measurements, which engine to ship, and the verdict: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from export.stats import ratio
from pipeline.config.schema import Budgets, DeployConfig, Goal
from pipeline.report import words
from pipeline.results.evidence import Standing
from pipeline.results.result import (
    Accuracy,
    Engine,
    Judged,
    Latency,
    Network,
    Ratio,
    RunVerdict,
    Shipping,
    Verdict,
)

FASTEST, PREFER_INT8 = "fastest_within_budget", "prefer_int8"
TIE = 0.01
"""Engines whose medians differ by less are as fast as each other, however sure the difference is."""


_TIMES = frozenset({"latency_p50_ms", "latency_p99_ms", "throughput", "deadline_miss_percent"})
"""Metrics that other load changes."""


def metric(engine: Engine, name: str) -> float | None:
    """The value of a budget's metric for an engine; None if it was not measured."""
    if name == "engine_mb":
        return engine.engine_mb
    if name == "energy_mj_per_image":
        return engine.energy.mj_per_image if engine.energy else None
    if name == "deadline_miss_percent":
        paced = {row.boundary: row for row in engine.latency if row.rate_fps is not None}
        at = paced.get("image_to_class") or paced.get("engine")
        return at.deadline_miss_percent if at else None
    if name in ("latency_p50_ms", "latency_p99_ms", "throughput"):
        row = engine.latency_at("engine")
        if row is None:
            return None
        return {"latency_p50_ms": row.median, "latency_p99_ms": row.p99, "throughput": row.throughput}[name]
    return None if engine.accuracy is None else _accuracy(engine.accuracy, name)


def judge(engine: Engine, budgets: Budgets, student: Accuracy, *, disturbed: bool = False) -> list[Judged]:
    """Apply every goal that concerns an engine.

    Args:
        engine: with its accuracy and latency filled in.
        budgets: the config's goals.
        student: the torch student's accuracy, which `max_drop` is counted from.
        disturbed: others were at work while the engine was timed.
    """
    judged: list[Judged] = []
    for name in type(budgets).model_fields:
        goal: Goal | None = getattr(budgets, name)
        if goal is None or not _concerns(goal, engine):
            continue
        value = metric(engine, name)
        scoped = goal.precision is not None or goal.target is not None
        sides: tuple[Literal["min", "max", "max_drop"], ...] = ("min", "max", "max_drop")
        for side in sides:
            limit = getattr(goal, side)
            if limit is None:
                continue
            shown = value
            if side == "max_drop" and value is not None:
                reference = _accuracy(student, name)
                shown = None if reference is None else reference - value
            verdict = _verdict(name, side, limit, shown, scoped)
            verdict.disturbed = disturbed and name in _TIMES and shown is not None
            judged.append(verdict)
    return judged


def choose(
    target: str, engines: Sequence[Engine], select: str = FASTEST, *, disturbed: bool = False
) -> Shipping:
    """What to ship for a target, of the engines that ran, met every goal, and are better than guessing.

    Args:
        target: its name.
        engines: its rows, budgets judged.
        select: `fastest_within_budget`: the fastest; of those that are as fast within the noise, the smallest file.
            `prefer_int8`: the same among the INT8 engines, if there are any. A precision: the same among its engines.
        disturbed: others were at work while they were timed; said where times decide.
    """
    ran = [e for e in engines if e.state == "ran"]
    built_only = [e for e in engines if e.state == "built"]
    if not ran and built_only and all(any(j.verdict == "miss" for j in e.budgets) for e in built_only):
        # Size is known, and so is accuracy, from the ONNX file: what misses now will miss on the device too.
        closest = min(built_only, key=lambda e: sum(j.verdict == "miss" for j in e.budgets))
        misses = "; ".join(miss(j) for j in closest.budgets if j.verdict == "miss")
        why = f"no engine ran here, and each misses a budget already; closest is {closest.id}: {misses}"
        return Shipping(target=target, engine=None, state="budget_missed", why=why)
    if not ran:
        state: Literal["failed", "not_run"] = (
            "failed" if any(e.state == "failed" for e in engines) else "not_run"
        )
        built = sum(e.state == "built" for e in engines)
        why = (
            f"built {built} engine{'s'[: built > 1]}, which cannot run here"
            if built
            else (engines[0].detail if engines else "no engine")
        )
        return Shipping(target=target, engine=None, state=state, why=why)
    if select not in (FASTEST, PREFER_INT8):
        ran = [e for e in ran if e.precision == select]
        if not ran:
            why = f"precision.select: {select}, and no such engine of this target ran"
            return Shipping(target=target, engine=None, state="failed", why=why)
    if all(is_guess(e.standing) for e in ran):
        return Shipping(target=target, engine=None, state="no_better_than_guessing", why=_as_a_guess(ran[0]))
    good = [e for e in ran if e.within_budget and _sound(e) and not is_guess(e.standing)]
    if not good and any(e.within_budget and not is_guess(e.standing) for e in ran):
        why = "engines within budget give outputs that are not finite, or differ for the same image"
        return Shipping(target=target, engine=None, state="failed", why=why)
    if not good:
        closest = min(ran, key=lambda e: sum(j.verdict == "miss" for j in e.budgets))
        misses = "; ".join(miss(j) for j in closest.budgets if j.verdict != "pass")
        why = f"no engine meets every budget; closest is {closest.id}: {misses}"
        by_time = any(j.disturbed and j.verdict == "miss" for e in ran for j in e.budgets)
        return Shipping(target=target, engine=None, state="budget_missed", why=why, disturbed=by_time)
    preferred = [e for e in good if e.precision == "int8"] if select == PREFER_INT8 else []
    best = _fastest(preferred or good)
    by_time = disturbed and (len(preferred or good) > 1 or any(j.disturbed for e in ran for j in e.budgets))
    why = _why(best, good, select)
    return Shipping(target=target, engine=best.id, state="ship", why=why, disturbed=by_time)


def is_guess(standing: Standing | None) -> bool:
    """Whether always answering the most frequent class would be right as often; False where it is not known."""
    return standing is not None and "no_better_than_majority" in standing.findings


def _as_a_guess(engine: Engine) -> str:
    found = engine.standing
    assert found is not None
    return (
        f"{engine.id} is right on {words.percent(found.top1.percent)} % of {words.count(found.n)} test images; "
        f"always answering {found.majority_class} would be on {words.percent(found.majority.percent)} %"
    )


def run_verdict(
    engines: Sequence[Engine],
    shipping: Sequence[Shipping],
    failures: Mapping[str, object],
    config: DeployConfig,
    student: Network,
) -> RunVerdict:
    """What a whole run comes to; the worst of what can be said of it.

    Args:
        engines: of all targets, judged.
        shipping: the choice of each target.
        failures: steps that failed.
        config: says which targets are required.
        student: the network that the engines were made of.
    """
    required = {name for name, target in config.targets.items() if target.required}
    if failures or any(s.state == "failed" and s.target in required for s in shipping):
        return "failed"
    if any(e.state == "failed" and e.target in required for e in engines):
        return "failed"
    if is_guess(student.standing) or any(s.state == "no_better_than_guessing" for s in shipping):
        return "no_better_than_guessing"
    if any(s.state == "budget_missed" for s in shipping) or scoped_misses(engines):
        return "budget_missed"
    ships = {s.engine for s in shipping if s.engine is not None}
    if not ships:
        return "not_run"
    return "pass" if all(e.has_goal for e in engines if e.id in ships) else "no_goal"


def scoped_misses(engines: Sequence[Engine]) -> list[str]:
    """Missed goals that name the engine's precision or target: these are demands, not a filter."""
    return [
        f"{engine.id}: {miss(judged)}"
        for engine in engines
        for judged in engine.budgets
        if judged.scoped and judged.verdict == "miss"
    ]


def _fastest(engines: Sequence[Engine]) -> Engine:
    """The fastest; of those that cannot be told from it, the smallest file."""
    # `ran` implies a latency; the id breaks ties so that the choice does not depend on order.
    first = min(engines, key=lambda e: (_median(e), e.id))
    tied = [e for e in engines if e is first or is_tie(times(e, first))]
    return min(tied, key=lambda e: (e.engine_mb or 0.0, _median(e), e.id))


def _why(best: Engine, good: Sequence[Engine], select: str) -> str:
    asked = "" if select == FASTEST else f"precision.select: {select}; "
    if select == PREFER_INT8 and best.precision != "int8":
        asked = "no INT8 engine is within budget; "
    ties: list[str] = []
    slower: list[str] = []
    faster: list[str] = []
    for other in (e for e in good if e is not best):
        found = times(other, best)
        text = f"{words.short_id(other)} {_median(other):.3f} ms"
        if found is not None and found.n > 1:
            text += f", {words.ratio(found)}"
        (ties if is_tie(found) else slower if found and found.ratio > 1 else faster).append(text)
    head = f"fastest of {len(good)} within budget" if not faster else f"one of {len(good)} within budget"
    parts = [f"{asked}{head}: median {_median(best):.3f} ms"]
    if ties:
        parts.append(f"a tie with {' and '.join(ties)}, and the smallest file of these")
    parts += [f"slower: {'; '.join(slower)}"] if slower else []
    parts += [f"faster: {'; '.join(faster)}"] if faster else []
    return "; ".join(parts)


def times(engine: Engine, other: Engine) -> Ratio | None:
    """How many times as long `engine` takes as `other`; None if one was not timed.

    Round by round where both took turns, else from the medians alone, without an interval.
    """
    mine, theirs = _row(engine), _row(other)
    if mine is None or theirs is None:
        return None
    if mine.round_medians and theirs.round_medians:
        return Ratio.model_validate(ratio(mine.round_medians, theirs.round_medians))
    plain = mine.median / theirs.median
    return Ratio(ratio=plain, low=plain, high=plain, n=1)


def is_tie(found: Ratio | None) -> bool:
    """The two cannot be told apart, or not by an amount that matters."""
    return found is not None and (found.low <= 1 <= found.high or abs(found.ratio - 1) <= TIE)


def miss(judged: Judged) -> str:
    """A goal that was not met, in words."""
    gap = f" ({words.gap(judged)})" if judged.margin is not None else ""
    return f"{words.goal(judged)}: {words.value(judged)}{gap}"


def _sound(engine: Engine) -> bool:
    accuracy = engine.accuracy
    return accuracy is not None and accuracy.finite and accuracy.identical_rows is not False


def _row(engine: Engine) -> Latency | None:
    return engine.latency_at("engine") or (engine.latency[0] if engine.latency else None)


def _median(engine: Engine) -> float:
    row = _row(engine)
    return row.median if row else float("inf")


def _concerns(goal: Goal, engine: Engine) -> bool:
    return (goal.precision is None or engine.precision in goal.precision) and (
        goal.target is None or engine.target in goal.target
    )


def _accuracy(accuracy: Accuracy, name: str) -> float | None:
    value: float | None = getattr(accuracy, name)
    return value


def _verdict(
    name: str, side: Literal["min", "max", "max_drop"], limit: float, value: float | None, scoped: bool
) -> Judged:
    margin = None if value is None else (value - limit if side == "min" else limit - value)
    verdict: Verdict = "not_judged" if margin is None else ("pass" if margin >= 0 else "miss")
    return Judged(
        metric=name, goal=side, limit=limit, value=value, verdict=verdict, margin=margin, scoped=scoped
    )
