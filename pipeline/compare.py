"""Latency side by side, and now against an earlier result: like with like, and noise is no regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from pipeline.errors import ConfigError
from pipeline.result import BenchmarkDocument, BenchmarkRow, Latency, Result

Judgement = Literal["regression", "slower", "faster", "noise"]
Key = tuple[str, int, str, int, float | None]


@dataclass(frozen=True)
class Change:
    """One row against its row in the baseline; percent, positive is slower."""

    row: BenchmarkRow
    before: BenchmarkRow
    percent: float
    interval: tuple[float, float] | None
    """What both medians' 95 % intervals leave possible; None if one of them has none."""
    judgement: Judgement

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        row = self.row
        return {
            "id": row.id, "baseline_id": self.before.id, "batch": row.batch, "boundary": row.boundary,
            "streams": row.streams, "rate_fps": row.rate_fps, "n": row.n,
            "baseline_median_ms": self.before.median, "median_ms": row.median,
            "change_percent": self.percent, "change_interval_percent": self.interval,
            "judgement": self.judgement,
        }  # fmt: skip


def rows_of(result: Result) -> list[BenchmarkRow]:
    """The latency rows of a result, each with its engine's id."""
    return [
        BenchmarkRow(id=engine.id, **row.model_dump(exclude={"histogram"}))
        for engine in result.engines
        for row in engine.latency
    ]


def rows_from(statistics: Sequence[Mapping[str, Any]]) -> list[BenchmarkRow]:
    """Rows of `latency.measure_engines`."""
    known = {"id", *Latency.model_fields}
    return [BenchmarkRow.model_validate({k: v for k, v in row.items() if k in known}) for row in statistics]


def read_baseline(path: Path) -> BenchmarkDocument:
    """An earlier `result.json`, or what `benchmark --output` or `--json` wrote.

    Raises:
        ConfigError: the file is missing, or is neither.
    """
    where = f"--baseline {path}"
    fix = "give a result.json of a run, or what `figkd-pipeline benchmark --output FILE` wrote"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigError("no such file", where=where, fix=fix) from None
    errors = []
    try:
        result = Result.model_validate_json(text)
        return BenchmarkDocument(
            created=result.created, latency=rows_of(result), machine=result.machine, packages=result.packages
        )
    except ValidationError as error:
        errors.append(error)
    try:
        return BenchmarkDocument.model_validate_json(text)
    except ValidationError as error:
        errors.append(error)
    # The message of what it comes closest to.
    first = min(errors, key=lambda error: error.error_count()).errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    raise ConfigError(
        f"neither a result.json nor a benchmark of this version ({f'{place}: ' if place else ''}{first['msg']})",
        where=where,
        fix=fix,
    )


def against(
    rows: Sequence[BenchmarkRow], before: Sequence[BenchmarkRow], limit: float | None = None
) -> list[Change]:
    """Compare every row with the baseline's row of the same engine, batch, boundary, streams and rate.

    An engine is found by its id; a file that lies elsewhere now by its name, where that is unique.

    Args:
        rows: now.
        before: the baseline.
        limit: percent that a median may be slower. Beyond it, and outside the noise, it is a regression.
    """
    names = _names([row.id for row in rows], [row.id for row in before])
    known = {_key(row, row.id): row for row in before}
    found = []
    for row in rows:
        old = known.get(_key(row, names.get(row.id, row.id)))
        if old is not None:
            found.append(_change(row, old, limit))
    return found


def _key(row: BenchmarkRow, name: str) -> Key:
    return name, row.batch, row.boundary, row.streams, row.rate_fps


def _names(now: Sequence[str], before: Sequence[str]) -> dict[str, str]:
    """Ids now to ids in the baseline, for files of the same name in another folder."""
    found = {}
    for name in set(now) - set(before):
        same = {old for old in before if Path(old).name == Path(name).name}
        mine = {other for other in now if Path(other).name == Path(name).name}
        if len(same) == 1 and len(mine) == 1:
            found[name] = same.pop()
    return found


def _change(row: BenchmarkRow, old: BenchmarkRow, limit: float | None) -> Change:
    percent = 100 * (row.median / old.median - 1)
    mine, theirs = row.intervals.get("median"), old.intervals.get("median")
    if mine is None or theirs is None:
        # Nothing is known about the noise, so the difference itself has to do.
        judgement: Judgement = "slower" if percent > 0 else "faster" if percent < 0 else "noise"
        interval = None
    else:
        interval = (100 * (mine[0] / theirs[1] - 1), 100 * (mine[1] / theirs[0] - 1))
        judgement = "slower" if interval[0] > 0 else "faster" if interval[1] < 0 else "noise"
    if judgement == "slower" and limit is not None and percent > limit:
        judgement = "regression"
    return Change(row, old, percent, interval, judgement)


def remarks(changes: Sequence[Change], limit: float | None) -> list[str]:
    """What must be said about a comparison: each regression, and each change beyond the limit that is noise."""
    found = []
    for change in sorted(changes, key=lambda c: -c.percent):
        row = change.row
        streams = f", {row.streams} streams" if row.streams > 1 else ""
        what = f"{row.id} ({row.boundary}, batch {row.batch}{streams}) is {change.percent:.1f} % slower"
        span = (
            f"between {change.interval[0]:+.1f} and {change.interval[1]:+.1f} % with 95 % intervals"
            if change.interval
            else "no intervals to tell noise by"
        )
        if change.judgement == "regression":
            found.append(f"regression: {what} than the baseline; allowed {limit:g} % ({span})")
        elif limit is not None and change.percent > limit:
            found.append(
                f"inside the noise: {what} ({span}), so not counted as a regression; "
                "measure for longer, or on a quiet machine"
            )
    return found


def other_machine(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Says so if the baseline comes from another CPU or GPU; empty otherwise, and where it is not known."""

    def of(machine: Mapping[str, Any]) -> tuple[Any, Any]:
        facts = machine.get("before", machine)
        if not isinstance(facts.get("cpu"), Mapping):
            return None, None
        return facts["cpu"].get("model"), [gpu.get("name") for gpu in facts.get("gpus", [])]

    here, there = of(now), of(before)
    if None in (here[0], there[0]) or here == there:
        return ""
    return f"the baseline was measured on another machine ({there[0]}; here {here[0]})"


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


def print_rows(rows: Sequence[BenchmarkRow], changes: Sequence[Change]) -> None:
    """Print measured rows and a comparison as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    if rows:
        table = Table(
            "engine", "boundary", "batch", "n", "min", "median", "95 % interval", "p90", "p99", "images/s",
            "times the first", title="latency, ms",
        )  # fmt: skip
        firsts: dict[Key, BenchmarkRow] = {}
        for row in rows:
            first = firsts.setdefault(_key(row, ""), row)
            interval = row.intervals.get("median")
            table.add_row(
                row.id, _boundary(row), str(row.batch), str(row.n), f"{row.min:.3f}", f"{row.median:.3f}",
                f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "-", f"{row.p90:.3f}",
                "-" if row.p99 is None else f"{row.p99:.3f}", f"{row.throughput:.0f}",
                "" if row is first else _times(row, first),
            )  # fmt: skip
        console.print(table)
        shared = [text for text in rows[0].warnings if all(text in row.warnings for row in rows)]
        for text in shared:
            console.print(f"all: {text}", markup=False)
        for row in rows:
            if own := [text for text in row.warnings if text not in shared]:
                console.print(
                    f"{row.id}, {_boundary(row)}, batch {row.batch}: {'; '.join(own)}", markup=False
                )
    if changes:
        table = Table(
            "engine", "boundary", "batch", "n", "baseline ms", "now ms", "change", "95 % interval", "",
            title="against the baseline",
        )  # fmt: skip
        for change in changes:
            row, span = change.row, change.interval
            table.add_row(
                row.id, _boundary(row), str(row.batch), str(row.n), f"{change.before.median:.3f}",
                f"{row.median:.3f}", f"{change.percent:+.1f} %",
                f"{span[0]:+.1f} to {span[1]:+.1f} %" if span else "-",
                "inside the noise" if change.judgement == "noise" else change.judgement,
            )  # fmt: skip
        console.print(table)


def _boundary(row: Latency) -> str:
    extra = f", {row.streams} streams" if row.streams > 1 else ""
    if row.rate_fps:
        extra += f", {row.rate_fps:g} fps: {row.deadline_misses} late"
    return f"{row.boundary}{extra}"


def _times(row: Latency, first: Latency) -> str:
    """How many times the first row's median, round by round, with its interval."""
    if not (row.round_medians and first.round_medians):
        return f"{row.median / first.median:.2f}"
    from export.stats import ratio

    found = ratio(row.round_medians, first.round_medians)
    return f"{found['ratio']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
