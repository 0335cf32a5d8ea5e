"""Goals against measurements, which engine to ship, and the verdict: pure functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.config.metrics import SIDES, Metric, Side
from pipeline.config.schema import Budgets, Goal, goals_of
from pipeline.results import ratios
from pipeline.results.choice import Judged, Ratio, Reason, Rival, Shipping, Verdict
from pipeline.results.engine import Engine
from pipeline.results.evidence import Standing
from pipeline.results.latency import Latency
from pipeline.results.network import Accuracy, Network
from pipeline.results.ratios import is_tie
from pipeline.results.result import RunVerdict

FASTEST, PREFER_INT8 = "fastest_within_budget", "prefer_int8"


def judge(engine: Engine, budgets: Budgets, student: Accuracy, *, disturbed: bool = False) -> list[Judged]:
    """Apply every goal that concerns an engine.

    Args:
        engine: with its accuracy and latency filled in.
        budgets: the config's goals.
        student: the torch student's accuracy, which `max_drop` is counted from.
        disturbed: others were at work while the engine was timed.
    """
    judged: list[Judged] = []
    for metric, goal in goals_of(budgets):
        if not _concerns(goal, engine):
            continue
        scoped = goal.precision is not None or goal.target is not None
        for side in SIDES:
            limit = getattr(goal, side)
            if limit is None:
                continue
            shown = metric.of(engine)
            if side == "max_drop" and shown is not None:
                reference = metric.of_answers(student) if metric.of_answers else None
                shown = None if reference is None else reference - shown
            verdict = _verdict(metric, side, limit, shown, scoped)
            verdict.disturbed = disturbed and metric.moved_by_load and shown is not None
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
    if not ran:
        return _none_ran(target, engines)
    asked = "" if select == FASTEST else select
    if select not in (FASTEST, PREFER_INT8):
        ran = [e for e in ran if e.precision == select]
        if not ran:
            reason = Reason(code="no_such_precision", select=select)
            return Shipping(target=target, engine=None, state="failed", reason=reason)
    if all(is_guess(e.standing) for e in ran):
        reason = Reason(code="guess", about=ran[0].id)
        return Shipping(target=target, engine=None, state="no_better_than_guessing", reason=reason)
    good = [e for e in ran if e.within_budget and _sound(e) and not is_guess(e.standing)]
    if not good and any(e.within_budget and not is_guess(e.standing) for e in ran):
        return Shipping(target=target, engine=None, state="failed", reason=Reason(code="unsound"))
    if not good:
        by_time = any(j.disturbed and j.verdict == "miss" for e in ran for j in e.budgets)
        reason = Reason(code="misses", about=_closest(ran).id)
        return Shipping(target=target, engine=None, state="budget_missed", reason=reason, disturbed=by_time)
    preferred = [e for e in good if e.precision == "int8"] if select == PREFER_INT8 else []
    best = _fastest(preferred or good)
    by_time = disturbed and (len(preferred or good) > 1 or any(j.disturbed for e in ran for j in e.budgets))
    rivals = [_rival(other, times(other, best)) for other in good if other is not best]
    reason = Reason(code="fastest", select=asked, rivals=rivals)
    return Shipping(target=target, engine=best.id, state="ship", reason=reason, disturbed=by_time)


def _none_ran(target: str, engines: Sequence[Engine]) -> Shipping:
    built = [e for e in engines if e.state == "built"]
    if built and all(any(j.verdict == "miss" for j in e.budgets) for e in built):
        # Size is known, and so is accuracy, from the ONNX file: what misses now will miss on the device too.
        reason = Reason(code="misses_unrun", about=_closest(built).id)
        return Shipping(target=target, engine=None, state="budget_missed", reason=reason)
    failed = any(e.state == "failed" for e in engines)
    reason = Reason(code="built_only" if built else "no_engine")
    return Shipping(target=target, engine=None, state="failed" if failed else "not_run", reason=reason)


def _closest(engines: Sequence[Engine]) -> Engine:
    return min(engines, key=lambda e: sum(j.verdict == "miss" for j in e.budgets))


def _rival(engine: Engine, found: Ratio | None) -> Rival:
    return Rival(id=engine.id, median=_median(engine), times=found, tie=is_tie(found))


def fastest_rival(engine: Engine, others: Sequence[Engine]) -> Rival | None:
    """The fastest of `others`, and how many times as long `engine` takes as it; None if there is none."""
    if not others:
        return None
    fastest = min(others, key=lambda e: e.latency[0].median)
    return _rival(fastest, times(engine, fastest))


def is_guess(standing: Standing | None) -> bool:
    """Whether always answering the most frequent class would be right as often; False where it is not known."""
    return standing is not None and "no_better_than_majority" in standing.findings


def run_verdict(
    engines: Sequence[Engine],
    shipping: Sequence[Shipping],
    student: Network,
    *,
    failures: Collection[str] = (),
    required: Collection[str] = (),
) -> RunVerdict:
    """What a whole run comes to; the worst of what can be said of it.

    Args:
        engines: of all targets, judged.
        shipping: the choice of each target.
        student: the network that the engines were made of.
        failures: steps that failed.
        required: targets without which the run is a failure.
    """
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


def scoped_misses(engines: Sequence[Engine]) -> list[tuple[Engine, Judged]]:
    """Missed goals that name the engine's precision or target: these are demands, not a filter."""
    return [
        (engine, judged)
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


def times(engine: Engine, other: Engine) -> Ratio | None:
    """How many times as long `engine` takes as `other`; None if one was not timed."""
    mine, theirs = _row(engine), _row(other)
    return None if mine is None or theirs is None else ratios.times(mine, theirs)


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


def _verdict(metric: Metric, side: Side, limit: float, value: float | None, scoped: bool) -> Judged:
    margin = None if value is None else (value - limit if side == "min" else limit - value)
    verdict: Verdict = "not_judged" if margin is None else ("pass" if margin >= 0 else "miss")
    return Judged(
        metric=metric.name, goal=side, limit=limit, value=value, verdict=verdict, margin=margin, scoped=scoped
    )
