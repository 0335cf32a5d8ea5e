"""What ships and why, in words."""

from __future__ import annotations

from pipeline.report import engine_words, goal_words, numbers
from pipeline.results.budgets import scoped_misses
from pipeline.results.choice import Reason, Rival, Shipping
from pipeline.results.engine import Engine
from pipeline.results.result import Result

_PREFER_INT8 = "prefer_int8"


def why(result: Result, shipping: Shipping) -> str:
    """Why this engine ships for a target, or none does."""
    reason = shipping.reason
    about = next((e for e in result.engines if e.id == reason.about), None)
    rows = [e for e in result.engines if e.target == shipping.target]
    if reason.code == "fastest":
        best = next((e for e in rows if e.id == shipping.engine), None)
        return _fastest(reason, best) if best else ""
    if reason.code in ("misses", "misses_unrun") and about:
        misses = [
            j for j in about.budgets if j.verdict == "miss" or (j.verdict != "pass" and about.state == "ran")
        ]
        head = (
            "no engine meets every budget"
            if reason.code == "misses"
            else "no engine ran here, and each misses a budget already"
        )
        return f"{head}; closest is {about.id}: {'; '.join(map(goal_words.miss, misses))}"
    if reason.code == "built_only":
        built = sum(e.state == "built" for e in rows)
        return f"built {built} engine{'s'[: built > 1]}, which cannot run here"
    if reason.code == "no_engine":
        return rows[0].detail if rows else "no engine"
    if reason.code == "no_such_precision":
        return f"precision.select: {reason.select}, and no such engine of this target ran"
    if reason.code == "guess" and about:
        return _guess(about)
    if reason.code == "unsound":
        return "engines within budget give outputs that are not finite, or differ for the same image"
    if reason.code == "step_failed":
        return str(result.failures.get(reason.about, {}).get("what", ""))
    return reason.text


def summary(result: Result) -> str:
    """What ships, or why not, of every target in one line."""
    parts = []
    for choice in result.shipping:
        engine = next((e for e in result.engines if e.id == choice.engine), None)
        if engine is None:
            parts.append(f"{choice.target}: {why(result, choice)}")
            continue
        parts.append(_shipped(engine, result.student.test.top1))
    parts += [f"{engine.id}: {goal_words.miss(judged)}" for engine, judged in scoped_misses(result.engines)]
    return "; ".join(parts) or f"student top-1 {result.student.test.top1:.1f} %"


def _shipped(engine: Engine, student: float) -> str:
    found = [f"{'ship' if engine.has_goal else 'best so far'} {engine.id}:"]
    figures = [f"top-1 {engine.accuracy.top1:.1f} % (student {student:.1f} %)"] if engine.accuracy else []
    if row := engine.latency_at() or next(iter(engine.latency), None):
        figures.append(f"{row.median:.3f} ms median at batch {row.batch}")
    figures += [f"{engine.engine_mb:.2f} MB"] if engine.engine_mb is not None else []
    return " ".join([*found, ", ".join(figures)])


def _fastest(reason: Reason, best: Engine) -> str:
    asked = f"precision.select: {reason.select}; " if reason.select else ""
    if reason.select == _PREFER_INT8 and best.precision != "int8":
        asked = "no INT8 engine is within budget; "
    ties = [_rival(r, best) for r in reason.rivals if r.tie]
    slower = [_rival(r, best) for r in reason.rivals if not r.tie and r.times and r.times.ratio > 1]
    faster = [_rival(r, best) for r in reason.rivals if not r.tie and not (r.times and r.times.ratio > 1)]
    many = len(reason.rivals) + 1
    head = f"one of {many} within budget" if faster else f"fastest of {many} within budget"
    row = best.latency_at() or next(iter(best.latency), None)
    parts = [f"{asked}{head}: median {row.median:.3f} ms" if row else f"{asked}{head}"]
    parts += [f"a tie with {' and '.join(ties)}, and the smallest file of these"] if ties else []
    parts += [f"slower: {'; '.join(slower)}"] if slower else []
    parts += [f"faster: {'; '.join(faster)}"] if faster else []
    return "; ".join(parts)


def _rival(rival: Rival, best: Engine) -> str:
    text = f"{rival.id.removeprefix(f'{best.target}/')} {rival.median:.3f} ms"
    return f"{text}, {numbers.ratio(rival.times)}" if rival.times and rival.times.n > 1 else text


def _guess(engine: Engine) -> str:
    found = engine.standing
    if found is None:
        return f"{engine_words.short_id(engine)} is no better than guessing"
    return (
        f"{engine.id} is right on {numbers.percent(found.top1.percent)} % of {numbers.count(found.n)} test images; "
        f"always answering {found.majority_class} would be on {numbers.percent(found.majority.percent)} %"
    )
