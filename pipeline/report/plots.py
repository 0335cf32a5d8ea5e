"""The report's charts as SVG to be inlined in the page.

Drawn with matplotlib's SVG back end, then freed of everything that ties a file to a moment, a machine or
a theme: colours become CSS variables, so that one drawing serves the light and the dark page; text stays
text in the page's font; ids are kept only where something refers to them. Equal results give equal bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

import matplotlib
import matplotlib.ticker
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from export.terminal import one_line
from pipeline.report import engine_words, latency_words, numbers
from pipeline.results.engine import Engine
from pipeline.results.latency import Latency
from pipeline.results.network import Network
from pipeline.results.result import Result

# Stand-ins that matplotlib draws with, and the CSS variables that replace them in the SVG.
_INK, _MUTED, _GRID, _LIMIT, _PAPER = "#010101", "#010102", "#010103", "#010104", "#010105"
_TEACHER, _STUDENT = "#010106", "#010107"
_PRECISION = {"fp32": "#010108", "fp16": "#010109", "bf16": "#01010b", "int8": "#01010a"}
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _GRID: "--line",
    _LIMIT: "--miss",
    _PAPER: "--card",
    _TEACHER: "--teacher",
    _STUDENT: "--student",
    **{colour: f"--{name}" for name, colour in _PRECISION.items()},
}
_MARKERS = {"fp32": "o", "fp16": "s", "bf16": "^", "int8": "D"}
# Any: the stubs list the known keys, and the list differs between versions of matplotlib.
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "axes.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "text.color": _INK,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,
}
_WIDTH = 392.0
# Left, bottom, right, top in pixels.
_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Chart:
    """An SVG element and what it says in words."""

    svg: str
    title: str
    caption: str


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
    height = _height(len(shown))

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.165, 48 / height, 0.805, 1 - 57 / height))
        _scatter(axes, shown, result.student.test.top1, several=len({e.target for e, _, _ in shown}) > 1)

    return Chart(_svg("scatter", height, title, draw), title, caption)


def latency_distributions(result: Result) -> Chart | None:
    """Histograms of the engines that ran, one above the other on one time axis."""
    shown = [(e, row) for e, row in latency_words.timed(result.engines) if len(row.histogram) > 1]
    if not shown:
        return None
    batches = ", ".join(str(b) for b in sorted({row.batch for _, row in shown}))
    title = "Latency distributions: " + "; ".join(
        f"{e.id} median {numbers.ms(row.median)} ms, p99 {numbers.ms(row.p99)} ms" for e, row in shown
    )
    log = _wide([row for _, row in shown])
    samples = latency_words.n_range([row for _, row in shown])
    caption = (
        f"Samples up to the 99th percentile, each scaled to its own peak{'; log axis' if log else ''}. "
        f"Line: median; triangle: p99. Boundary engine, batch {batches}, {samples} samples an engine."
    )
    height = _height(len(shown))

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.04, 48 / height, 0.92, 1 - 58 / height))
        _ridges(axes, shown, log)

    return Chart(_svg("distributions", height, title, draw), title, caption)


def validation_curves(result: Result) -> Chart | None:
    """Validation top-1 of teacher and student over the epochs."""
    runs = [
        (role, network, points, colour)
        for role, network, colour in _networks(result)
        if (points := [(h.epoch, h.val_top1) for h in network.history if h.val_top1 is not None])
    ]
    if not runs:
        return None
    title = "Validation top-1 over the epochs: " + "; ".join(
        f"{role} from {numbers.percent(points[0][1])} % to {numbers.percent(points[-1][1])} % "
        f"in {len(points)} epochs"
        for role, _, points, _ in runs
    )
    images = (result.data.get("counts") or {}).get("val")
    n = f", n = {numbers.count(images)} validation images" if images else ""
    caption = f"Top-1 after each epoch{n}."

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.14, 0.16, 0.67, 0.81))
        labels = [(float(points[-1][1]), role, colour) for role, _, points, colour in runs]
        for role, _, points, colour in runs:
            _curve(axes, points, colour, dashed=role == "teacher")
        values = [y for _, _, points, _ in runs for _, y in points]
        axes.set_ylim(max(0.0, min(values) - 5), min(100.0, max(values) + 5) + 1)
        _epoch_axis(axes, max(points[-1][0] for _, _, points, _ in runs))
        axes.set_ylabel("validation top-1, %")
        last = max(points[-1][0] for _, _, points, _ in runs)
        _end_labels(axes, last, [(y, f"{role} {y:.1f}", colour) for y, role, colour in labels])

    return Chart(_svg("validation", 300, title, draw), title, caption)


def loss_curves(result: Result) -> Chart | None:
    """Training loss of teacher and student, each on its own axis: they minimise different things."""
    runs = [(role, network, colour) for role, network, colour in _networks(result) if network.history]
    if not runs:
        return None
    title = "Training loss over the epochs: " + "; ".join(
        f"{role} from {r.history[0].loss:.3g} to {r.history[-1].loss:.3g}" for role, r, _ in runs
    )
    caption = "Mean training loss of each epoch. The two minimise different functions: compare shapes only."

    def draw(figure: Figure) -> None:
        share = 0.82 / len(runs)
        for index, (role, network, colour) in enumerate(runs):
            axes = figure.add_axes((0.14, 0.16 + (len(runs) - 1 - index) * share, 0.67, share - 0.09))
            points = [(h.epoch, h.loss) for h in network.history]
            _curve(axes, points, colour, dashed=role == "teacher")
            finite = [y for _, y in points if math.isfinite(y)] or [1.0]
            axes.set_ylim(0 if min(finite) >= 0 else None, max(finite) * 1.12 or 1)
            axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
            last = max(len(r.history) and r.history[-1].epoch for _, r, _ in runs)
            _epoch_axis(axes, last, label=index == len(runs) - 1)
            axes.set_ylabel("loss")
            method = f" ({one_line(network.method)})" if network.method else ""
            axes.text(
                0,
                1.05,
                f"{role}{method}",
                transform=axes.transAxes,
                va="bottom",
                color=colour,
                fontweight="bold",
            )
            axes.annotate(
                f"{points[-1][1]:.3g}",
                (points[-1][0], points[-1][1]),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                color=colour,
                annotation_clip=False,
            )

    return Chart(_svg("loss", 300, title, draw), title, caption)


def _height(engines: int) -> float:
    """Height of the two latency charts, which stand side by side."""
    return max(300.0, 40.0 * engines + 60)


def _networks(result: Result) -> list[tuple[str, Network, str]]:
    return [("teacher", result.teacher, _TEACHER), ("student", result.student, _STUDENT)]


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
    _time_axis(axes, low, high, log)
    lowest, highest = min([t for *_, t in shown] + [student]), max([t for *_, t in shown] + [student])
    # A narrow range would turn one image in a thousand into a cliff.
    span = max(2.0, (highest - lowest) * 1.5)
    middle = (lowest + highest) / 2
    axes.set_ylim(max(-1.0, middle - span / 2), min(101.0, middle + span / 2))
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_ylabel("test top-1, %", labelpad=8)
    axes.axhline(student, color=_STUDENT, linewidth=1, dashes=(4, 3))
    figure = axes.figure
    centres = [axes.transData.transform((row.median, top1)) for _, row, top1 in shown]
    taken: list[_Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    for (_, row, top1), (x, y) in zip(shown, centres, strict=True):
        if row.p99 is not None:
            taken.append((x, y - 3, axes.transData.transform((row.p99, top1))[0], y + 3))
    taken.append(_label_line(axes, f"student in torch {student:.2f}", student, taken))
    for (engine, row, top1), (x, y) in zip(shown, centres, strict=True):
        colour = _PRECISION.get(engine.precision, _INK)
        if row.p99 is not None:
            axes.plot([row.median, row.p99], [top1, top1], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([row.p99], [top1], color=colour, marker="|", markersize=8, markeredgewidth=1.6)
        axes.plot(
            [row.median],
            [top1],
            color=colour,
            marker=_MARKERS.get(engine.precision, "o"),
            markersize=8,
            markeredgecolor=_PAPER,
            markeredgewidth=1.2,
            zorder=3,
        )
        text = one_line(engine.id if several else engine_words.short_id(engine))
        place, align = _free_place((x, y), 6.6 * len(text), taken, axes.bbox)
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


def _label_line(axes: Any, text: str, y: float, taken: Sequence[_Box]) -> _Box:
    """Write on a horizontal line, at the end and side where the least is in the way; returns where."""
    frame, at = axes.bbox, axes.transData.transform((axes.get_xlim()[0], y))[1]
    width = 5.6 * len(text)
    places = [
        (x0, y0, x0 + width, y0 + 12)
        for y0 in (at + 3, at - 15)
        for x0 in (frame.x0 + 4, frame.x1 - width)
        if y0 > frame.y0
    ]
    place = min(places, key=lambda p: sum(_overlap(p, other) for other in taken))
    figure = axes.figure
    figure.text(
        place[0] / figure.bbox.width,
        place[1] / figure.bbox.height,
        text,
        va="bottom",
        color=_STUDENT,
        fontsize=10,
    )
    return place


def _free_place(at: tuple[float, float], width: float, taken: Sequence[_Box], frame: Any) -> tuple[_Box, str]:
    """Where to write a label near a point: the closest place above or below that is free."""
    x, y = at
    first: tuple[_Box, str] | None = None
    for step in range(14):
        for dy in (-20 - 13 * step, 9 + 13 * step):
            for align, x0 in (("left", x - 2), ("right", x + 2 - width)):
                place = (x0, y + dy, x0 + width, y + dy + 12)
                inside = place[0] >= frame.x0 and place[2] <= frame.x1 + 4
                inside = inside and place[1] >= frame.y0 and place[3] <= frame.y1
                first = first or ((place, align) if inside else None)
                if inside and not any(_overlap(place, other) for other in taken):
                    return place, align
    return first or ((x - 2, y - 20, x - 2 + width, y - 8), "left")


def _ridges(axes: Any, shown: Sequence[tuple[Engine, Latency]], log: bool) -> None:
    low, high = _range([row for _, row in shown])
    if log:
        axes.set_xscale("log")
        low, high = low / 1.1, high * 1.1
    else:
        low, high = max(0.0, low - 0.06 * (high - low)), high + 0.06 * (high - low)
    axes.set_xlim(low, high)
    _time_axis(axes, low, high, log)
    several = len({engine.target for engine, _ in shown}) > 1
    rows = len(shown)
    for index, (engine, row) in enumerate(shown):
        base = float(rows - 1 - index)
        colour = _PRECISION.get(engine.precision, _INK)
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
        label = one_line(engine.id if several else engine_words.short_id(engine))
        axes.text(
            0.0,
            base + 0.66,
            label,
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


def _curve(axes: Any, points: Sequence[tuple[int, float]], colour: str, *, dashed: bool) -> None:
    few = len(points) <= 15
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=colour,
        linewidth=2,
        dashes=(5, 2) if dashed else (None, None),
        marker="o" if few else None,
        markersize=4,
        markeredgewidth=0,
    )


def _end_labels(axes: Any, x: float, labels: Sequence[tuple[float, str, str]]) -> None:
    low, high = axes.get_ylim()
    apart = 0.075 * (high - low)
    at = -math.inf
    for y, text, colour in sorted(labels):
        at = max(y, at + apart)
        axes.annotate(
            text.replace(" ", "\n"),
            (x, at),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )
        at += apart  # two lines of text


def _epoch_axis(axes: Any, last: int, *, label: bool = True) -> None:
    axes.set_xlim(0.5 if last <= 15 else 0, last + (0.3 if last <= 15 else 0.01 * last))
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(8, integer=True))
    axes.grid(axis="x", visible=False)
    if label:
        axes.set_xlabel("epoch")
    else:
        axes.tick_params(axis="x", labelbottom=False)


def _time_axis(axes: Any, low: float, high: float, log: bool) -> None:
    axes.set_xlabel("latency, ms (log)" if log else "latency, ms")
    if not log:
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        return
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _svg(name: str, height: float, title: str, draw: Callable[[Figure], None]) -> str:
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72)
        canvas: Any = FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(buffer.getvalue(), name, title, height)


def _inline(svg: str, name: str, title: str, height: float) -> str:
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(href="#|url\(#)', rf"\1{name}-", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", body)
    body = re.sub(r"<defs>\s*</defs>|\n\s*", lambda m: "" if m[0].startswith("<") else "\n", body)
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-labelledby="{name}-title">'
        f'<title id="{name}-title">{escape(title)}</title>{body}</svg>'
    )
