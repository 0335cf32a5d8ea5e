"""What stands for engines that do not run."""

from __future__ import annotations

import pytest

from pipeline.stages.engines import accuracy_of_file
from tests.pipeline.rows import score, wanted


@pytest.mark.parametrize(
    ("precision", "source"),
    [("fp16", "onnx"), ("bf16", "onnx_emulated")],
)
def test_an_emulated_accuracy_is_said_to_be_one(precision: str, source: str) -> None:
    """Here and for engines of a device alike."""
    row = wanted(f"t/{precision}", onnx="a.onnx").missing("", "")
    assert accuracy_of_file(row, {"a.onnx": score(50.0)}) == score(50.0, source=source)
