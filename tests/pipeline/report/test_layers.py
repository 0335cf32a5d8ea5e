"""Protects: what every view says of built layers, and of INT8 engines that nobody has measured."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from sample import sample

from pipeline.report import layers
from pipeline.report.html import render_html
from pipeline.report.markdown import render_markdown
from pipeline.report.terminal import render_table
from pipeline.results.assemble import foretell
from pipeline.results.composition import BuiltEngine, Composition
from pipeline.results.result import Result

SAYS = (
    "INT8 engine: 52 layers against 24 of FP16; 19 layers requantise; convolutions and products: 20 INT8 → FP32, "
    "1 FP16 → FP16; bytes written 12.6 MB against 5.8 MB: expect INT8 to be no faster than FP16 "
    "(counted, not measured)"
)


def listed() -> Result:
    """The sample, with the layers of its engines for the SM89 GPU, which have not run."""
    result = sample()
    by_id = {engine.id: engine for engine in result.engines}
    by_id["rtx/int8-SM89"].composition = Composition(
        engine=BuiltEngine(
            layers=52, requantise=19, compute={"half -> half": 1, "int8 -> float": 20},
            by_output={"float": 20, "int8": 20}, written_bytes=12_600_000,
        )
    )  # fmt: skip
    by_id["rtx/fp16-SM89"].composition = Composition(
        engine=BuiltEngine(
            layers=24,
            requantise=0,
            compute={"half -> half": 20},
            by_output={"half": 24},
            written_bytes=5_800_000,
        )
    )
    foretell(result.engines)
    return result


def test_the_views_say_where_int8_will_not_pay() -> None:
    result = listed()
    assert layers.outlooks(result) == [("rtx/int8-SM89", SAYS)]
    terminal = StringIO()
    Console(file=terminal, width=100).print(render_table(result))
    for text in (render_markdown(result), render_html(result), terminal.getvalue()):
        flat = " ".join(text.replace("\\", "").split())
        assert "52 layers against 24 of FP16; 19 layers requantise" in flat
        assert "expect INT8 to be no faster than FP16" in flat
    for text in (render_markdown(result), render_html(result)):
        assert "What the builder made" in text and "12.6" in text


def test_what_was_measured_is_not_foretold() -> None:
    result = listed()
    next(e for e in result.engines if e.id == "rtx/int8-SM89").state = "ran"
    assert layers.outlooks(result) == [] and len(layers.rows(result)) == 2


def test_engines_without_lists_are_not_spoken_of() -> None:
    assert layers.rows(sample()) == [] and "What the builder made" not in render_markdown(sample())
    assert 'id="layers"' not in render_html(sample())
    alone = listed()
    next(e for e in alone.engines if e.id == "rtx/fp16-SM89").composition = Composition()
    for engine in alone.engines:
        engine.outlook = None
    foretell(alone.engines)
    assert layers.outlooks(alone) == []
