"""Latency of candidates against their parameters and their size, with the budgets as lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.ticker
from matplotlib.figure import Figure

from export.terminal import one_line
from pipeline.config.schema import Budgets
from pipeline.report import numbers
from pipeline.report.scatter import MARKERS, Box, free_place, overlap
from pipeline.report.svg import INK, LIMIT, PAPER, PRECISION, Chart, draw_svg, time_axis
from pipeline.results.rows.scouted import Candidate, ScoutRow

_HEIGHT = 360.0
_MOST_LABELS = 12
_LONGEST_NAME = 20
_GOALS = {"latency_p50_ms": "median", "latency_p99_ms": "p99"}


def latency_against(
    name: str, rows: Sequence[ScoutRow], budgets: Budgets, *, size: bool = False
) -> Chart | None:
    """One target's candidates: median latency, whisker to the p99, against parameters or engine size.

    Args:
        name: of the drawing, unlike that of any other on the page.
        rows: of one target; those without times are left out.
        budgets: of the config; what concerns latency and, where `size`, engine size is drawn.
        size: of the engine file instead of the parameters.
    """

    def height(row: ScoutRow) -> float | None:
        value = row.engine_bytes if size else row.parameters
        return value / 1e6 if value else None

    shown = [(row, value) for row in rows if row.timed and (value := height(row)) is not None]
    if not shown:
        return None
    what = "engine size, MB" if size else "parameters, millions"
    title = f"Latency against {what}: " + "; ".join(
        f"{row.candidate.id} {row.precision} {numbers.ms(row.p50_ms)} ms" for row, _ in shown[:_MOST_LABELS]
    )
    n = sorted({row.n for row, _ in shown})
    samples = numbers.count(n[0]) if len(n) == 1 else f"{numbers.count(n[0])} to {numbers.count(n[-1])}"
    lines = _limits(budgets, shown[0][0].target)
    dashed = "".join(f" Dashed: {label} ≤ {limit:g} ms." for label, limit in lines)
    caption = (
        "Left is faster. Marker: median, its shape and colour the precision; whisker: to the p99. Boundary engine, "
        f"batch {shown[0][0].batch}, {samples} samples an engine, random weights; both axes logarithmic.{dashed}"
    )

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.165, 48 / _HEIGHT, 0.805, 1 - 57 / _HEIGHT))
        _scatter(axes, shown, what, lines, _size_limit(budgets, shown[0][0].target) if size else None)

    return Chart(draw_svg(name, _HEIGHT, title, draw), title, caption)


def _limits(budgets: Budgets, target: str) -> list[tuple[str, float]]:
    found = []
    for key, label in _GOALS.items():
        goal = getattr(budgets, key)
        if goal is not None and goal.max is not None and (goal.target is None or target in goal.target):
            found.append((label, float(goal.max)))
    return found


def _size_limit(budgets: Budgets, target: str) -> float | None:
    goal = getattr(budgets, "engine_mb", None)
    return goal.max if goal is not None and (goal.target is None or target in goal.target) else None


def _scatter(
    axes: Any,
    shown: Sequence[tuple[ScoutRow, float]],
    what: str,
    lines: Sequence[tuple[str, float]],
    highest: float | None,
) -> None:
    p50: Callable[[ScoutRow], float] = lambda row: row.p50_ms or 0.0  # noqa: E731
    left = min(*(p50(row) for row, _ in shown), *(limit for _, limit in lines), float("inf"))
    right = max(*(max(p50(row), row.p99_ms or 0.0) for row, _ in shown), *(limit for _, limit in lines), 0.0)
    low, high = left / 1.4, right * 1.8
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    time_axis(axes, low, high, log=True)
    bottom, top = min(value for _, value in shown), max(value for _, value in shown)
    axes.set_yscale("log")
    axes.set_ylim(bottom / 2, max(top, highest or 0.0) * 2.5)
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(10, subs=(1, 2, 5), numticks=8))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_ylabel(what, labelpad=8)
    for _, limit in lines:
        axes.axvline(limit, color=LIMIT, linewidth=1.2, dashes=(4, 3))
    if highest is not None:
        axes.axhline(highest, color=LIMIT, linewidth=1.2, dashes=(4, 3))
    centres = [axes.transData.transform((p50(row), value)) for row, value in shown]
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in centres]
    for (row, value), (x, y) in zip(shown, centres, strict=True):
        colour = PRECISION.get(row.precision, INK)
        if row.p99_ms is not None:
            axes.plot([p50(row), row.p99_ms], [value, value], color=colour, linewidth=1.2, alpha=0.5)
            taken.append((x, y - 2, axes.transData.transform((row.p99_ms, value))[0], y + 2))
        axes.plot(
            [p50(row)], [value], color=colour, marker=MARKERS.get(row.precision, "o"), markersize=7,
            markeredgecolor=PAPER, markeredgewidth=1.0, zorder=3,
        )  # fmt: skip
    _labels(axes, shown, centres, taken)


def _labels(
    axes: Any,
    shown: Sequence[tuple[ScoutRow, float]],
    centres: Sequence[tuple[float, float]],
    taken: list[Box],
) -> None:
    """The name of each candidate at its fastest engine, of the fastest candidates, as far as there is room."""
    named: set[str] = set()
    figure = axes.figure
    for (row, _), (x, y) in sorted(
        zip(shown, centres, strict=True), key=lambda each: each[0][0].p50_ms or 0.0
    ):
        if row.candidate.id in named or len(named) == _MOST_LABELS:
            continue
        named.add(row.candidate.id)
        text = _short(row.candidate)
        place, align = free_place((x, y), 6.5 * len(text), taken, axes.bbox)
        if any(overlap(place, other) for other in taken):
            continue  # there is no room; the table has every name
        taken.append(place)
        beside = x - 2 if align == "left" else x + 2
        figure.text(
            beside / figure.bbox.width, place[1] / figure.bbox.height, text, ha=align, va="bottom", color=INK,
            fontsize=9.5,
        )  # fmt: skip


def _short(candidate: Candidate) -> str:
    """The network without its library, cut where it is long, and the image size."""
    name = one_line(candidate.model.partition("/")[2] or candidate.model)
    cut = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return f"{cut}@{candidate.image_size}"
