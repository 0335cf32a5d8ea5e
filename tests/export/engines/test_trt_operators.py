"""Protects: a graph that TensorRT documents not to read is refused by one sentence, before its parser sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import graph
from export.engines.trt_operators import (
    NEWEST,
    OLDEST,
    check_operators,
    describe,
    supported,
    unsupported,
)
from export.errors import BuildError


def model_of(
    op: str,
    inputs: int = 1,
    *,
    constants: dict[int, Any] | None = None,
    outputs: int = 1,
    kind: int = TensorProto.FLOAT,
    domain: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """One node; inputs are [2, 4, 8, 8] of type `kind`, or the constants given by position."""
    given = constants or {}
    names = [f"c{i}" if i in given else f"x{i}" for i in range(inputs)]
    node = helper.make_node(
        op, names, [f"y{i}" for i in range(outputs)], "the_node", domain=domain, **attributes
    )
    return helper.make_model(
        helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info(n, kind, [2, 4, 8, 8]) for n in names if n.startswith("x")],
            [helper.make_empty_tensor_value_info(f"y{i}") for i in range(outputs)],
            [numpy_helper.from_array(np.asarray(value), f"c{i}") for i, value in given.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )


def test_every_listed_operator_exists_in_onnx() -> None:
    """Protects the table against misspelt names; four of them are older than ONNX 1.23's schemas."""
    schemas = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    historic = {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
    assert supported(NEWEST) - schemas <= historic


def test_versions_add_operators() -> None:
    assert supported((10, 3)) < supported((10, 5)) < supported(NEWEST)
    assert "STFT" not in supported((10, 3)) and "STFT" in supported((10, 5))
    assert len(supported((10, 3))) == 150


def test_the_message_names_operator_node_and_version() -> None:
    model = model_of("NegativeLogLikelihoodLoss", 2)
    with pytest.raises(BuildError) as caught:
        check_operators(model, (10, 3, 0, 26))
    assert (
        caught.value.what
        == "operator NegativeLogLikelihoodLoss at node the_node is not supported by TensorRT 10.3"
    )
    assert "ONNX Runtime" in caught.value.fix


def test_more_than_one_node_is_counted() -> None:
    model = model_of("Det")
    model.graph.node.append(helper.make_node("Unique", ["y0"], ["z"], "other"))
    with pytest.raises(BuildError, match=r"Det at node the_node .* 10\.3, and 1 more nodes"):
        check_operators(model)


def test_an_operator_of_a_later_version_says_which() -> None:
    (problem,) = unsupported(model_of("RMSNormalization", 2))
    assert describe(problem).endswith("TensorRT 10.3: it came with 10.15")
    assert unsupported(model_of("RMSNormalization", 2), NEWEST) == []


def test_versions_that_the_table_does_not_know_are_left_to_their_parser() -> None:
    model = model_of("Det")
    assert unsupported(model, OLDEST) and unsupported(model, NEWEST)
    assert unsupported(model, (8, 6, 1)) == unsupported(model, (11, 4)) == []


INT8, UINT8 = np.int8, np.uint8
ONE = np.float32(1)
FOUR = {position: np.ones(4, np.float32) for position in range(1, 5)}
REFUSED = [
    (model_of("Swish", domain="com.example"), "com.example::Swish", "own domain"),
    (model_of("MaxPool", kernel_shape=[2, 2], outputs=2), "MaxPool", "indices"),
    (model_of("AveragePool", kernel_shape=[2, 2], dilations=[2, 2]), "AveragePool", "dilations"),
    (model_of("AveragePool", kernel_shape=[2]), "AveragePool", "2D and 3D"),
    (model_of("LayerNormalization", 2, outputs=2), "LayerNormalization", "first output"),
    (model_of("QuantizeLinear", 3, constants={1: ONE, 2: INT8(3)}), "QuantizeLinear", "other than 0"),
    (model_of("QuantizeLinear", 3, constants={1: ONE, 2: UINT8(0)}), "QuantizeLinear", "UINT8"),
    (model_of("QuantizeLinear", 2, constants={1: ONE}), "QuantizeLinear", "unsigned"),
    (model_of("DequantizeLinear", 2, constants={1: ONE}, kind=TensorProto.INT32), "DequantizeLinear", "INT32"),
    (model_of("Resize", 1, mode="cubic"), "Resize", "cubic"),
    (model_of("Resize", 1, antialias=1), "Resize", "antialiasing"),
    (model_of("ReduceMean", 2), "ReduceMean", "axes"),
    (model_of("Squeeze", 2), "Squeeze", "axes"),
    (model_of("Pad", 4, constants={1: np.zeros(2, np.int64), 3: np.array([3])}), "Pad", "axes"),
    (model_of("Pow", 2, constants={1: np.array(2)}), "Pow", "integer exponent"),
    (model_of("Einsum", 2, equation="...ij,jk->...ik"), "Einsum", "ellipsis"),
    (model_of("Einsum", 1, equation="ii->i"), "Einsum", "diagonal"),
    (model_of("ScatterND", 3, reduction="add"), "ScatterND", "reduction"),
    (model_of("TopK", 2, constants={1: np.array([4000])}), "TopK", "3840"),
    (model_of("Transpose", kind=TensorProto.UINT8), "Transpose", "UINT8"),
    (
        model_of("BatchNormalization", 5, constants=FOUR, kind=TensorProto.FLOAT16),
        "BatchNormalization",
        "different types",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("model", "operator", "reason"), REFUSED)
def test_restrictions(model: onnx.ModelProto, operator: str, reason: str) -> None:
    (problem,) = unsupported(model)
    assert (problem.operator, problem.node) == (operator, "the_node")
    assert reason in problem.reason


@pytest.mark.parametrize(
    "model",
    [
        model_of("QuantizeLinear", 3, constants={1: ONE, 2: INT8(0)}),
        model_of("MaxPool", kernel_shape=[2, 2], dilations=[1, 1]),
        model_of("ReduceMean", 2, constants={1: np.array([2, 3])}),
        model_of("Pow", 2, constants={1: np.float32(2)}),
        model_of("Resize", 1, mode="linear"),
        model_of("Cast", kind=TensorProto.UINT8, to=TensorProto.FLOAT),
        model_of("Einsum", 2, equation="ij,jk->ik"),
    ],
)
def test_what_is_documented_passes(model: onnx.ModelProto) -> None:
    check_operators(model)


def test_restrictions_end_with_the_version_that_lifts_them() -> None:
    model = model_of("Pow", 2, constants={1: np.array(2)})
    assert unsupported(model, (10, 7)) and not unsupported(model, (10, 8))


def test_nodes_of_branches_are_looked_at() -> None:
    inner = helper.make_graph(
        [helper.make_node("Det", ["x0"], ["d"], "inner")],
        "then",
        [],
        [helper.make_empty_tensor_value_info("d")],
    )
    model = model_of("If", 1, kind=TensorProto.BOOL, then_branch=inner, else_branch=inner)
    assert {problem.node for problem in unsupported(model)} == {"inner"}


def test_our_files_pass_and_the_cpu_layout_does_not(files: Any) -> None:
    """Protects the division of labour: what is made for TensorRT parses there, what is made for CPUs is not."""
    for path in (files.fp32, files.fp16, files.int8):
        check_operators(graph.load_model(path))
    with pytest.raises(BuildError, match="UINT8"):
        check_operators(graph.load_model(files.int8_cpu))
