"""Protects: FP16 files keep their interface, their predictions, and FP32 where FP16 would break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import graph
from export.engines import BACKENDS
from export.errors import PrecisionError
from export.onnx import describe
from export.precision import to_fp16


def logits(path: Path, images: Any) -> Any:
    return BACKENDS["onnxruntime"].load(path, threads=1).infer(images)


def test_predictions_and_interface_stay(files: Any) -> None:
    exact, half = logits(files.fp32, files.images), logits(files.fp16, files.images)
    assert half.dtype == np.float32
    assert (exact.argmax(1) == half.argmax(1)).mean() > 0.99
    assert 0 < np.abs(exact - half).max() < 0.05 * np.abs(exact).max()
    for key in ("inputs", "outputs", "opset"):
        assert describe(files.fp16)[key] == describe(files.fp32)[key]


def test_weights_are_half_and_normalisation_is_single(files: Any) -> None:
    model = graph.load_model(files.fp16)
    types = graph.value_types(model)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert {types[name] for name in node.input} == {TensorProto.FLOAT16}
    normalise = next(n for n in model.graph.node if n.op_type == "BatchNormalization")
    assert {types[name] for name in normalise.input} == {TensorProto.FLOAT}


def test_two_casts_suffice_and_bytes_repeat(files: Any, tmp_path: Path) -> None:
    facts = to_fp16(files.fp32, tmp_path / "a.onnx")
    assert facts["casts"] == 2 and facts["weights_flushed"] == 0 and facts["bytes"] > 0
    assert facts["fp32_nodes"] == {"BatchNormalization": 1, "Transpose": 1}
    assert (tmp_path / "a.onnx").read_bytes() == files.fp16.read_bytes()


def test_kept_nodes(files: Any, tmp_path: Path) -> None:
    facts = to_fp16(files.fp32, tmp_path / "g.onnx", keep_fp32=("Gemm", "backbone.0.weight"))
    assert facts["fp32_nodes"]["Gemm"] == 1 and facts["fp32_nodes"]["Conv"] == 1
    np.testing.assert_allclose(
        logits(tmp_path / "g.onnx", files.images), logits(files.fp32, files.images), atol=0.2
    )
    with pytest.raises(PrecisionError, match=r"no node matches 'Gem'.*Gemm"):
        to_fp16(files.fp32, tmp_path / "x.onnx", keep_fp32=("Gem",))


def test_values_beyond_half_range_stay_single(tmp_path: Path) -> None:
    """x * 1e5 / 1e5 overflows in FP16 and must come back unharmed."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Mul", ["a", "big"], ["b"], "up"),
        helper.make_node("Div", ["b", "big"], ["y"], "down"),
    ]
    tensors = [
        numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"),
        numpy_helper.from_array(np.array(1e5, np.float32), "big"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    source = tmp_path / "s.onnx"
    onnx.save(model, str(source))
    facts = to_fp16(source, tmp_path / "h.onnx")
    assert facts["fp32_nodes"] == {"Div": 1, "Mul": 1}
    values = np.array([[1.0, 2.0, -3.0, 0.5]], np.float32)
    np.testing.assert_allclose(logits(tmp_path / "h.onnx", values), values, rtol=1e-3)


def test_an_epsilon_that_half_rounds_to_zero_still_guards(tmp_path: Path) -> None:
    """Protects v / max(|v|, 1e-12) of a vector of zeros (EdgeNeXt's attention): 0 / 0 in FP16 is NaN."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["v"], "product"),
        helper.make_node("ReduceL2", ["v", "axis"], ["norm"], "norm", keepdims=1),
        helper.make_node("Clip", ["norm", "tiny"], ["safe"], "clip"),
        helper.make_node("Expand", ["safe", "shape"], ["wide"], "expand"),
        helper.make_node("Div", ["v", "wide"], ["y"], "divide"),
    ]
    tensors = [
        numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.array(1e-12, np.float32), "tiny"),
        numpy_helper.from_array(np.array([1, 4], np.int64), "shape"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    source = tmp_path / "s.onnx"
    onnx.save(model, str(source))
    facts = to_fp16(source, tmp_path / "h.onnx")
    assert facts["fp32_nodes"] == {"Clip": 1, "Div": 1, "Expand": 1, "ReduceL2": 1}
    values = np.array([[0.0, 0, 0, 0], [3.0, 0, 4, 0]], np.float32)
    np.testing.assert_allclose(
        logits(tmp_path / "h.onnx", values), [[0.0, 0, 0, 0], [0.6, 0, 0.8, 0]], rtol=1e-3
    )


def test_refuses_what_is_not_fp32(files: Any, tmp_path: Path) -> None:
    with pytest.raises(PrecisionError, match="FP16 or BF16 weights already"):
        to_fp16(files.fp16, tmp_path / "x.onnx")
    with pytest.raises(PrecisionError, match="quantised already"):
        to_fp16(files.int8_cpu, tmp_path / "x.onnx")
