"""Charts of a search: the front among all points, and how far halving let each trial go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.ticker
from matplotlib.figure import Figure

from pipeline.report import search_words
from pipeline.report.svg import GRID, INK, LIMIT, MUTED, PAPER, PRECISION, STUDENT, Chart, draw_svg
from pipeline.results.searched import Point, SearchResult, Sought

_HEIGHT = 320.0
_MARKERS = {"fp32": "o", "fp16": "s", "bf16": "^", "int8": "D"}


def front_charts(result: SearchResult) -> list[tuple[str, Chart]]:
    """The first objective on validation images over each one of engines, with a heading; none if one is not sought."""
    y = next((each for each in result.objectives if not each.target), None)
    xs = [each for each in result.objectives if each.target]
    if y is None or not result.points:
        return []
    headings = ["The front"] if len(xs) == 1 else [f"The front: {search_words.sought(x)}" for x in xs]
    return [
        (heading, _front_chart(result, x, y, f"front{place}" if place else "front"))
        for place, (heading, x) in enumerate(zip(headings, xs, strict=True))
    ]


def _front_chart(result: SearchResult, x: Sought, y: Sought, name: str) -> Chart:
    front = "; ".join(
        f"{p.front}: {search_words.value(y, p.values[y.name])} {search_words.unit(y)} at "
        f"{search_words.value(x, p.values[x.name])} {search_words.unit(x)}"
        for p in result.front
    )
    title = f"{search_words.sought(y)} against {search_words.sought(x)}. Front: {front or 'none'}"
    side = "left" if x.direction == "min" else "right"
    caption = (
        f"Up and to the {side} is better. Numbers: the front; whiskers: 95 % intervals; pale: not on it; hollow: "
        f"a budget is missed. Accuracy of the ONNX file on n = {result.validation_images:,} validation images, the "
        "rest of the untrained engine."
    )

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.165, 48 / _HEIGHT, 0.805, 1 - 57 / _HEIGHT))
        _front(axes, result, x, y)

    return Chart(draw_svg(name, _HEIGHT, title, draw), title, caption)


def halving_chart(result: SearchResult) -> Chart | None:
    """Validation top-1 after each epoch; None where nothing was trained for more than one."""
    lines = [trial for trial in result.trials if len(trial.val_top1) > 0]
    longest = max((len(trial.val_top1) for trial in lines), default=0)
    if longest < 2:
        return None
    chosen = {point.trial for point in result.front}
    finished = sum(trial.state == "finished" for trial in lines)
    title = f"Validation top-1 by epoch of {len(lines)} trials, {finished} of which were trained in full"
    caption = (
        "A line a trial, of the first seed; it ends where halving paused it. Bold: on the front. The learning rate "
        "follows the whole schedule from the start, so that early epochs are those of the whole training."
    )

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.165, 48 / _HEIGHT, 0.805, 1 - 57 / _HEIGHT))
        for trial in sorted(lines, key=lambda t: t.number in chosen):
            bold = trial.number in chosen
            epochs = range(1, len(trial.val_top1) + 1)
            axes.plot(
                epochs, trial.val_top1, color=STUDENT if bold else MUTED, linewidth=2 if bold else 1,
                alpha=1 if bold else 0.55, marker="o", markersize=4 if bold else 3,
            )  # fmt: skip
        for rung in result.rungs[:-1]:
            axes.axvline(rung, color=GRID, linewidth=1, dashes=(4, 3))
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation top-1, %", labelpad=8)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(8, integer=True))

    return Chart(draw_svg("halving", _HEIGHT, title, draw), title, caption)


def _front(axes: Any, result: SearchResult, x: Sought, y: Sought) -> None:
    xs = [point.values[x.name].value for point in result.points]
    if min(xs) > 0 and max(xs) / min(xs) > 8:
        axes.set_xscale("log")
        within = (1, 2, 5) if max(xs) / min(xs) < 300 else (1,)
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(10, subs=within))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    else:
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    for limit, line in ((x.limit, axes.axvline), (y.limit, axes.axhline)):
        if limit is not None and _near(limit, result, x if line == axes.axvline else y):
            line(limit, color=LIMIT, linewidth=1, dashes=(4, 3))
    for point in sorted(result.points, key=lambda p: p.front is not None):
        _mark(axes, point, x, y)
    edge = _edge(result.front, x, y)
    if len(edge) > 1:
        axes.plot(
            [at_x for at_x, _ in edge], [at_y for _, at_y in edge], color=MUTED, linewidth=1, zorder=1,
            drawstyle="steps-post" if x.direction == "min" else "steps-pre",
        )  # fmt: skip
    axes.margins(0.09)
    axes.set_xlabel(f"{search_words.sought(x)}, {search_words.unit(x)}")
    axes.set_ylabel(f"{search_words.sought(y)}, {search_words.unit(y)}", labelpad=8)
    for point in result.front:
        axes.annotate(
            str(point.front), (point.values[x.name].value, point.values[y.name].value), xytext=(7, 6),
            textcoords="offset points", color=PRECISION.get(point.precision, INK), fontweight="bold", zorder=5,
        )  # fmt: skip


def _edge(front: Sequence[Point], x: Sought, y: Sought) -> list[tuple[float, float]]:
    """What no other point of the front beats in these two objectives; others are on it for a third one."""
    signs = [-1 if each.direction == "max" else 1 for each in (x, y)]
    losses = sorted({(signs[0] * p.values[x.name].value, signs[1] * p.values[y.name].value) for p in front})
    best = [each for place, each in enumerate(losses) if all(each[1] < other[1] for other in losses[:place])]
    return sorted((signs[0] * at_x, signs[1] * at_y) for at_x, at_y in best)


def _mark(axes: Any, point: Point, x: Sought, y: Sought) -> None:
    on_front = point.front is not None
    colour = PRECISION.get(point.precision, INK)
    at_x, at_y = point.values[x.name], point.values[y.name]
    if on_front and at_y.low is not None and at_y.high is not None:
        axes.plot([at_x.value] * 2, [at_y.low, at_y.high], color=colour, linewidth=1.2, alpha=0.7)
    if on_front and at_x.low is not None and at_x.high is not None:
        axes.plot([at_x.low, at_x.high], [at_y.value] * 2, color=colour, linewidth=1.2, alpha=0.7)
    axes.plot(
        [at_x.value], [at_y.value], linestyle="", marker=_MARKERS.get(point.precision, "o"),
        markersize=8 if on_front else 5, color=colour, alpha=1 if on_front else 0.75 if point.misses else 0.5,
        markerfacecolor=PAPER if point.misses else colour, markeredgecolor=PAPER if on_front else colour,
        markeredgewidth=1.2 if on_front else 0.8, zorder=4 if on_front else 2,
    )  # fmt: skip


def _near(limit: float, result: SearchResult, objective: Sought) -> bool:
    """Whether a limit is worth the room that it takes: within twice the range of the values."""
    values = [point.values[objective.name].value for point in result.points]
    span = max(values) - min(values) or abs(max(values)) or 1.0
    return min(values) - span <= limit <= max(values) + span
