"""The course of training, as charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.ticker
from matplotlib.figure import Figure

from export.terminal import one_line
from pipeline.report import numbers
from pipeline.report.svg import STUDENT, TEACHER, Chart, draw_svg
from pipeline.results.network import Network
from pipeline.results.result import Result


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

    return Chart(draw_svg("validation", 300, title, draw), title, caption)


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

    return Chart(draw_svg("loss", 300, title, draw), title, caption)


def _networks(result: Result) -> list[tuple[str, Network, str]]:
    return [("teacher", result.teacher, TEACHER), ("student", result.student, STUDENT)]


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
