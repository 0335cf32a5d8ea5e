"""Protects: an FP16 or INT8 file as FP32 computes the same, and says what it had computed in FP32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export import graph
from export.precision import to_fp16
from export.precision.widen import widen

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def run(model: onnx.ModelProto, images: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["WeightBiasQuantization"],
    )
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def kinds(model: onnx.ModelProto) -> set[int]:
    found = set(graph.value_types(model).values())
    for node in model.graph.node:
        found |= {a.i for a in node.attribute if a.name == "to"}
        found |= {a.t.data_type for a in node.attribute if a.name == "value"}
    return found


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_a_file_loses_its_halves_and_keeps_its_answers(files: Any, name: str) -> None:
    """No FP16 is left, every scale keeps its value, and the classes of all images stay."""
    model = graph.load_model(getattr(files, name))
    before = model.SerializeToString()
    wide, single = widen(model)
    assert model.SerializeToString() == before and HALF in kinds(model) and HALF not in kinds(wide)
    onnx.checker.check_model(wide, full_check=True)
    assert not any(node.name.startswith(("to_fp16_", "to_fp32_")) for node in wide.graph.node)
    assert [(v.name, v.type.tensor_type.elem_type) for v in wide.graph.output] == [
        (v.name, FLOAT) for v in model.graph.output
    ]
    ours, theirs = run(wide, files.images), run(model, files.images)
    assert np.abs(ours - theirs).max() < 0.03 * np.abs(theirs).max()
    assert np.mean(ours.argmax(1) == theirs.argmax(1)) > 0.99
    halves = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == HALF}
    singles = {t.name: onnx.numpy_helper.to_array(t) for t in wide.graph.initializer}
    assert halves and all(np.array_equal(value, singles[key]) for key, value in halves.items())
    # The normalisation of raw pixels is FP32 in every file.
    held = {node.name: node.op_type for node in wide.graph.node if node.name in single}
    assert set(held) == set(single) and "BatchNormalization" in held.values() and "Conv" not in held.values()


def test_an_fp32_file_is_returned_as_it_is(files: Any) -> None:
    wide, single = widen(graph.load_model(files.fp32))
    assert (
        single == ()
        and run(wide, files.images[:4]).tobytes()
        == run(graph.load_model(files.fp32), files.images[:4]).tobytes()
    )


def test_nodes_that_stay_fp32_are_named(files: Any, tmp_path: Path) -> None:
    """By type, as a range check or `keep_fp32` left them."""
    to_fp16(files.fp32, tmp_path / "mixed.onnx", keep_fp32=["HardSwish", "Gemm"])
    model = graph.load_model(tmp_path / "mixed.onnx")
    types = {node.name: node.op_type for node in model.graph.node}
    assert {"HardSwish", "Gemm"} <= {types[name] for name in widen(model)[1]}


@pytest.mark.parametrize("kind", [FLOAT, HALF])
def test_casts_between_an_input_and_an_output_keep_both_names(kind: int) -> None:
    """There is nobody to give a name to."""
    other = HALF if kind == FLOAT else FLOAT
    piece = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["y"], to=other),
            helper.make_node("Relu", ["y"], ["r"]),
            helper.make_node("Cast", ["r"], ["z"], to=kind),
            helper.make_node("Cast", ["z"], ["again"], to=other),
        ],
        "g",
        [helper.make_tensor_value_info("x", kind, [3])],
        [
            helper.make_tensor_value_info(name, k, [3])
            for name, k in (("y", other), ("z", kind), ("again", other))
        ],
    )
    model = helper.make_model(piece, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    wide, _ = widen(model)
    onnx.checker.check_model(wide, full_check=True)
    assert [value.name for value in wide.graph.output] == ["y", "z", "again"]
    assert HALF not in kinds(wide)
    import onnxruntime

    session = onnxruntime.InferenceSession(wide.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(None, {"x": np.array([-1, 2, 3], np.float32)})
    np.testing.assert_array_equal(values, [[-1, 2, 3], [0, 2, 3], [0, 2, 3]])
