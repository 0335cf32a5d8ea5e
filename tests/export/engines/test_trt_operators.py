"""Protects: a graph that TensorRT documents not to read is refused by one sentence, before its parser sees it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import graph
from export.engines.trt_operators import (
    NEWEST,
    OLDEST,
    describe,
    operator_problem,
    supported,
    unsupported,
)


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
    assert len(supported((10, 3))) == 149


def test_the_message_names_operator_node_and_version() -> None:
    model = model_of("NegativeLogLikelihoodLoss", 2)
    problem = operator_problem(model, (10, 3, 0, 26))
    assert problem is not None
    assert (
        problem[0] == "operator NegativeLogLikelihoodLoss at node the_node is not supported by TensorRT 10.3"
    )
    assert "ONNX Runtime" in problem[1]


def test_more_than_one_node_is_counted() -> None:
    model = model_of("Det")
    model.graph.node.append(helper.make_node("Unique", ["y0"], ["z"], "other"))
    problem = operator_problem(model)
    assert problem is not None
    assert re.search(r"Det at node the_node .* 10\.3, and 1 more nodes", problem[0])


def test_an_operator_of_a_later_version_says_which() -> None:
    (problem,) = unsupported(model_of("RMSNormalization", 2))
    assert describe(problem).endswith("TensorRT 10.3: it came with 10.15")
    assert unsupported(model_of("RMSNormalization", 2), NEWEST) == []


def test_versions_that_the_table_does_not_know_are_left_to_their_parser() -> None:
    model = model_of("Det")
    assert unsupported(model, OLDEST) and unsupported(model, NEWEST)
    assert unsupported(model, (8, 4, 3)) == unsupported(model, (11, 4)) == []


def test_what_needs_a_plugin_is_not_read() -> None:
    """Plugins are registered by trtexec alone; an operator that one parser takes and the other not is taken by none."""
    assert {problem.operator for problem in unsupported(model_of("DeformConv", 3), NEWEST)} == {"DeformConv"}


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
    assert operator_problem(model) is None


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
        assert operator_problem(graph.load_model(path)) is None
    problem = operator_problem(graph.load_model(files.int8_cpu))
    assert problem is not None and "UINT8" in problem[0]


@pytest.mark.parametrize(
    ("model", "version", "reason"),
    [
        (model_of("LayerNormalization", 2), (8, 5), "came with 8.6"),
        (model_of("Gelu"), (8, 6), "came with 10.0"),
        (model_of("Mish"), (8, 6), "came with 10.0"),
        (model_of("Shape", start=1), (8, 6), "its start is not"),
        (model_of("Shape", start=1, end=2), (8, 5), "its start and end are not"),
        (model_of("DequantizeLinear", 2, constants={1: ONE}), (8, 6), "without a zero point"),
        (model_of("TopK", 2), (8, 5), "numbers K that are computed"),
        (model_of("InstanceNormalization", 3), (8, 5), "scales that are computed"),
    ],
)
def test_jetpack_5_and_6_0(model: onnx.ModelProto, version: tuple[int, int], reason: str) -> None:
    """8.5 and 8.6 read less than 10, and two of their importers skip what they do not know without a word."""
    assert reason in unsupported(model, version)[0].reason
    assert not unsupported(model, (10, 3))


def test_versions_before_10_have_the_documented_number_of_operators() -> None:
    """As `docs/operators.md` of onnx-tensorrt's branches 8.5-GA and 8.6-GA mark them `Y`."""
    assert (len(supported((8, 5))), len(supported((8, 6)))) == (142, 145)
