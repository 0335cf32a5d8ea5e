"""Protects: graph rewrites keep the function that a graph computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export import graph


def run(model: onnx.ModelProto, image: Any) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {model.graph.input[0].name: image})[0]


def preprocessing_model(steps: list[tuple[str, Any, bool]], perm: list[int]) -> onnx.ModelProto:
    nodes = [helper.make_node("Cast", ["image"], ["t0"], "cast", to=TensorProto.FLOAT)]
    tensors = []
    for index, (op, value, left) in enumerate(steps):
        tensors.append(numpy_helper.from_array(np.asarray(value, np.float32), f"c{index}"))
        names = [f"t{index}", f"c{index}"]
        nodes.append(helper.make_node(op, names if left else names[::-1], [f"t{index + 1}"], f"n{index}"))
    nodes.append(helper.make_node("Transpose", [f"t{len(steps)}"], ["out"], "transpose", perm=perm))
    nodes.append(helper.make_node("Relu", ["out"], ["y"], "relu"))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 4, 5, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], [y], tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    return model


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Div", "Sub", "Mul", "Add"]),
            st.one_of(
                st.floats(0.25, 300, width=32),
                st.lists(st.floats(0.25, 3, width=32), min_size=3, max_size=3),
            ),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_folded_normalisation_computes_the_same(steps: list[tuple[str, Any, bool]]) -> None:
    steps = [(op, value, left or op == "Div") for op, value, left in steps]
    model = preprocessing_model(steps, [0, 3, 1, 2])
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    before = run(model, image)
    graph.fold_normalisation(model)
    assert [n.op_type for n in model.graph.node] == ["Cast", "Transpose", "BatchNormalization", "Relu"]
    after = run(model, image)
    # Terms that cancel leave rounding errors of their own size behind, not of the result's.
    np.testing.assert_allclose(
        after, before, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(before).max())) + 2e-2
    )


@pytest.mark.parametrize(
    ("steps", "perm"),
    [
        ([("Mul", 2.0, True)], [0, 1, 3, 2]),
        ([("Div", 2.0, False)], [0, 3, 1, 2]),
        ([("Mul", np.ones((4, 5, 3)), True)], [0, 3, 1, 2]),
        ([], [0, 3, 1, 2]),
    ],
)
def test_other_preprocessing_is_left_alone(steps: list[tuple[str, Any, bool]], perm: list[int]) -> None:
    model = preprocessing_model(steps, perm)
    before = model.SerializeToString()
    graph.fold_normalisation(model)
    assert model.SerializeToString() == before


def test_preprocessing_ends_at_the_first_convolution(files: Any) -> None:
    model = graph.load_model(files.fp32)
    types = {node.name: node.op_type for node in model.graph.node}
    assert [types[name] for name in graph.preprocessing(model)] == ["Cast", "Transpose", "BatchNormalization"]


def test_prune_drops_what_nothing_needs() -> None:
    model = preprocessing_model([("Mul", 2.0, True)], [0, 3, 1, 2])
    model.graph.node.append(helper.make_node("Relu", ["out"], ["dead"], "dead"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "unused"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    graph.prune(model)
    assert "dead" not in {n.name for n in model.graph.node}
    assert [t.name for t in model.graph.initializer] == ["c0"]
    assert [e.domain for e in model.opset_import] == [""]
