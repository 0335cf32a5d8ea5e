"""Protects: a budget is one entry, and an entry from which something is missing does not pass."""

from __future__ import annotations

from typing import get_args

import pytest

from pipeline.config.metrics import METRICS, SIDES, Metric, Side
from pipeline.config.schema import Benchmark, Budgets, Goal, goals_of
from pipeline.report import goal_words
from pipeline.report.html import render_html
from pipeline.report.markdown import render_markdown
from pipeline.results.budgets import judge
from pipeline.results.engine import Energy, Engine
from tests.pipeline.report.sample import accuracy, cpu_engine, latency, sample

STUDENT = accuracy(70.0, "torch")


def _measured() -> Engine:
    """An engine of which everything is known."""
    engine = cpu_engine("int8", 66.0, 1.0, 2.0, 2.0)
    engine.energy = Energy(
        source="x", covers="y", mj_per_image=1.5, mj_per_image_total=9, idle_w=1, load_w=2, n=9
    )
    paced = {"rate_fps": 30.0, "deadline_misses": 3, "deadline_miss_percent": 0.5, "keeps_rate": True}
    engine.latency.append(latency("engine", 1.0, 1000, "x").model_copy(update=paced))
    return engine


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_metric_is_a_key_is_judged_and_has_words(metric: Metric) -> None:
    """On each of its sides, on an engine of which everything was measured, and in every view."""
    assert METRICS[metric.name] is metric and metric.sides and metric.words and metric.meaning.endswith(".")
    assert Budgets.model_fields[metric.name].description == metric.meaning
    assert ("max_drop" in metric.sides) == (metric.of_answers is not None)
    engine = _measured()
    for side in metric.sides:
        limit = 1e6 if side == "min" else 0.0
        (judged,) = judge(engine, Budgets(**{metric.name: Goal(**{side: limit})}), STUDENT)
        assert judged.verdict == "miss" and judged.value is not None
        said = goal_words.miss(judged)
        assert "None" not in said and str(judged.value)[:3] in said.replace(",", "")
        engine.budgets = [judged]
        result = sample(engines=[engine])
        assert goal_words.goal(judged) in render_markdown(result) and "missed" in render_markdown(result)
        assert goal_words.value(judged) in render_html(result)


def test_every_side_is_a_goal() -> None:
    """What a config may give is what a metric may take."""
    assert get_args(Side) == SIDES and set(SIDES) <= set(Goal.model_fields)
    assert goals_of(Budgets()) == []


def test_what_the_config_lacks_is_said() -> None:
    """Before hours are spent; the default section measures everything but a fixed rate."""
    lacking = {name for name, metric in METRICS.items() if metric.unmeasured(Benchmark())}
    assert lacking == {"deadline_miss_percent"}
