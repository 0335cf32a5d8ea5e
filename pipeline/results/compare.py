"""Latency side by side, and now against an earlier result: like with like, and noise is no regression."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from export.stats import histogram, holm, slower_p
from pipeline.core.errors import ConfigError
from pipeline.core.files import read_json
from pipeline.results.doubts import load_of
from pipeline.results.evidence import Load
from pipeline.results.latency import BenchmarkDocument, BenchmarkRow, TimedEngine
from pipeline.results.result import Result
from pipeline.results.upgrade import upgraded, upgraded_benchmark

_EVEN_UNDER_LOAD = 2.0
"""A fastest sample so many times the baseline's median is a regression, whoever else was at work."""
Judgement = Literal["regression", "undecided", "slower", "faster", "noise"]
Key = tuple[str, int, str, int, float | None, str]


@dataclass(frozen=True)
class Change:
    """One row against its row in the baseline; percent, positive is slower."""

    row: BenchmarkRow
    before: BenchmarkRow
    percent: float
    interval: tuple[float, float] | None
    """What both medians' 95 % intervals leave possible; None if one of them has none."""
    judgement: Judgement
    p: float | None = None
    """How probable such rounds are if nothing changed; None where there are too few of them."""

    @property
    def disturbed(self) -> bool:
        """Others were at work while one of the two was timed."""
        return self.row.disturbed or self.before.disturbed

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        row = self.row
        return {
            "id": row.id, "baseline_id": self.before.id, "batch": row.batch, "boundary": row.boundary,
            "streams": row.streams, "rate_fps": row.rate_fps, "n": row.n,
            "baseline_median_ms": self.before.median, "median_ms": row.median,
            "change_percent": self.percent, "change_interval_percent": self.interval,
            "judgement": self.judgement, "p_value": self.p, "disturbed": self.disturbed,
        }  # fmt: skip


def rows_of(result: Result) -> list[BenchmarkRow]:
    """The latency rows of a result, each with its engine's id."""
    here = load_of(result.machine)
    loads = {e.target: result.loads.get(e.target) or (None if e.device else here) for e in result.engines}
    return [
        BenchmarkRow(
            id=engine.id,
            disturbed=(load := loads[engine.target]) is not None and load.disturbed,
            **row.model_dump(),
        )
        for engine in result.engines
        for row in engine.latency
    ]


def engines_of(result: Result) -> list[TimedEngine]:
    """The engines of a result that were timed."""
    return [
        TimedEngine(id=engine.id, backend=engine.backend, mb=engine.engine_mb, runtime=engine.runtime)
        for engine in result.engines
        if engine.latency
    ]


def rows_from(
    rows: Sequence[BenchmarkRow],
    load: Load | None = None,
    samples: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[BenchmarkRow]:
    """Rows of `latency.measure_engines`, who else was at work meanwhile, and the raw samples by name (ms)."""
    disturbed = load is not None and load.disturbed
    found = []
    for row in rows:
        shown = histogram(samples[row.samples]["latency"]) if samples and row.samples in samples else []
        found.append(row.model_copy(update={"disturbed": disturbed, "histogram": shown}))
    return found


def read_baseline(path: Path) -> BenchmarkDocument:
    """An earlier `result.json`, or what `benchmark --output` or `--json` wrote.

    Raises:
        ConfigError: the file is missing, or is neither.
    """
    where = f"--baseline {path}"
    fix = "give a result.json of a run, or what `figkd-pipeline benchmark --output FILE` wrote"
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise ConfigError("no such file", where=where, fix=fix) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", where=where, fix=fix) from error
    except ValueError as error:
        raise ConfigError(
            f"neither a result.json nor a benchmark of this version ({str(error)[:200]})",
            where=where,
            fix=fix,
        ) from error
    try:
        found = _document(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        what = f"{place[:80]}: " if place else ""
        raise ConfigError(
            f"neither a result.json nor a benchmark of this version ({what}{first['msg']})",
            where=where,
            fix=fix,
        ) from error
    if row := next((row for row in found.latency if not _can_be_compared(row)), None):
        raise ConfigError(f"a latency of {row.id[:80]!r} is no positive number", where=where, fix=fix)
    return found


def _document(values: Any) -> BenchmarkDocument:
    """Of a benchmark, or of a run's result; of earlier versions, too.

    Raises:
        ValidationError: it is neither.
    """
    if isinstance(values, dict) and "schema_version" in values:
        result = Result.model_validate(upgraded(values))
        return BenchmarkDocument(
            created=result.created, latency=rows_of(result), machine=result.machine, packages=result.packages,
            outputs=result.outputs or _names_in(result),
        )  # fmt: skip
    found = BenchmarkDocument.model_validate(upgraded_benchmark(values))
    if (load := load_of(found.machine)) and load.disturbed:  # one of an earlier version, too
        for timed in found.latency:
            timed.disturbed = True
    return found


def check_classes(now: Sequence[str], before: Sequence[str], where: str) -> None:
    """Refuse a baseline whose engines tell other classes apart; their order does not matter to latencies.

    Raises:
        ConfigError: both are known, and they differ.
    """
    from figkd.errors import LabelError
    from figkd.labels import mapping

    if not now or not before:
        return
    try:
        mapping(before, now, what="the baseline", of="this measurement")
    except LabelError as error:
        raise ConfigError(
            error.what,
            where=where,
            fix="compare with a result of the same classes, or measure that one again",
        ) from error


def _names_in(result: Result) -> list[str]:
    """Class names of a result that was written before it had `outputs`."""
    names = result.data.get("class_names")
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return list(names) if known and isinstance(names, list) else []


def _can_be_compared(row: BenchmarkRow) -> bool:
    times = (row.median, *(row.intervals.get("median") or ()), *row.round_medians)
    return all(0 < time < math.inf for time in times)


def against(
    rows: Sequence[BenchmarkRow], before: Sequence[BenchmarkRow], limit: float | None = None
) -> list[Change]:
    """Compare every row with the baseline's row of the same engine, batch, boundary, streams, rate and power mode.

    An engine is found by its id; a file that lies elsewhere now by its name, where that is unique.

    Args:
        rows: now.
        before: the baseline.
        limit: percent that a median may be slower. Beyond it, and outside the noise, it is a regression: outside its
            own interval, and by the ranks of its rounds, where every further row that is compared asks for more (Holm).
            Where others were at work during one of the two measurements it is undecided, unless even the fastest
            sample takes twice the baseline's median.
    """
    names = _names([row.id for row in rows], [row.id for row in before])
    known = {key(row, row.id): row for row in before}
    found = []
    for row in rows:
        old = known.get(key(row, names.get(row.id, row.id)))
        if old is not None:
            found.append(_change(row, old))
    if limit is None:
        return found
    tested = [change for change in found if change.p is not None]
    by_chance = {
        id(change)
        for change, sure in zip(tested, holm([c.p or 0.0 for c in tested]), strict=True)
        if not sure
    }
    return [_limited(change, limit, by_chance=id(change) in by_chance) for change in found]


def key(row: BenchmarkRow, name: str) -> Key:
    """What must be the same in two rows that are compared."""
    return name, row.batch, row.boundary, row.streams, row.rate_fps, row.power_mode


def _names(now: Sequence[str], before: Sequence[str]) -> dict[str, str]:
    """Ids now to ids in the baseline, for files of the same name in another folder."""
    found = {}
    for name in set(now) - set(before):
        same = {old for old in before if Path(old).name == Path(name).name}
        mine = {other for other in now if Path(other).name == Path(name).name}
        if len(same) == 1 and len(mine) == 1:
            found[name] = same.pop()
    return found


def _change(row: BenchmarkRow, old: BenchmarkRow) -> Change:
    percent = 100 * (row.median / old.median - 1)
    mine, theirs = row.intervals.get("median"), old.intervals.get("median")
    if mine is None or theirs is None:
        # Nothing is known about the noise, so the difference itself has to do.
        judgement: Judgement = "slower" if percent > 0 else "faster" if percent < 0 else "noise"
        interval = None
    else:
        interval = (100 * (mine[0] / theirs[1] - 1), 100 * (mine[1] / theirs[0] - 1))
        judgement = "slower" if interval[0] > 0 else "faster" if interval[1] < 0 else "noise"
    return Change(row, old, percent, interval, judgement, slower_p(row.round_medians, old.round_medians))


def _limited(change: Change, limit: float, *, by_chance: bool) -> Change:
    """A row that is slower than allowed, judged again; others as they are."""
    if change.judgement != "slower" or change.percent <= limit:
        return change
    # Load of others can slow every sample, by sharing a core, but hardly the fastest one more than twice.
    plain = change.row.min > _EVEN_UNDER_LOAD * change.before.median
    doubtful = change.disturbed and not plain
    judgement: Judgement = "noise" if by_chance else "undecided" if doubtful else "regression"
    return replace(change, judgement=judgement)


def parse_percent(text: str | None) -> float | None:
    """`5%` or `5` as 5.0."""
    if text is None:
        return None
    try:
        value = float(text.rstrip("% "))
    except ValueError:
        raise ConfigError(
            f"'{text}' is not a percentage", where="--max-regression", fix="for example 5%"
        ) from None
    if not value >= 0:
        raise ConfigError(f"'{text}' must not be negative", where="--max-regression")
    return value
