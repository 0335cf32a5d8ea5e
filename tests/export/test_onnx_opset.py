"""Protects: a graph in an older operator set computes the same numbers, or is refused by the name of its operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export import graph
from export.errors import ExportError
from export.onnx_opset import _UNCHANGED, HIGHEST, LOWEST, lower

SHAPE = (2, 4, 6, 8)
Arrays = list[np.ndarray[Any, Any]]


def of(
    op: str,
    constants: tuple[Any, ...] = (),
    *,
    outputs: int = 1,
    opset: int = 20,
    kind: int = TensorProto.FLOAT,
    result: int = TensorProto.FLOAT,
    shape: tuple[int, ...] = SHAPE,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node named `n` on [2, 4, 6, 8] and constants; None leaves an input out."""
    names = ["x", *("" if value is None else f"c{i}" for i, value in enumerate(constants))]
    made = [f"y{i}" for i in range(outputs)]
    piece = helper.make_graph(
        [helper.make_node(op, names, made, "n", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, result, None) for name in made],
        [numpy_helper.from_array(np.asarray(v), f"c{i}") for i, v in enumerate(constants) if v is not None],
    )
    return helper.make_model(piece, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def run(model: onnx.ModelProto) -> Arrays:
    """ONNX Runtime's outputs, nothing optimised."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    given_ = session.get_inputs()[0]
    dtype = {"tensor(float)": np.float32, "tensor(float16)": np.float16}[given_.type]
    outputs: Arrays = session.run(None, {given_.name: rng.standard_normal(given_.shape).astype(dtype)})
    return outputs


def agree(model: onnx.ModelProto, opset: int, ulp: int = 0) -> onnx.ModelProto:
    """The lowered graph, after its outputs were compared."""
    before = model.SerializeToString()
    lowered = lower(model, opset)
    assert model.SerializeToString() == before  # the caller's graph is left alone
    assert graph.opset(lowered) == opset
    onnx.checker.check_model(lowered, full_check=True)
    for ours, theirs in zip(run(lowered), run(model), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        if ulp:
            scale = np.maximum(np.abs(theirs), 1.0).astype(theirs.dtype)
            assert np.all(np.abs(ours - theirs) <= ulp * np.spacing(scale))
        else:
            np.testing.assert_array_equal(ours, theirs)
    return lowered


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


HALF_CHANNELS = np.linspace(0.5, 2, 4, dtype=np.float32)
SAME = {
    "axes of a mean": of("ReduceMean", (i64(2, 3),)),
    "axes from the end": of("ReduceL2", (i64(-1),), keepdims=0),
    "a mean of all": of("ReduceMean"),
    "no axes": of("ReduceMax", (i64(),)),
    "a sum, which has had inputs for long": of("ReduceSum", (i64(1),)),
    "equal parts": of("Split", outputs=2, axis=3, num_outputs=2),
    "a last part that is smaller": of("Split", outputs=3, axis=3, num_outputs=3),
    "parts of given sizes": of("Split", (i64(3, 5),), outputs=2, axis=3),
    "padding": of("Pad", (i64(0, 0, 1, 1, 0, 0, 1, 1), np.float32(0))),
    "padding of some axes": of("Pad", (i64(1, 0, 2, 1), np.float32(0.5), i64(-1, 2))),
    "reflection": of("Pad", (i64(0, 0, 1, 1, 0, 0, 1, 1),), mode="reflect"),
    "scales": of("Resize", (None, f32(1, 1, 2, 2)), mode="linear"),
    "scales of some axes": of("Resize", (None, f32(2, 2)), mode="linear", axes=[2, 3]),
    "sizes of some axes": of("Resize", (None, None, i64(12, 20)), mode="nearest", axes=[2, 3]),
    "attributes with their defaults": of(
        "Resize", (None, f32(1, 1, 2, 2)), antialias=0, keep_aspect_ratio_policy="stretch"
    ),
    "pooling": of("LpPool", kernel_shape=[2, 2], ceil_mode=0, dilations=[1, 1]),
    "a grid": of("GridSample", (np.zeros((2, 3, 3, 2), np.float32),), mode="linear"),
    "a cast": of("Cast", to=TensorProto.INT32, saturate=1, result=TensorProto.INT32),
    "a constant shape": of("Expand", (i64(2, 4, 6, 8),)),
    "part of a shape": of("Shape", start=1, end=3, result=TensorProto.INT64),
    "scales of channels": of(
        "QuantizeLinear", (HALF_CHANNELS, np.zeros(4, np.int8)), axis=1, result=TensorProto.INT8
    ),
    "a quantised type said twice": of(
        "QuantizeLinear", (np.float32(0.1), np.uint8(0)), opset=21, output_dtype=TensorProto.UINT8,
        result=TensorProto.UINT8,
    ),
    "mish": of("Mish"),
    "hard swish of opset 22": of("HardSwish", opset=22),
    "convolution of opset 22": of("Conv", (np.ones((3, 4, 3, 3), np.float32),), opset=22, pads=[1, 1, 1, 1]),
}  # fmt: skip
WRITTEN_OUT = {
    "gelu": of("Gelu"),
    "gelu by tanh": of("Gelu", approximate="tanh"),
    "groups with a scale each": of("GroupNormalization", (f32(1, 2), f32(0, 1)), num_groups=2),
    "groups, channels with a scale each": of(
        "GroupNormalization", (HALF_CHANNELS, HALF_CHANNELS), num_groups=2, opset=21
    ),
}


@pytest.mark.parametrize("opset", [16, 17])
@pytest.mark.parametrize("name", SAME)
def test_what_changed_in_form_computes_the_same_bits(name: str, opset: int) -> None:
    lowered = agree(SAME[name], opset)
    assert [node.name for node in lowered.graph.node][-1].split("/")[0] == "n"


@pytest.mark.parametrize("opset", [16, 17])
@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_what_is_written_out_computes_the_same_but_for_rounding(name: str, opset: int) -> None:
    """Within some units in the last place of a value of magnitude 1: another order of the same operations."""
    agree(WRITTEN_OUT[name], opset, ulp=8)


@pytest.mark.parametrize("parts", [("scale", "bias"), ("scale",)])
def test_layer_norm_is_written_out_below_17_only(parts: tuple[str, ...]) -> None:
    """TensorRT 8.6 reads it, 8.5 does not."""
    model = of(
        "LayerNormalization", tuple(np.linspace(1, 2, 8, dtype=np.float32) for _ in parts), epsilon=1e-6
    )
    assert [node.op_type for node in agree(model, 17).graph.node] == ["LayerNormalization"]
    names = [node.name for node in agree(model, 16, ulp=8).graph.node]
    assert all(name.startswith("n/") for name in names) and len(set(names)) == len(names)


def test_halves_stay_halves() -> None:
    """Constants of what is written out have the type of the values."""
    model = of("Gelu", kind=TensorProto.FLOAT16, result=TensorProto.FLOAT16)
    agree(model, 17, ulp=8)


REFUSED = {
    "mode wrap": of("Pad", (i64(0, 0, 1, 1, 0, 0, 1, 1),), mode="wrap"),
    "antialias 1": of("Resize", (None, f32(1, 1, 0.5, 0.5)), mode="linear", antialias=1),
    "keep_aspect_ratio_policy not_larger": of(
        "Resize", (None, None, i64(12, 20)), axes=[2, 3], keep_aspect_ratio_policy="not_larger"
    ),
    "half_pixel_symmetric": of(
        "Resize", (None, f32(1, 1, 2, 2)), coordinate_transformation_mode="half_pixel_symmetric"
    ),
    r"dilations \[2, 2\]": of("AveragePool", kernel_shape=[2, 2], dilations=[2, 2]),
    "ceil_mode 1": of("LpPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "reduction max": of(
        "ScatterElements", (np.zeros(SHAPE, np.int64), np.ones(SHAPE, np.float32)), reduction="max"
    ),
    "noop_with_empty_axes": of("ReduceMean", noop_with_empty_axes=1),
    "block_size 2": of(
        "QuantizeLinear", (np.ones((2, 4, 6, 4), np.float32), np.zeros((2, 4, 6, 4), np.int8)), opset=21, axis=3,
        block_size=2, result=TensorProto.INT8,
    ),
    "came or changed with opset 18": of("BitwiseNot", kind=TensorProto.INT32, result=TensorProto.INT32),
    "came or changed with opset 23": of("RMSNormalization", (np.ones(8, np.float32),), opset=23),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_older_set_cannot_say_is_refused_by_name(reason: str) -> None:
    """Not approximated, and not left for a parser to misread."""
    model = REFUSED[reason]
    with pytest.raises(
        ExportError, match=rf"operator {model.graph.node[0].op_type} at node n .*{reason}.*17"
    ):
        lower(model, 17)


def test_axes_that_are_computed_are_refused() -> None:
    model = of("ReduceMean", (i64(1),))
    model.graph.initializer.pop()
    model.graph.input.append(helper.make_tensor_value_info("c0", TensorProto.INT64, [1]))
    with pytest.raises(ExportError, match="has axes that are computed"):
        lower(model, 17)


def test_a_graph_of_the_wanted_set_is_returned_as_it_is() -> None:
    model = of("Relu", opset=17)
    assert lower(model, 17) == model and lower(model, 20) == model
    with pytest.raises(ExportError, match=f"{LOWEST + 2} to {HIGHEST}"):
        lower(of("Relu", opset=24), 17)


@pytest.mark.parametrize("name", _UNCHANGED.split())
def test_what_is_listed_as_unchanged_is(name: str) -> None:
    """By ONNX's own definitions: the same inputs and outputs, and attributes with the same defaults."""
    old, new = (onnx.defs.get_schema(name, opset) for opset in (LOWEST, HIGHEST))
    assert [i.option for i in old.inputs] == [i.option for i in new.inputs]
    assert len(old.outputs) == len(new.outputs)
    for attribute, definition in old.attributes.items():
        later = new.attributes[attribute]
        assert (definition.required, definition.default_value) == (later.required, later.default_value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-4, 3), min_size=1, max_size=4, unique_by=lambda axis: axis % 4),
    st.sampled_from(["ReduceMax", "ReduceMean", "ReduceMin", "ReduceL1", "ReduceSumSquare"]),
    st.integers(0, 1),
)
def test_any_axes_of_any_reduction(axes: list[int], op: str, keepdims: int) -> None:
    agree(of(op, (i64(*axes),), keepdims=keepdims), 17)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-4, 3), min_size=1, max_size=4, unique_by=lambda axis: axis % 4),
    st.data(),
    st.sampled_from(["constant", "edge", "reflect"]),
)
def test_any_padding_of_any_axes(axes: list[int], data: st.DataObject, mode: str) -> None:
    """Rows that are put back among all axes in the wrong order would show."""
    most = [SHAPE[axis] - 1 for axis in axes] * 2
    pads = [data.draw(st.integers(0, size)) for size in most]
    agree(of("Pad", (i64(*pads), np.float32(0.25), i64(*axes)), mode=mode), 17)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(-4, 3))
def test_any_number_of_parts(parts: int, axis: int) -> None:
    """As many as each has one element at least; ONNX Runtime refuses the others as well."""
    size = SHAPE[axis]
    if size - -(-size // parts) * (parts - 1) < 1:
        return
    agree(of("Split", outputs=parts, axis=axis, num_outputs=parts), 17)


def test_whole_files_of_every_precision(files: Any) -> None:
    """An exported network, its FP16 and its INT8 file."""
    rng = np.random.default_rng(0)
    for path in (files.fp32, files.fp16, files.int8):
        model = graph.load_model(path)
        if path == files.fp32:
            lowered = lower(model, 17)
            given_ = model.graph.input[0]
            shape = [d if isinstance(d, int) else 3 for d in graph.shape_of(given_)]
            image = rng.integers(0, 256, shape, np.uint8)
            import onnxruntime

            answers = [
                onnxruntime.InferenceSession(m.SerializeToString()).run(None, {given_.name: image})[0]
                for m in (model, lowered)
            ]
            np.testing.assert_array_equal(*answers)
            assert list(lowered.metadata_props) == list(model.metadata_props)
        elif path == files.int8:
            with pytest.raises(ExportError, match="not valid in opset 17"):  # Q/DQ on FP16 came with 19
                lower(model, 17)
        else:
            lower(model, 17)
