"""Protects: TensorRT-RTX's real builder, ahead of time and without a GPU, at every precision and compute capability."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.engines.tensorrt import TensorRTBackend
from export.engines.trt_fit import kind_of
from export.errors import BuildError, EngineError
from export.runtime import cudart
from export.runtime.trt_engine import deserialised
from export.runtime.trt_library import make_logger

rtx = TensorRTBackend("tensorrt_rtx")
pytestmark = pytest.mark.skipif(not rtx.availability().built, reason=rtx.availability().detail)

CAPABILITIES = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")
# What the library refuses, and the remedy that the message must have. INT8 files have an FP16 remainder.
TURING = {"fp32": "FP16 file, apart from the others", "bf16": "has no BF16"}


@pytest.fixture(scope="module")
def bf16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float images, a convolution and a product in BF16, float logits."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        values = rng.normal(size=shape).astype(np.float32)
        raw = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()  # BF16 is the upper half of a float
        return helper.make_tensor(name, TensorProto.BFLOAT16, shape, raw, raw=True)

    nodes = [
        helper.make_node("Cast", ["image"], ["x"], "to_bf16", to=TensorProto.BFLOAT16),
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "m"], ["y"], "classify"),
        helper.make_node("Cast", ["y"], ["logits"], "to_float", to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])],
        [weights("w", 8, 3, 3, 3), weights("m", 8 * 256, 5)],
    )
    path = tmp_path_factory.mktemp("bf16") / "bf16.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), path)
    return path


def source(files: Any, bf16: Path, precision: str) -> Path:
    found: Path = bf16 if precision == "bf16" else getattr(files, precision)
    return found


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "bf16"])
def test_the_kind_of_a_file_is_seen(files: Any, bf16: Path, precision: str) -> None:
    assert kind_of(onnx.load(source(files, bf16, precision))) == precision


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "bf16"])
def test_every_precision_builds_for_every_gpu(
    files: Any, bf16: Path, tmp_path: Path, precision: str, capability: str
) -> None:
    """Turing has neither FP32 products nor BF16 in this library, and the refusal says what to do instead."""
    path, out = source(files, bf16, precision), tmp_path / "m.engine"
    if capability == "SM75" and precision in TURING:
        with pytest.raises(BuildError) as caught:
            rtx.build(path, out, compute_capabilities=[capability])
        assert TURING[precision] in str(caught.value)
        assert not out.exists()
        return
    info = rtx.build(path, out, compute_capabilities=[capability])
    assert info.compute_capability == (capability,) and info.bytes > 1000
    network = info.composition["network"]
    share = {"fp32": "float", "int8": "quantised"}.get(precision, "half")
    assert network[share] >= network["compute"] - 1 > 0
    built = info.composition["engine"]  # from the builder's log: no GPU was asked
    assert built["layers"] >= 3 and built["compute"] and built["written_bytes"] > 1000


def test_one_engine_may_serve_several_gpus(files: Any, tmp_path: Path) -> None:
    """The list adds bytes to the engine, not another engine."""
    one = rtx.build(files.fp16, tmp_path / "1.engine", compute_capabilities=["SM86"])
    many = rtx.build(
        files.fp16, tmp_path / "4.engine", compute_capabilities=["SM80", "SM86", "SM89", "SM120"]
    )
    assert many.compute_capability == ("SM80", "SM86", "SM89", "SM120")
    assert one.bytes <= many.bytes < 1.05 * one.bytes


@pytest.mark.skipif(cudart.probe()[0] > 0, reason="there is a GPU")
def test_the_librarys_own_check_of_an_engine_is_asked_first(files: Any, tmp_path: Path) -> None:
    """The real runtime, without a driver: the validity check refuses, and its reason is in the message."""
    path = tmp_path / "m.engine"
    rtx.build(files.fp16, path, compute_capabilities=["SM86"])
    trt, _ = rtx.library()
    log = make_logger(trt)
    with pytest.raises(EngineError, match=r"refused by the library: .*CUDA driver"):
        deserialised(trt, "tensorrt_rtx", trt.Runtime(log), log, path.name, path.read_bytes())
