"""A chart as SVG to be inlined in a page.

Drawn with matplotlib's SVG back end, then freed of everything that ties a file to a moment, a machine or
a theme: colours become CSS variables, so that one drawing serves the light and the dark page; text stays
text in the page's font; ids are kept only where something refers to them. Equal results give equal bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import matplotlib.ticker
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Stand-ins that matplotlib draws with, and the CSS variables that replace them in the SVG.
INK, MUTED, GRID, LIMIT, PAPER = "#010101", "#010102", "#010103", "#010104", "#010105"
TEACHER, STUDENT = "#010106", "#010107"
PRECISION = {"fp32": "#010108", "fp16": "#010109", "bf16": "#01010b", "int8": "#01010a"}
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    LIMIT: "--miss",
    PAPER: "--card",
    TEACHER: "--teacher",
    STUDENT: "--student",
    **{colour: f"--{name}" for name, colour in PRECISION.items()},
}
# Any: the stubs list the known keys, and the list differs between versions of matplotlib.
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "text.color": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,
}
WIDTH = 392.0


@dataclass(frozen=True)
class Chart:
    """An SVG element and what it says in words."""

    svg: str
    title: str
    caption: str


def side_by_side(engines: int) -> float:
    """Height of the two latency charts, which stand side by side."""
    return max(300.0, 40.0 * engines + 60)


def time_axis(axes: Any, low: float, high: float, log: bool) -> None:
    """Label the x axis as latency in ms, with ticks for `low` to `high`."""
    axes.set_xlabel("latency, ms (log)" if log else "latency, ms")
    if not log:
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        return
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def draw_svg(name: str, height: float, title: str, draw: Callable[[Figure], None]) -> str:
    """A figure of so many pixels in height as an SVG element; `name` is unlike that of any other on the page."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
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
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-labelledby="{name}-title">'
        f'<title id="{name}-title">{escape(title)}</title>{body}</svg>'
    )
