"""Protects: engines that were measured in several power modes: a row each, and budgets at the first."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from sample import sample

from pipeline.config.metrics import METRICS
from pipeline.report import latency_words, numbers
from pipeline.report.devices import device_facts
from pipeline.report.html import render_html
from pipeline.report.markdown import render_markdown
from pipeline.report.terminal import render_table
from pipeline.results.clocks import summarise
from pipeline.results.compare import against, rows_of
from pipeline.results.result import Result


@pytest.fixture
def result() -> Result:
    """The sample's INT8 engine, measured in 15W, and in 25W in half the time."""
    found = sample()
    engine = next(e for e in found.engines if e.id == "cpu/int8")
    first = engine.latency[0]
    engine.latency = [
        first.model_copy(update={"power_mode": "15W", "median": 1.5}),
        first.model_copy(update={"power_mode": "25W", "median": 0.75, "samples": "other"}),
    ]
    clocks = summarise([{"gpu": {"mhz": 306, "min_mhz": 306, "max_mhz": 918}}], {})
    assert clocks is not None
    found.clocks = {"cpu": clocks, "cpu in 25W": clocks}
    return found


def test_budgets_are_judged_in_the_first_mode(result: Result) -> None:
    engine = next(e for e in result.engines if e.id == "cpu/int8")
    assert METRICS["latency_p50_ms"].of(engine) == 1.5
    assert latency_words.other_modes(result.engines) == [
        f"cpu/int8 in 25W: 0.750 ms median, p99 {numbers.ms(engine.latency[1].p99)} ms"
    ]


def test_every_view_names_the_mode_and_the_clocks(result: Result) -> None:
    terminal = StringIO()
    Console(file=terminal, width=100).print(render_table(result))
    for text in (render_markdown(result), render_html(result), terminal.getvalue()):
        assert "in 25W" in text
        assert "cpu: clocks were not locked: GPU 306 MHz of at most 918" in " ".join(
            text.replace("\\", "").split()
        )
    assert "in 15W" in render_markdown(result) and "in 15W" in render_html(result)


def test_modes_are_compared_each_with_itself(result: Result) -> None:
    """Against a baseline, 15W is not measured by 25W."""
    rows = rows_of(result)
    changes = [c for c in against(rows, rows) if c.row.id == "cpu/int8"] if rows else []
    assert len(changes) == 2 and all(change.percent == 0 for change in changes)


def test_readings_of_further_modes_are_facts_of_the_device(result: Result) -> None:
    result.devices = {
        "cpu": {
            "device": "orin", "facts": {"cpu": "ARM"},
            "modes": {
                "25W": {
                    "before": {"gpu": {"mhz": 306}}, "after": {"gpu": {"mhz": 918}},
                    "temperatures_c": {"gpu": [40.0, 51.0, 50.0]}, "throttled": ["oc1 events: 2 times"],
                    "energy": {"cpu/int8": {"mj_per_image": 1.25}},
                }
            },
        }
    }  # fmt: skip
    facts = dict(device_facts(result)[0][1])
    assert facts["in 25W"] == (
        "GPU clock 306 → 918 MHz; temperature gpu 40.0 → 51.0 → 50.0 °C (before, highest, after); "
        "throttling: oc1 events: 2 times; cpu/int8 1.25 mJ an image above idle"
    )
