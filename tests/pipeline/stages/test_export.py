"""Protects: what the export stage says of its file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from export.contract import ImageInput
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


def test_what_a_file_tells_of_its_input_belongs_to_a_version() -> None:
    """An artifact from before `resize` had the same key, and no bundle could be made of it: a change of what the file
    tells raises the version."""
    told = [field.name for field in dataclasses.fields(ImageInput)]
    assert (STAGE.version, told) == (4, [
        "layout", "dtype", "height", "width", "channels", "normalisation", "mean", "std", "resize", "levels",
    ])  # fmt: skip
