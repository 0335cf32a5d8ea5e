"""Protects: what the export stage says of its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.files import write_json
from pipeline.stages.export import STAGE

PROBLEM = "operator Det at node 0007_Det is not supported by TensorRT 10.3"


@pytest.mark.parametrize(("problems", "end"), [([], "on 20 images"), ([PROBLEM, "more"], f"; {PROBLEM}")])
def test_an_operator_that_tensorrt_does_not_read_is_told(
    problems: list[str], end: str, tmp_path: Path
) -> None:
    write_json(tmp_path / "model.json", {"opset": 20, "bytes": 2_000_000, "not_for_tensorrt": problems})
    write_json(tmp_path / "parity.json", {"cases": [{"max_abs": 1e-5, "n": 10}, {"max_abs": 2e-6, "n": 10}]})
    said = STAGE.summary(tmp_path)
    assert said.startswith("opset 20, 2.00 MB; differs from torch by at most 1.0e-05 on 20 images")
    assert said.endswith(end)
