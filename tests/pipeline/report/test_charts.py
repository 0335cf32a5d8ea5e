"""The charts: pure functions of the result, in the page's colours and words."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import matplotlib
import pytest
from sample import sample, sample_bare, sample_crowded

from pipeline.report import curves, distributions, scatter
from pipeline.report.svg import Chart
from pipeline.results.result import Result

CHARTS = [
    scatter.accuracy_against_latency,
    distributions.latency_distributions,
    curves.validation_curves,
    curves.loss_curves,
]
Draw = Callable[[Result], Chart | None]


def drawn(draw: Draw, result: Result) -> Chart:
    chart = draw(result)
    assert chart is not None
    return chart


@pytest.mark.parametrize("draw", CHARTS)
def test_every_colour_follows_the_theme(draw: Draw) -> None:
    """A colour that matplotlib chose itself would vanish on one of the two backgrounds."""
    for result in (sample(), sample_crowded()):
        svg = drawn(draw, result).svg
        assert re.findall(r"(?:fill|stroke): (?!none|var\(--)[^;\"]+", svg) == []
        assert re.findall(r"#[0-9a-f]{6}", svg) == []
        ElementTree.fromstring(svg)


@pytest.mark.parametrize("draw", CHARTS)
def test_drawing_leaves_matplotlib_as_it_was(draw: Draw) -> None:
    """The library is shared with whoever imports the package."""
    before = dict(matplotlib.rcParams)
    drawn(draw, sample())
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("draw", CHARTS)
def test_nothing_to_draw_is_no_chart(draw: Draw) -> None:
    """An engine that did not run and a network that was not trained have no curve, not an empty one."""
    assert draw(sample_bare()) is None


def test_captions_name_boundary_batch_and_n() -> None:
    """No number is printed without its unit, its n and its boundary."""
    for draw in (scatter.accuracy_against_latency, distributions.latency_distributions):
        chart = drawn(draw, sample())
        assert "Boundary engine, batch 1, n = 8,412 samples an engine" in chart.caption
        assert "latency, ms" in chart.svg
        for text in ("cpu/fp32", "0.148 ms", "cpu/int8", "0.121 ms"):
            assert text in chart.title
    assert "n = 1,050 validation images" in drawn(curves.validation_curves, sample()).caption


def test_wide_ranges_are_logarithmic() -> None:
    """From 0.09 to 41 ms a linear axis would put eleven of twelve engines on one line; the reader is told."""
    assert "log axis" in drawn(distributions.latency_distributions, sample_crowded()).caption
    assert "(log)" in drawn(scatter.accuracy_against_latency, sample_crowded()).svg
    assert "log" not in drawn(distributions.latency_distributions, sample()).caption


def test_every_engine_is_labelled() -> None:
    """Labels avoid each other; none is dropped when it is crowded."""
    result = sample_crowded()
    for draw in (scatter.accuracy_against_latency, distributions.latency_distributions):
        svg = drawn(draw, result).svg
        for engine in result.engines:
            assert f">{engine.id}</text>" in svg


def test_a_loss_that_is_not_finite_is_survived() -> None:
    """A run that diverged is just the one whose curves somebody wants to see."""
    result = sample()
    result.student.history[-1].loss = float("nan")
    result.teacher.history[3].loss = float("inf")
    assert "student (figkd)" in drawn(curves.loss_curves, result).svg
