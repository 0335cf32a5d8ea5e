"""Protects: edits of a graph, and rewrites of what the exporter leaves, keep the function that a graph computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export import graph, graph_rewrites
from export.errors import ExportError
from export.onnx import export_onnx


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
    graph_rewrites.fold_normalisation(model)
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
    graph_rewrites.fold_normalisation(model)
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


class Token(torch.nn.Module):
    """A class token beside the patches, as vision transformers have it: expanded to the image's batch."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 4, 4, 4)
        self.token = torch.nn.Parameter(torch.ones(1, 1, 4))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = (image.to(torch.float32) * 0.01 - 0.5).permute(0, 3, 1, 2)
        x = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(image.shape[0], -1, -1), x], 1).mean(1)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("token") / "token.onnx"
    torch.manual_seed(0)
    export_onnx(Token(), torch.zeros(1, 8, 8, 3, dtype=torch.uint8), path, dynamic_batch=True)
    return path


def test_the_batch_is_not_asked_of_the_image(token: Path) -> None:
    """Protects ViTs: TensorRT takes no Shape of UINT8, and a second reader keeps the normalisation from folding."""
    model = graph.load_model(token)
    assert {node.op_type for node in graph.consumers(model)["image"]} == {"Cast"}
    assert [n.op_type for n in model.graph.node].count("BatchNormalization") == 1
    for batch in (1, 3):
        images = np.random.default_rng(0).integers(0, 256, (batch, 8, 8, 3), np.uint8)
        torch.manual_seed(0)
        expected = Token()(torch.from_numpy(images)).detach().numpy()
        np.testing.assert_allclose(run(model, images), expected, rtol=1e-4, atol=1e-5)


def test_a_fixed_batch_leaves_no_shape_arithmetic(token: Path) -> None:
    """Protects static engines: what only depends on the batch becomes a constant."""
    model = graph.load_model(token)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    before = run(model, images)
    graph.fix_batch(model, 2)
    assert not {"Shape", "Expand"} & {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, images), before, rtol=1e-6)


def reduction(keepdims: int, axes: list[int]) -> onnx.ModelProto:
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["y"], "mean", keepdims=keepdims)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.array(axes, np.int64), "axes")]
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


@pytest.mark.parametrize(
    ("keepdims", "axes", "operators"),
    [
        (1, [2, 3], ["GlobalAveragePool"]),
        (0, [-1, -2], ["GlobalAveragePool", "Flatten"]),
        (0, [3], ["ReduceMean"]),
        (1, [1, 2], ["ReduceMean"]),
    ],
)
def test_means_over_the_image_become_pools(keepdims: int, axes: list[int], operators: list[str]) -> None:
    """Protects the operator that engines fuse and quantise, whichever way a network writes its last pooling."""
    model = reduction(keepdims, axes)
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    before = run(model, x)
    graph_rewrites.global_pools(model)
    graph.prune(model)
    assert [node.op_type for node in model.graph.node] == operators
    np.testing.assert_allclose(run(model, x), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "left"), [(8, ["Add"]), (2048, ["Expand", "Add"])])
def test_what_is_spread_over_a_lot_stays_computed(side: int, left: list[str]) -> None:
    """Protects the size of files: a small constant that is expanded is not stored in full where that is large."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node("Expand", ["c", "shape"], ["wide"], "expand"),
        helper.make_node("Add", ["x", "wide"], ["y"], "add"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [side, side]) for n in "xy")
    tensors = [numpy_helper.from_array(np.full((1, 1), 2, np.float32), "c")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    graph.infer_shapes(model)
    graph.fold_constants(model)
    assert [node.op_type for node in model.graph.node] == left
    image = np.ones((side, side), np.float32)
    assert (run(model, image) == 3).all()


def test_nodes_are_put_in_order_and_cycles_are_told() -> None:
    model = preprocessing_model([("Mul", 2.0, True)], [0, 3, 1, 2])
    names = [node.name for node in model.graph.node]
    graph.replace_nodes(model, reversed(model.graph.node))
    graph.order_nodes(model)
    assert [node.name for node in model.graph.node] == names
    model.graph.node[0].input[0] = "y"
    with pytest.raises(ExportError, match="cycle"):
        graph.order_nodes(model)
