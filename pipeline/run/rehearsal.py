"""The student's graph before it is trained: random weights have the same operators."""

from __future__ import annotations

import tempfile
import threading
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.schema import DeployConfig
from pipeline.run.back_ends import Graph
from pipeline.stages.networks import located

if TYPE_CHECKING:
    import onnx

_CLASSES = 2  # how many there are decides sizes, not operators


def graph_of(path: Path) -> onnx.ModelProto:
    """A graph with the types of its tensors, as an exported file has it."""
    from export import graph

    return graph.load_model(path)


def student(config: DeployConfig) -> Graph:
    """`untrained`, once at most, whichever threads ask."""
    guard, made = threading.Lock(), cache(partial(untrained, config))

    def graph() -> onnx.ModelProto | None:
        with guard:
            return made()

    return graph


def untrained(config: DeployConfig) -> onnx.ModelProto | None:
    """`exported`; None where the student cannot be built or exported: what checks it, or the export, says why."""
    from export.errors import ExportError
    from figkd.errors import FigkdError

    try:
        return exported(config)
    except (ExportError, FigkdError):
        return None


def exported(config: DeployConfig) -> onnx.ModelProto:
    """Export the student with random weights; takes seconds.

    Raises:
        FigkdError: it cannot be built.
        ExportError: it cannot be exported.
    """
    import numpy as np
    import torch

    from export.onnx import export_onnx, fix_batch
    from figkd import models
    from pipeline.stages.export import graph_module

    size, layout = config.data.image_size, config.export.input
    shape = (1, size, size, 3) if layout == "uint8_nhwc" else (1, 3, size, size)
    example = torch.from_numpy(np.zeros(shape, np.uint8 if layout == "uint8_nhwc" else np.float32))
    with tempfile.TemporaryDirectory(prefix="figkd-student-") as folder:
        path = Path(folder) / "student.onnx"
        name = located(config.student.model, config.student.code)
        network = models.build_model(name, _CLASSES, image_size=size)
        export_onnx(
            graph_module(network, layout), example, path, opset=config.export.opset, dynamic_batch=True
        )
        if not config.export.dynamic_batch:
            fix_batch(path, path, 1)
        return graph_of(path)
