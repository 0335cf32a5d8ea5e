"""Latencies side by side, and against a baseline, as they are printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from export.stats import ratio
from export.terminal import one_line
from pipeline.core.layout import Column, Grid, Prose
from pipeline.report import latency_words
from pipeline.results.compare import Change, Key, key
from pipeline.results.latency import BenchmarkRow, Latency


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
            else "no intervals to judge noise by"
        )
        if change.judgement == "undecided":
            when = "this measurement" if row.disturbed else "the baseline"
            found.append(
                f"undecided: {what} than the baseline; allowed {limit:g} % ({span}), but others used the CPU "
                f"during {when}, so not counted as a regression; measure again on a quiet machine"
            )
        elif change.judgement == "regression":
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
        cpu, gpus = (facts.get("cpu"), facts.get("gpus", [])) if isinstance(facts, Mapping) else (None, [])
        if not isinstance(cpu, Mapping) or not isinstance(gpus, list):
            return None, None
        return cpu.get("model"), [gpu.get("name") for gpu in gpus if isinstance(gpu, Mapping)]

    here, there = of(now), of(before)
    if None in (here[0], there[0]) or here == there:
        return ""
    return f"the baseline was measured on another machine ({there[0]}; here {here[0]})"


def tables(rows: Sequence[BenchmarkRow], changes: Sequence[Change]) -> RenderableType:
    """Measured rows and a comparison, as they are printed."""
    parts: list[RenderableType] = []
    if rows:
        parts += [_latency_table(rows), *_warnings(rows)]
    if changes:
        parts.append(_changes_table(changes))
    return Group(*parts)


def _latency_table(rows: Sequence[BenchmarkRow]) -> Grid:
    columns = [
        Column("engine"), Column("boundary"), Column("batch", right=True, said="batch {}"),
        Column("n", right=True, said="n = {}"), Column("min", right=True, said="min {} ms"),
        Column("median", right=True, said="median {} ms"), Column("95 % interval", said="95 % interval {} ms"),
        Column("p90", right=True, said="p90 {} ms"), Column("p99", right=True, said="p99 {} ms"),
        Column("images/s", right=True, said="{} images/s"), Column("times the first", said="{} times the first"),
    ]  # fmt: skip
    firsts: dict[Key, BenchmarkRow] = {}
    cells = []
    for row in rows:
        first = firsts.setdefault(key(row, ""), row)
        interval = row.intervals.get("median")
        cells.append([
            row.id, _boundary(row), str(row.batch), str(row.n), f"{row.min:.3f}", f"{row.median:.3f}",
            f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "-", f"{row.p90:.3f}",
            "-" if row.p99 is None else f"{row.p99:.3f}", f"{row.throughput:.0f}",
            "" if row is first else _times(row, first),
        ])  # fmt: skip
    return Grid(columns, cells, title="latency, ms")


def _warnings(rows: Sequence[BenchmarkRow]) -> Iterator[Prose]:
    said = [latency_words.cautions(row) for row in rows]
    shared = [text for text in said[0] if all(text in texts for texts in said)]
    for text in shared:
        yield Prose(Text(f"all: {text}"), hang=2)
    for row, texts in zip(rows, said, strict=True):
        if own := [text for text in texts if text not in shared]:
            what = f"{one_line(row.id)}, {_boundary(row)}, batch {row.batch}"
            yield Prose(Text(f"{what}: {'; '.join(own)}"), hang=2)


def _changes_table(changes: Sequence[Change]) -> Grid:
    columns = [
        Column("engine"), Column("boundary"), Column("batch", right=True, said="batch {}"),
        Column("n", right=True, said="n = {}"), Column("baseline ms", right=True, said="baseline {} ms"),
        Column("now ms", right=True, said="now {} ms"), Column("change", right=True, said="change {}"),
        Column("95 % interval", said="95 % interval {}"), Column("", said="{}"),
    ]  # fmt: skip
    cells = []
    for change in changes:
        row, span = change.row, change.interval
        cells.append([
            row.id, _boundary(row), str(row.batch), str(row.n), f"{change.before.median:.3f}",
            f"{row.median:.3f}", f"{change.percent:+.1f} %",
            f"{span[0]:+.1f} to {span[1]:+.1f} %" if span else "-",
            "inside the noise" if change.judgement == "noise" else change.judgement,
        ])  # fmt: skip
    return Grid(columns, cells, title="against the baseline")


def _boundary(row: Latency) -> str:
    extra = f", {row.streams} streams" if row.streams > 1 else ""
    if row.rate_fps:
        extra += f", {row.rate_fps:g} fps: {row.deadline_misses} late"
    extra += f" in {row.power_mode}" if row.power_mode else ""
    return f"{row.boundary}{extra}"


def _times(row: Latency, first: Latency) -> str:
    """How many times the first row's median, round by round, with its interval."""
    if not (row.round_medians and first.round_medians):
        return f"{row.median / first.median:.2f}"
    found = ratio(row.round_medians, first.round_medians)
    return f"{found['ratio']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
