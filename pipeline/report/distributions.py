"""Distributions of latencies, one above the other, as a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure

from export.terminal import one_line
from pipeline.report import engine_words, latency_words, numbers
from pipeline.report.svg import INK, PRECISION, Chart, draw_svg, side_by_side, time_axis
from pipeline.results.latency import BenchmarkRow, Latency
from pipeline.results.result import Result

# Characters of a label beside its figures.
_LABEL = 24


@dataclass(frozen=True)
class Ridge:
    """One distribution of a chart."""

    id: str
    label: str
    colour: str
    """A stand-in of `svg` for a colour of the page."""
    row: Latency


def latency_distributions(result: Result) -> Chart | None:
    """Histograms of the engines that ran, one above the other on one time axis."""
    timed = latency_words.timed(result.engines)
    several = len({engine.target for engine, _ in timed}) > 1
    ridges = [
        Ridge(e.id, e.id if several else engine_words.short_id(e), PRECISION.get(e.precision, INK), row)
        for e, row in timed
    ]
    return distributions("distributions", ridges, "Boundary engine")


def row_distributions(
    name: str,
    rows: Sequence[BenchmarkRow],
    labels: Mapping[str, str],
    colours: Mapping[str, str],
    boundary: str,
) -> Chart | None:
    """Histograms of rows of one boundary, batch and load.

    Args:
        name: of the drawing, unlike that of any other on the page.
        rows: in their order from top to bottom.
        labels: by the rows' ids.
        colours: the same, keys of `svg.PRECISION`.
        boundary: for the caption.
    """
    ridges = [Ridge(row.id, labels[row.id], PRECISION[colours[row.id]], row) for row in rows]
    return distributions(name, ridges, boundary)


def distributions(name: str, ridges: Sequence[Ridge], boundary: str) -> Chart | None:
    """The chart; None where no distribution is known."""
    shown = [ridge for ridge in ridges if len(ridge.row.histogram) > 1]
    if not shown:
        return None
    rows = [ridge.row for ridge in shown]
    batches = ", ".join(str(b) for b in sorted({row.batch for row in rows}))
    title = "Latency distributions: " + "; ".join(
        f"{r.id} median {numbers.ms(r.row.median)} ms, p99 {numbers.ms(r.row.p99)} ms" for r in shown
    )
    log = _wide(rows)
    samples = latency_words.n_range(rows)
    caption = (
        f"Samples up to the 99th percentile, each scaled to its own peak{'; log axis' if log else ''}. "
        f"Line: median; triangle: p99. {boundary}, batch {batches}, "
        f"{samples} samples an engine."
    )
    height = side_by_side(len(shown))

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.04, 48 / height, 0.92, 1 - 58 / height))
        _ridges(axes, shown, log)

    return Chart(draw_svg(name, height, title, draw), title, caption)


def _ridges(axes: Any, shown: Sequence[Ridge], log: bool) -> None:
    low, high = _range([ridge.row for ridge in shown])
    if log:
        axes.set_xscale("log")
        low, high = low / 1.1, high * 1.1
    else:
        low, high = max(0.0, low - 0.06 * (high - low)), high + 0.06 * (high - low)
    axes.set_xlim(low, high)
    time_axis(axes, low, high, log)
    rows = len(shown)
    for index, ridge in enumerate(shown):
        row = ridge.row
        base = float(rows - 1 - index)
        colour = ridge.colour
        edges = [min(row.min, row.histogram[0][0]), *(edge for edge, _ in row.histogram)]
        # Bins need not be equally wide: what is drawn is counts over widths, as wide as the axis shows them.
        widths = [math.log(b / a) if log else b - a for a, b in pairwise(edges)]
        dense = [c / w if w > 0 else 0.0 for (_, c), w in zip(row.histogram, widths, strict=True)]
        peak = max(dense) or 1.0
        axes.stairs(
            [base + 0.58 * d / peak for d in dense],
            edges,
            baseline=base,
            fill=True,
            color=colour,
            alpha=0.28,
            linewidth=0,
        )
        axes.stairs(
            [base + 0.58 * d / peak for d in dense], edges, baseline=base, color=colour, linewidth=1.1
        )
        axes.plot([row.median] * 2, [base, base + 0.58], color=colour, linewidth=1.6)
        axes.text(
            0.0,
            base + 0.66,
            _short(one_line(ridge.label)),
            transform=axes.get_yaxis_transform(),
            color=colour,
            fontweight="bold",
            va="bottom",
        )
        tail = "" if row.p99 is None else f" · p99 {numbers.ms(row.p99)}"
        axes.text(
            1.0,
            base + 0.66,
            f"median {numbers.ms(row.median)}{tail} ms",
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            fontsize=10,
        )
        if row.p99 is not None:
            axes.plot([row.p99], [base + 0.07], color=colour, marker="v", markersize=5, markeredgewidth=0)
    axes.set_ylim(-0.05, rows)
    axes.set_yticks(range(rows))
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.grid(axis="x", visible=False)


def _range(rows: Sequence[Latency]) -> tuple[float, float]:
    return min(r.min for r in rows), max(max(r.histogram[-1][0], r.p99 or 0.0) for r in rows)


def _wide(rows: Sequence[Latency]) -> bool:
    low, high = _range(rows)
    return low > 0 and high / low > 6


def _short(label: str) -> str:
    """As much of both ends as leaves room for the figures on the same line."""
    if len(label) <= _LABEL:
        return label
    return f"{label[: _LABEL // 2 - 1]}…{label[-(_LABEL // 2) :]}"
