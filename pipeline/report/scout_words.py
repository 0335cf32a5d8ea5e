"""A scouting in words: what fits the budgets, what could not be measured, and how sure the figures are."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.metrics import METRICS
from pipeline.config.schema import Budgets
from pipeline.report import numbers
from pipeline.report.worry import Tone
from pipeline.results.rows.scouted import Candidate, ScoutDocument, ScoutRow
from pipeline.results.scouted import Held, candidates_that_fit, held_against

_NAMED = 6
_FEW_SAMPLES = 1000
VERDICTS: dict[str, tuple[Tone, str]] = {
    "fits": ("pass", "fits"), "close": ("miss", "close"), "misses": ("fail", "misses"), "unknown": ("off", "open"),
    "none": ("off", "no budget"),
}  # fmt: skip


def by_target(rows: Sequence[ScoutRow]) -> dict[str, list[ScoutRow]]:
    """The rows that were timed, the fastest first, by target; targets without any are left out."""
    found: dict[str, list[ScoutRow]] = {}
    for row in rows:
        if row.timed:
            found.setdefault(row.target, []).append(row)
    return {name: sorted(each, key=lambda row: row.p50_ms or 0.0) for name, each in found.items()}


def verdict(row: ScoutRow, budgets: Budgets) -> str:
    """The worst of a row's verdicts, a key of `VERDICTS`."""
    found = {held.verdict for held in held_against(row, budgets)}
    return next((each for each in ("misses", "unknown", "close", "fits") if each in found), "none")


def budgets_line(row: ScoutRow, budgets: Budgets) -> str:
    """The goals that a row misses or is close to, in few words; else the verdict."""
    telling = [held for held in held_against(row, budgets) if held.verdict in ("misses", "close", "unknown")]
    return "; ".join(map(held_words, telling)) or VERDICTS[verdict(row, budgets)][1]


def held_words(held: Held) -> str:
    """`p99 2.1 > 2 ms`."""
    metric = METRICS[held.metric]
    name = metric.short or metric.words
    limit = f"{held.limit:g} {metric.unit}"
    if held.value is None:
        known = "surely misses" if held.verdict == "misses" else "not measured, goal"
        return f"{name} {known} {limit}"
    value = numbers.fixed(held.value, metric.digits)
    if held.verdict == "close":
        return f"{name} {value}, but {limit} is within its interval"
    sign = ">" if held.side == "max" else "<"
    return f"{name} {value} {sign} {limit}"


def engine(row: ScoutRow) -> str:
    """`int8`, `fp16-SM86`."""
    return "-".join(filter(None, (row.precision, row.compute_capability)))


def times(row: ScoutRow) -> str:
    """Median with its 95 % interval, without the unit: `1.203 (1.19 to 1.22)`."""
    if row.p50_interval is None:
        return numbers.ms(row.p50_ms)
    low, high = (numbers.ms(end) for end in row.p50_interval)
    return f"{numbers.ms(row.p50_ms)} ({low} to {high})"


def reasons(rows: Sequence[ScoutRow]) -> list[tuple[str, str, str]]:
    """Why rows have no times: who, the reason, the fix; each reason once."""
    found: dict[tuple[str, str], list[ScoutRow]] = {}
    for row in rows:
        if not row.timed:
            found.setdefault((row.reason, row.fix), []).append(row)
    return [(_who(members, rows), reason, fix) for (reason, fix), members in found.items()]


def _who(members: Sequence[ScoutRow], rows: Sequence[ScoutRow]) -> str:
    names = list(dict.fromkeys(row.candidate.id for row in members))
    targets = list(dict.fromkeys(row.target for row in members))
    engines = list(dict.fromkeys(engine(row) for row in members))
    where = f" on {', '.join(targets)}"
    every = {engine(row) for row in rows if row.target in targets}
    what = "" if set(engines) >= every else f", {', '.join(engines)}"
    return f"{named(names)}{what}{where}"


def named(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def headline(document: ScoutDocument, budgets: Budgets) -> str:
    """How many candidates fit, in one sentence."""
    candidates = list(dict.fromkeys(row.candidate for row in document.rows))
    targets = list(by_target(document.rows))
    if not targets:
        return f"None of {_many(candidates)} could be timed."
    if not any(held_against(row, budgets) for row in document.rows):
        timed = {row.candidate for row in document.rows if row.timed}
        return f"{len(timed)} of {_many(candidates)} timed; the config sets no budget that they could be held against."
    left = candidates_that_fit(document.rows, budgets)
    where = "on every target" if len(targets) > 1 else f"on {targets[0]}"
    if not left:
        return f"None of {_many(candidates)} fits the budgets {where}."
    return f"{len(left)} of {_many(candidates)} {'fits' if len(left) == 1 else 'fit'} the budgets {where}."


def _many(candidates: Sequence[Candidate]) -> str:
    return f"{len(candidates)} candidate{'s' * (len(candidates) != 1)}"


def cautions(document: ScoutDocument) -> list[str]:
    """What makes the figures less sure, and what they leave out."""
    found = []
    timed = [row for row in document.rows if row.timed]
    if disturbed := sum(row.disturbed for row in timed):
        found.append(
            f"{disturbed} of {len(timed)} engines were timed while others were at work on the machine: their times are "
            "less sure than the intervals say."
        )
    if few := sum(row.n < _FEW_SAMPLES for row in timed):
        found.append(f"{few} of {len(timed)} engines have fewer than {_FEW_SAMPLES:,} samples, and no p99.")
    if any(row.precision == "int8" for row in timed):
        found.append(
            "INT8 is of all layers; a run may leave some of a trained network in floating point, where INT8 costs too "
            "much accuracy, which takes longer."
        )
    if any(row.calibration == "synthetic" for row in timed):
        found.append("INT8 ranges come from noise, which changes no latency.")
    return found
