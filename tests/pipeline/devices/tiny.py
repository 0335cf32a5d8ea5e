"""A tiny classifier as an ONNX file, and the agent's jobs run in this process."""

from __future__ import annotations

import hashlib
import importlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE = (8, 8, 3)
CLASSES = 5


def classifier(path: Path, batch: int | None = 1, layout: str = "uint8_nhwc", opset: int = 20) -> Path:
    """Channel-wise mean and a matrix: uint8 [B, 8, 8, 3] (or float32 [B, 3, 8, 8]) to logits [B, 5]."""
    nhwc = layout == "uint8_nhwc"
    shape = [batch or "batch", *(IMAGE if nhwc else (3, 8, 8))]
    weights = np.random.default_rng(0).normal(size=(3 * 64, CLASSES)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8 if nhwc else TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch or "batch", CLASSES])],
        [numpy_helper.from_array(weights / 1000, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def images(count: int) -> np.ndarray:
    """Random uint8 images."""
    return np.random.default_rng(1).integers(0, 256, (count, *IMAGE), dtype=np.uint8)


class Place:
    """A work folder and a job folder; the job folder is to be the current one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        (self.folder / "blobs").mkdir(parents=True)
        self.events: list[dict[str, Any]] = []

    def put(self, source: Path | bytes) -> str:
        """As `Session.put`."""
        content = source if isinstance(source, bytes) else source.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs" / digest).write_bytes(content)
        return digest

    def run(self, job: str, request: dict[str, Any]) -> dict[str, Any]:
        """Run a handler in the current folder, as the agent does in a process of its own."""
        module = importlib.import_module(f"pipeline.devices.agent.jobs.{job}")
        result: dict[str, Any] = module.run(request, str(self.folder), self.events.append)
        return result

    def part(self, stored: np.ndarray) -> dict[str, Any]:
        """A part of the image store."""
        return {"blob": self.put(stored.tobytes()), "count": len(stored)}

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder)
