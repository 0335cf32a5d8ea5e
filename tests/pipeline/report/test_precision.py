"""Protects: every view says what is not in a file's precision, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from sample import precisions, sample

from pipeline.core.files import write_json
from pipeline.report import precision_words
from pipeline.report.html import render_html
from pipeline.report.markdown import render_markdown
from pipeline.report.terminal import render_table
from pipeline.results.rows.scores import write_scores
from pipeline.stages.findings import precision_files
from tests.pipeline.rows import score


def printed(result: Any) -> str:
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(render_table(result))
    return " ".join(capture.get().split())


def test_all_views_say_what_left_int8() -> None:
    """The sentence of the search, and the table of what was kept out, with its share of the work."""
    sentence = (
        "INT8 costs 1.40 points on 1,050 validation images (0.5 points allowed): "
        "1 group of layers (11.5 % of the work) left INT8, 0.30 points remain."
    )
    result = sample()
    assert sentence in printed(result)
    markdown = render_markdown(result)
    assert sentence in markdown
    assert "| `int8.onnx` | `backbone.blocks.2` | accuracy | 11.5 |" in markdown
    assert "| `int8.onnx` | TensorRT-RTX | 0.034 | 66.62 | 88.3 | entropy, 512 images |" in markdown
    page = render_html(result)
    for text in ("Kept out, and why", "backbone.blocks.2", "0031_Mul (FP32)", "entropy, 512 images"):
        assert text in page
    assert "1 node stays FP32: 'scaled' reaches 2.1e+05" in printed(result)


def test_nothing_to_say_is_not_said() -> None:
    """A run without remarks has no note in the terminal, and an old result no section."""
    (quiet,) = (f for f in precisions() if f.precision == "fp32")
    assert precision_words.mixed(quiet) == "" and precision_words.noteworthy([quiet]) == []
    assert "left INT8" not in printed(sample(precisions=[quiet]))
    assert "## Precision" not in render_markdown(sample(precisions=[]))
    assert 'id="precision"' not in render_html(sample(precisions=[]))


def test_a_budget_that_was_not_held_is_said() -> None:
    """Whether groups left INT8 or not."""
    file = precisions()[-1]
    assert file.mixed is not None
    failed = file.model_copy(update={"mixed": file.mixed.model_copy(update={"met": False})})
    assert precision_words.mixed(failed).endswith("0.30 points remain; the budget could not be held.")
    alone = failed.model_copy(update={"mixed": failed.mixed.model_copy(update={"groups": 0})})  # type: ignore[union-attr]
    assert precision_words.mixed(alone).endswith("nothing could be taken out of it.")
    assert precision_words.noteworthy([failed, alone]) == [failed, alone]


def test_what_the_stage_wrote_becomes_rows(tmp_path: Path) -> None:
    """Causes in the order of their weight; rules that keep no products out are left out."""
    group = {
        "group": "blocks.1", "products": ["a", "b"], "macs_percent": 12.0,
        "before": {"top1": 60.0, "divergence": 0.2}, "after": {"top1": 69.5, "divergence": 0.01},
    }  # fmt: skip
    int8 = {
        "bytes": 5000,
        "int8_macs_percent": 80.0,
        "calibration": {"method": "percentile", "percentile": 99.99, "images": 64},
        "excluded": {"nodes": ["c"], "products": ["c"], "macs_percent": 5.0},
        "out_of_range": [{"node": "m", "op": "Mul", "kind": "overflow", "tensor": "t", "value": 1e5, "says": ""}],
        "rules": {
            "classifier": {"because": "why.", "nodes": ["d"], "products": ["d"], "macs_percent": 3.0},
            "preprocessing": {"because": "why.", "nodes": ["e"], "products": [], "macs_percent": 0.0},
        },
        "mixed": {
            "n": 40, "max_drop": 1.0, "reference": 70.0, "met": True, "returned": [group],
            "before": {"top1": 60.0, "divergence": 0.2}, "after": {"top1": 69.5, "divergence": 0.01},
        },
    }  # fmt: skip
    write_json(tmp_path / "precision.json", {"fp32.onnx": {"bytes": 9000}, "int8_cpu_u8s8.onnx": int8})
    write_scores(tmp_path, {name: score(1.0) for name in ("fp32.onnx", "int8_cpu_u8s8.onnx")})
    plain, quantised = precision_files(tmp_path, sample().engines)
    assert plain.kept_out == [] and plain.mixed is None and plain.calibration is None
    assert quantised.precision == "int8" and precision_words.calibration(quantised.calibration) == (
        "percentile 99.99 %, 64 images"
    )
    assert [row.cause for row in quantised.kept_out] == ["accuracy", "range", "config", "rule"]
    why = [precision_words.why_kept_out(row) for row in quantised.kept_out]
    assert why[0].endswith("from 0.2 to 0.01 nats") and why[1].startswith("'t' reaches 1e+05; FP16 ends at")
    assert why[2] == "the config names them" and "logits" in why[3]
    assert quantised.mixed is not None and quantised.mixed.macs_percent == 12.0
