"""Protects: each rule of INT8 does what it says, on the smallest graph that has the layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import graph
from export.cpu_layouts import CPU_LAYOUTS
from export.precision import RULES, kept_out, observe, quantise_for_onnxruntime, quantise_for_tensorrt, ranges
from export.precision.rules import fit_saturation

RNG = np.random.default_rng(0)


def weight(*shape: int) -> Any:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def conv(source: str, target: str, **attributes: Any) -> onnx.NodeProto:
    """A convolution named after its output, with weights `<target>_w`."""
    return helper.make_node("Conv", [source, f"{target}_w"], [target], target, **attributes)


def op(kind: str, sources: str, target: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, sources.split(), [target], target, **attributes)


HEAD = [
    op("GlobalAveragePool", "end", "pooled"),
    op("Flatten", "pooled", "flat"),
    op("Gemm", "flat fc_w", "y"),
]


def model_of(
    nodes: list[onnx.NodeProto], tensors: dict[str, Any], shape: tuple[int, ...] = (4, 8, 8)
) -> onnx.ModelProto:
    """A graph from `x` [batch, *shape] to `y`, checked."""
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    graph.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def quantised(model: onnx.ModelProto, layout: str, **options: Any) -> onnx.ModelProto:
    shape = [int(dim) for dim in graph.shape_of(model.graph.input[0])[1:]]
    images = RNG.standard_normal((32, *shape)).astype(np.float32)
    seen = observe(model, [images], histograms=False)
    make = (
        quantise_for_tensorrt
        if layout == "tensorrt"
        else partial(quantise_for_onnxruntime, cpu=CPU_LAYOUTS["u8s8"])
    )
    result = make(model, ranges(seen, method="minmax"), **options)
    onnx.checker.check_model(result, full_check=True)
    onnxruntime.InferenceSession(result.SerializeToString(), providers=["CPUExecutionProvider"])
    return result


def sources(model: onnx.ModelProto, name: str) -> list[str]:
    """Type of the node behind each input of node `name`; `-` for a constant or the image."""
    made = graph.producers(model)
    (node,) = (n for n in model.graph.node if n.name == name)
    return [made[source].op_type if source in made else "-" for source in node.input]


def readers(model: onnx.ModelProto, tensor: str) -> list[str]:
    return [node.op_type for node in graph.consumers(model).get(tensor, [])]


def test_every_rule_has_a_name_a_place_and_a_reason() -> None:
    """The table is what a report and the documentation quote."""
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.does.endswith(".") and rule.because.endswith(".") and rule.layouts
        assert not rule.optional or rule.keeps is not None


@pytest.mark.parametrize("layout", ["tensorrt", "onnxruntime"])
def test_weights_depthwise(layout: str) -> None:
    """Every channel of a depthwise convolution has its own scale, and its own 127 levels."""
    tensors = {"end_w": weight(4, 1, 3, 3), "fc_w": weight(4, 5)}
    tensors["end_w"] *= np.array([1, 0.1, 0.01, 0.001], np.float32)[:, None, None, None]
    made = quantised(model_of([conv("x", "end", group=4), *HEAD], tensors), layout)
    (node,) = (n for n in made.graph.node if n.name == "end")
    scale = graph.constant(made, graph.producers(made)[node.input[1]].input[1])
    assert scale is not None
    np.testing.assert_allclose(scale, np.abs(tensors["end_w"]).max(axis=(1, 2, 3)) / 127, rtol=1e-2)


def residual(shortcut: list[onnx.NodeProto], name: str) -> onnx.ModelProto:
    """Two 3x3 convolutions from `in`, and `name` added to the second one."""
    nodes = [conv("x", "in", kernel_shape=[1, 1]), conv("in", "a", pads=[1] * 4, kernel_shape=[3, 3])]
    nodes += [op("Relu", "a", "r"), conv("r", "b", pads=[1] * 4, kernel_shape=[3, 3]), *shortcut]
    nodes += [op("Add", f"b {name}", "sum"), op("Relu", "sum", "end"), *HEAD]
    tensors = {"in_w": weight(4, 4, 1, 1), "a_w": weight(4, 4, 3, 3), "b_w": weight(4, 4, 3, 3)}
    tensors |= {"s_w": weight(4, 4, 1, 1), "fc_w": weight(4, 5)}
    return model_of(nodes, tensors)


def test_residual_addition_with_identity() -> None:
    """The shortcut is INT8, the convolution that the addition is fused into is not rounded before it."""
    made = quantised(residual([], "in"), "tensorrt")
    assert sources(made, "sum") == ["Conv", "DequantizeLinear"]
    assert readers(made, "b") == ["Add"]


def test_residual_addition_with_projection() -> None:
    """Of two convolutions the one with the smaller kernel is the shortcut."""
    made = quantised(residual([conv("in", "s", kernel_shape=[1, 1])], "s"), "tensorrt")
    assert sources(made, "sum") == ["Conv", "DequantizeLinear"]
    assert readers(made, "s") == ["QuantizeLinear"]


def test_residual_addition_without_fusion() -> None:
    """Where the main branch ends in something else, the shortcut is not rounded."""
    nodes = [conv("x", "in", kernel_shape=[1, 1]), conv("in", "a", kernel_shape=[1, 1]), op("Relu", "a", "r")]
    nodes += [op("Mul", "r gamma", "m"), op("Add", "m in", "end"), *HEAD]
    tensors = {"in_w": weight(4, 4, 1, 1), "a_w": weight(4, 4, 1, 1), "fc_w": weight(4, 5)}
    model = model_of(nodes, tensors | {"gamma": weight(4, 1, 1)})
    made = quantised(model, "tensorrt")
    assert sources(made, "end") == ["Mul", "Conv"]
    assert sources(made, "a") == ["DequantizeLinear", "DequantizeLinear"]


def test_residual_addition_on_the_cpu() -> None:
    """ONNX Runtime computes the addition itself in INT8: both operands and the sum are quantised."""
    made = quantised(residual([], "in"), "onnxruntime")
    assert sources(made, "sum") == ["DequantizeLinear", "DequantizeLinear"]
    assert readers(made, "b") == ["QuantizeLinear"]


def gated(sigmoid: str = "HardSigmoid") -> onnx.ModelProto:
    """x -> convolution -> squeeze and excitation -> convolution -> head."""
    nodes = [conv("x", "t", kernel_shape=[1, 1]), op("HardSwish", "t", "trunk")]
    nodes += [op("GlobalAveragePool", "trunk", "squeezed"), conv("squeezed", "se1", kernel_shape=[1, 1])]
    nodes += [op("Relu", "se1", "se_r"), conv("se_r", "se2", kernel_shape=[1, 1]), op(sigmoid, "se2", "gate")]
    nodes += [op("Mul", "gate trunk", "scaled"), conv("scaled", "end", kernel_shape=[1, 1]), *HEAD]
    tensors = {name: weight(4, 4, 1, 1) for name in ("t_w", "se1_w", "se2_w", "end_w")}
    return model_of(nodes, tensors | {"fc_w": weight(4, 5)})


def test_squeeze_excitation() -> None:
    """The gate is kept out of TensorRT's INT8, the trunk is not; the rule can be switched off."""
    found = kept_out(gated("Sigmoid"), "tensorrt")
    assert found["squeeze_excitation"] == {"se1", "se_r", "se2", "gate"}
    made = quantised(gated(), "tensorrt")
    assert sources(made, "se1") == ["GlobalAveragePool", "-"]
    assert sources(made, "end") == ["DequantizeLinear", "DequantizeLinear"]
    made = quantised(gated(), "tensorrt", without_rules=["squeeze_excitation"])
    assert sources(made, "se1") == ["DequantizeLinear", "DequantizeLinear"]
    assert "squeeze_excitation" not in kept_out(gated(), "onnxruntime")


def test_a_silu_is_no_gate() -> None:
    """x * sigmoid(x), and a gate over space that keeps its height and width, are not squeeze and excitation."""
    nodes = [conv("x", "c", kernel_shape=[1, 1]), op("Sigmoid", "c", "s"), op("Mul", "c s", "silu")]
    nodes += [op("ReduceMean", "silu axes", "mean"), conv("mean", "attend", kernel_shape=[1, 1])]
    nodes += [op("Sigmoid", "attend", "map"), op("Mul", "silu map", "end"), *HEAD]
    tensors = {"c_w": weight(4, 4, 1, 1), "attend_w": weight(1, 1, 1, 1), "fc_w": weight(4, 5)}
    model = model_of(nodes, tensors | {"axes": np.array([1], np.int64)})
    assert set(kept_out(model, "tensorrt")) == {"classifier"}


def test_activations_stay_fused() -> None:
    """TensorRT: nothing between a convolution and its hard-swish, Q/DQ behind it."""
    nodes = [conv("x", "a", kernel_shape=[1, 1]), op("HardSwish", "a", "h"), conv("h", "end"), *HEAD]
    tensors = {"a_w": weight(4, 4, 1, 1), "end_w": weight(4, 4, 1, 1), "fc_w": weight(4, 5)}
    made = quantised(model_of(nodes, tensors), "tensorrt")
    assert readers(made, "a") == ["HardSwish"] and readers(made, "h") == ["QuantizeLinear"]


def test_saturation() -> None:
    """On the CPU the levels of a convolution go where its hard-swish or hard-sigmoid is not constant."""
    nodes = [conv("x", "a"), op("HardSwish", "a", "h"), conv("h", "b")]
    nodes += [op("HardSigmoid", "b", "s", alpha=1 / 6, beta=0.5), conv("s", "end"), *HEAD]
    tensors = {n: 20 * weight(4, 4, 1, 1) for n in ("a_w", "b_w", "end_w")} | {"fc_w": weight(4, 5)}
    model = model_of(nodes, tensors)
    images = RNG.standard_normal((32, 4, 8, 8)).astype(np.float32)
    found = ranges(observe(model, [images], histograms=False), method="minmax")
    fitted = fit_saturation(model, found)
    assert found.bounds["a"][0] < -10 and fitted.bounds["a"] == (-3.0, found.bounds["a"][1])
    assert fitted.bounds["b"] == pytest.approx((-3.0, 3.0))
    assert fitted.bounds["end"] == found.bounds["end"]


def test_logits_are_not_rounded_on_the_cpu() -> None:
    """More than 256 different logits: no ties between close classes."""
    model = residual([], "in")
    made = quantised(model, "onnxruntime")
    assert sources(made, "y") == ["DequantizeLinear", "DequantizeLinear"]
    assert made.graph.output[0].name == "y" and readers(made, "y") == []
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(None, {"x": RNG.standard_normal((400, 4, 8, 8)).astype(np.float32)})[0]
    assert len(np.unique(values)) > 256


def test_the_classifier_is_kept_for_tensorrt_alone() -> None:
    """It is found behind a bias, and is not all there is; the rule can be switched off."""
    nodes = [conv("x", "end", kernel_shape=[1, 1]), *HEAD[:2]]
    nodes += [op("MatMul", "flat fc_w", "product"), op("Add", "product bias", "y")]
    tensors = {"end_w": weight(4, 4, 1, 1), "fc_w": weight(4, 5), "bias": weight(5)}
    model = model_of(nodes, tensors)
    assert kept_out(model, "tensorrt") == {"classifier": {"product"}}
    assert kept_out(model, "onnxruntime") == {}
    made = quantised(model, "tensorrt", without_rules=["classifier"])
    assert sources(made, "product") == ["DequantizeLinear", "DequantizeLinear"]


def attention() -> onnx.ModelProto:
    """One head of self-attention with its LayerNorm and residual, over 6 tokens of 8 channels."""
    nodes = [op("LayerNormalization", "x gamma beta", "norm")]
    nodes += [op("MatMul", f"norm {n}_w", n) for n in "qkv"]
    nodes += [op("Transpose", "k", "kt", perm=[0, 2, 1]), op("MatMul", "q kt", "scores")]
    nodes += [op("Softmax", "scores", "p", axis=-1), op("MatMul", "p v", "mixed")]
    nodes += [op("MatMul", "mixed o_w", "o"), op("Add", "x o", "stream")]
    nodes += [op("ReduceMean", "stream axes", "pooled", keepdims=0), op("MatMul", "pooled fc_w", "y")]
    tensors = {f"{n}_w": weight(8, 8) for n in "qkvo"} | {"fc_w": weight(8, 5)}
    tensors |= {"gamma": np.ones(8, np.float32), "beta": np.zeros(8, np.float32)}
    return model_of(nodes, tensors | {"axes": np.array([1], np.int64)}, (6, 8))


def test_attention_for_tensorrt() -> None:
    """Products with weights are INT8; scores, their sum and the residual stream are not."""
    assert kept_out(attention(), "tensorrt") == {
        "activation_products": {"scores", "mixed"},
        "classifier": {"y"},
    }
    made = quantised(attention(), "tensorrt")
    assert sources(made, "q") == ["DequantizeLinear", "DequantizeLinear"]
    assert sources(made, "scores") == ["MatMul", "Transpose"]
    assert sources(made, "p") == ["MatMul"] and sources(made, "norm") == ["-", "-", "-"]
    assert sources(made, "stream") == ["-", "MatMul"]


def test_attention_for_the_cpu() -> None:
    """Signed symmetric activations, and nothing but the products."""
    made = quantised(attention(), "onnxruntime")
    assert sources(made, "o") == ["DequantizeLinear", "DequantizeLinear"]
    assert sources(made, "scores") == ["MatMul", "Transpose"] and readers(made, "o") == ["Add"]
    zeros = [
        numpy_helper.to_array(t)
        for t in made.graph.initializer
        if t.name.endswith("zero_point") and t.data_type == TensorProto.INT8
    ]
    assert zeros and not any(zero.any() for zero in zeros)
    assert not any(t.data_type == TensorProto.UINT8 for t in made.graph.initializer)
    assert sources(made, "norm") == ["-", "-", "-"]
