"""Accuracy against latency, as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.ticker
from matplotlib.figure import Figure

from export.terminal import one_line
from pipeline.report import engine_words, latency_words, numbers
from pipeline.report.svg import INK, PAPER, PRECISION, STUDENT, Chart, draw_svg, side_by_side, time_axis
from pipeline.results.engine import Engine
from pipeline.results.latency import Latency
from pipeline.results.result import Result

MARKERS = {"fp32": "o", "fp16": "s", "bf16": "^", "int8": "D"}
# Left, bottom, right, top in pixels.
Box = tuple[float, float, float, float]


def accuracy_against_latency(result: Result) -> Chart | None:
    """Top-1 over median latency of the engines that ran, at boundary `engine` and the first batch size."""
    points = [(e, row, e.accuracy) for e, row in latency_words.timed(result.engines)]
    shown = [(e, row, accuracy.top1) for e, row, accuracy in points if accuracy is not None]
    if not shown:
        return None
    batches = ", ".join(str(b) for b in sorted({row.batch for _, row, _ in shown}))
    n = max(a.n for _, _, a in points if a is not None)
    title = "Accuracy against latency of the engines that ran: " + "; ".join(
        f"{e.id} {numbers.percent(top1)} % at {numbers.ms(row.median)} ms" for e, row, top1 in shown
    )
    samples = latency_words.n_range([row for _, row, _ in shown])
    caption = (
        "Up and to the left is better. Marker: median; whisker: to the p99. Boundary engine, "
        f"batch {batches}, {samples} samples an engine; top-1 of n = {numbers.count(n)} test images."
    )
    height = side_by_side(len(shown))

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.165, 48 / height, 0.805, 1 - 57 / height))
        _scatter(axes, shown, result.student.test.top1, several=len({e.target for e, _, _ in shown}) > 1)

    return Chart(draw_svg("scatter", height, title, draw), title, caption)


def _scatter(
    axes: Any, shown: Sequence[tuple[Engine, Latency, float]], student: float, *, several: bool
) -> None:
    left = min(row.median for _, row, _ in shown)
    right = max(max(row.median, row.p99 or 0.0) for _, row, _ in shown)
    log = right / left > 8
    if log:
        axes.set_xscale("log")
        low, high = left / 1.4, right * 1.8
    else:
        low, high = 0.0, right * 1.15
    axes.set_xlim(low, high)
    time_axis(axes, low, high, log)
    lowest, highest = min([t for *_, t in shown] + [student]), max([t for *_, t in shown] + [student])
    # A narrow range would turn one image in a thousand into a cliff.
    span = max(2.0, (highest - lowest) * 1.5)
    middle = (lowest + highest) / 2
    axes.set_ylim(max(-1.0, middle - span / 2), min(101.0, middle + span / 2))
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_ylabel("test top-1, %", labelpad=8)
    axes.axhline(student, color=STUDENT, linewidth=1, dashes=(4, 3))
    figure = axes.figure
    centres = [axes.transData.transform((row.median, top1)) for _, row, top1 in shown]
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    for (_, row, top1), (x, y) in zip(shown, centres, strict=True):
        if row.p99 is not None:
            taken.append((x, y - 3, axes.transData.transform((row.p99, top1))[0], y + 3))
    taken.append(label_line(axes, f"student in torch {student:.2f}", student, taken))
    for (engine, row, top1), (x, y) in zip(shown, centres, strict=True):
        colour = PRECISION.get(engine.precision, INK)
        if row.p99 is not None:
            axes.plot([row.median, row.p99], [top1, top1], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([row.p99], [top1], color=colour, marker="|", markersize=8, markeredgewidth=1.6)
        axes.plot(
            [row.median],
            [top1],
            color=colour,
            marker=MARKERS.get(engine.precision, "o"),
            markersize=8,
            markeredgecolor=PAPER,
            markeredgewidth=1.2,
            zorder=3,
        )
        text = one_line(engine.id if several else engine_words.short_id(engine))
        place, align = free_place((x, y), 6.6 * len(text), taken, axes.bbox)
        taken.append(place)
        beside = x - 2 if align == "left" else x + 2
        far = place[1] - y if place[1] > y else y - place[3]
        if far > 20:
            end = place[1] if place[1] > y else place[3]
            axes.plot(
                [beside, beside], [y, end], transform=None, color=colour, linewidth=0.7, alpha=0.6, zorder=1
            )
        figure.text(
            beside / figure.bbox.width,
            place[1] / figure.bbox.height,
            text,
            ha=align,
            va="bottom",
            color=colour,
            fontweight="bold",
        )


def label_line(axes: Any, text: str, y: float, taken: Sequence[Box]) -> Box:
    """Write on a horizontal line, at the end and side where the least is in the way; returns where."""
    frame, at = axes.bbox, axes.transData.transform((axes.get_xlim()[0], y))[1]
    width = 5.6 * len(text)
    places = [
        (x0, y0, x0 + width, y0 + 12)
        for y0 in (at + 3, at - 15)
        for x0 in (frame.x0 + 4, frame.x1 - width)
        if y0 > frame.y0
    ]
    place = min(places, key=lambda p: sum(overlap(p, other) for other in taken))
    figure = axes.figure
    figure.text(
        place[0] / figure.bbox.width,
        place[1] / figure.bbox.height,
        text,
        va="bottom",
        color=STUDENT,
        fontsize=10,
    )
    return place


def free_place(at: tuple[float, float], width: float, taken: Sequence[Box], frame: Any) -> tuple[Box, str]:
    """Where to write a label near a point: the closest place above or below that is free."""
    x, y = at
    first: tuple[Box, str] | None = None
    for step in range(14):
        for dy in (-20 - 13 * step, 9 + 13 * step):
            for align, x0 in (("left", x - 2), ("right", x + 2 - width)):
                place = (x0, y + dy, x0 + width, y + dy + 12)
                inside = place[0] >= frame.x0 and place[2] <= frame.x1 + 4
                inside = inside and place[1] >= frame.y0 and place[3] <= frame.y1
                first = first or ((place, align) if inside else None)
                if inside and not any(overlap(place, other) for other in taken):
                    return place, align
    return first or ((x - 2, y - 20, x - 2 + width, y - 8), "left")


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share an area."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
