"""Engines and the ONNX files that they are built from, as the stages name and judge them, here and on devices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.results.rows.engines import EngineRow
from pipeline.results.rows.scores import Score, read_scores

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def onnx_path(inputs: Mapping[str, Path], name: str) -> Path:
    """An ONNX file by name: the fine-tuned one where there is one, else that of `precision`."""
    tuned = inputs["qad"] / name
    return tuned if tuned.is_file() else inputs["precision"] / name


def onnx_accuracy(inputs: Mapping[str, Path]) -> dict[str, Score]:
    """Accuracy on the test set of every file of `onnx_path`, in ONNX Runtime, by name."""
    return read_scores(inputs["precision"]) | read_scores(inputs["qad"])


def accuracy_of_file(row: EngineRow, in_onnx_runtime: Mapping[str, Score]) -> Score:
    """What stands for an engine that does not run: its ONNX file's accuracy, and where that comes from."""
    source = "onnx_emulated" if row.precision == "bf16" else "onnx"
    return in_onnx_runtime[row.onnx].model_copy(update={"source": source})


def read_logits(path: Path) -> npt.NDArray[np.float32]:
    """Logits that an earlier stage stored, float32 [N, C]."""
    import numpy as np

    from figkd.files import read_array

    logits: npt.NDArray[np.float32] = np.array(read_array(path))
    return logits
