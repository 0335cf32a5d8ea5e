"""What the checks of engines stand on: a small network made here, one library, its engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.gpu.checks import Found
from export.engines import BACKENDS
from export.engines.options import TensorRTOptions
from export.precision import to_fp16, to_int8_tensorrt
from export.runtime.sampling import Limits

BATCHES = (1, 4)
PRECISIONS = ("fp32", "fp16", "int8")
# Largest |engine - ONNX Runtime| as a share of the largest |logit|; TensorRT uses TF32 for FP32, with 10 bits.
TOLERANCE = {"fp32": 0.01, "fp16": 0.02, "bf16": 0.05, "int8": 0.1}


@dataclass(frozen=True)
class Net:
    """The network of the checks: its size and depth."""

    side: int = 96
    width: int = 32
    blocks: int = 6
    classes: int = 10


@dataclass
class Rig:
    """One library on this machine, with files to build from.

    Attributes:
        backend: under test.
        trt, chosen: the library and its dialect.
        folder: for engines.
        files: ONNX file of each precision.
        images: uint8 [N, S, S, 3].
        seconds: least time of a latency measurement.
    """

    backend: Any
    trt: Any
    chosen: Any
    folder: Path
    files: dict[str, Path]
    images: Any
    seconds: float

    @property
    def targets(self) -> tuple[str, ...]:
        """This GPU, where targets are named."""
        return (self.backend.availability().compute_capability,) if self.chosen.compute_capabilities else ()

    def limits(self, most: float) -> Limits:
        """Of a latency measurement that takes `most` times as long at the most."""
        return Limits(min_seconds=self.seconds, max_seconds=most * self.seconds)

    def build(
        self, name: str, precision: str = "fp16", sizes: Sequence[int] = BATCHES, **options: Any
    ) -> Any:
        """Build `<name>.engine`; the engine's facts."""
        return self.backend.build(
            self.files[precision],
            self.folder / f"{name}.engine",
            batch_sizes=sizes,
            compute_capabilities=self.targets,
            tensorrt=TensorRTOptions(**options),
        )

    def engine(self, precision: str = "fp16") -> Any:
        """A loaded engine of that precision; built first, unless it was before, perhaps by an earlier process."""
        path = self.folder / f"{precision}.engine"
        if not path.is_file():
            self.build(precision, precision)
        return self.backend.load(path)

    def reference(self, precision: str, images: Any) -> Any:
        """Logits of the same ONNX file in ONNX Runtime."""
        engine = BACKENDS["onnxruntime"].load(self.files[precision])
        try:
            return engine.infer(images)
        finally:
            engine.close()

    def agreement(self, engine: Any, precision: str, reference: str = "") -> Found:
        """How an engine's logits compare with ONNX Runtime's of the same file, or of that of another precision."""
        ours, theirs = engine.infer(self.images), self.reference(reference or precision, self.images)
        error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        cosine = (ours * theirs).sum(1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
        return {
            "finite": bool(np.isfinite(ours).all()),
            "relative_error": error,
            "tolerance": TOLERANCE[precision],
            "smallest_cosine": float(cosine.min()),
            "same_top1": float((ours.argmax(1) == theirs.argmax(1)).mean()),
        }


def make_files(folder: Path, net: Net, images: Any) -> dict[str, Path]:
    """The network as ONNX files: uint8 NHWC images, convolutions with a residual, pooling, a product."""
    rng = np.random.default_rng(0)
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, value: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def convolve(name: str, source: str, inputs: int, outputs: int, stride: int) -> str:
        scale = np.sqrt(2 / (9 * inputs))
        weight = constant(f"{name}.weight", rng.normal(0, scale, (outputs, inputs, 3, 3)))
        bias = constant(f"{name}.bias", rng.normal(0, 0.05, outputs))
        nodes.append(
            helper.make_node("Conv", [source, weight, bias], [name], name, pads=[1] * 4, strides=[stride] * 2)
        )
        return name

    def node(operator: str, sources: list[str], target: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, sources, [target], target, **attributes))
        return target

    x = node("Cast", ["image"], "as_float", to=TensorProto.FLOAT)
    x = node("Transpose", [x], "planes", perm=[0, 3, 1, 2])
    x = node("Mul", [x, constant("scale", 1 / 64)], "scaled")
    x = node("Relu", [convolve("stem", x, 3, net.width, 2)], "stem_relu")
    for index in range(net.blocks):
        y = node("Relu", [convolve(f"block{index}_a", x, net.width, net.width, 1)], f"block{index}_relu")
        y = convolve(f"block{index}_b", y, net.width, net.width, 1)
        x = node("Relu", [node("Add", [x, y], f"block{index}_sum")], f"block{index}_out")
    x = node("Flatten", [node("GlobalAveragePool", [x], "pooled")], "features")
    head = constant("head.weight", rng.normal(0, 1 / np.sqrt(net.width), (net.width, net.classes)))
    node("Gemm", [x, head, constant("head.bias", np.zeros(net.classes))], "logits")
    graph = helper.make_graph(
        nodes,
        "gpu_check",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", net.side, net.side, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", net.classes])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    files = {precision: folder / f"{precision}.onnx" for precision in PRECISIONS}
    onnx.save(onnx.shape_inference.infer_shapes(model), files["fp32"])
    to_fp16(files["fp32"], files["fp16"])
    to_int8_tensorrt(files["fp32"], files["int8"], images)
    return files


def make_images(net: Net, count: int = 64) -> Any:
    """Images whose means and contrasts differ, so that logits do too: uint8 [N, S, S, 3]."""
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 255, (count, 4, 4, 3))
    big = low.repeat(net.side // 4, 1).repeat(net.side // 4, 2)
    return np.clip(big + rng.normal(0, 20, big.shape), 0, 255).astype(np.uint8)
