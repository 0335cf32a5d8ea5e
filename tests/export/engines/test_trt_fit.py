"""Protects: each version of TensorRT gets a graph that it documents to read, or one sentence why there is none.

JetPack 5.1 has TensorRT 8.5, JetPack 6.0 has 8.6; both read older operator sets and have no strong typing. What their
parsers do is their open source; no engine was built by one of them here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import graph
from export.engines.options import TensorRTOptions
from export.engines.trt_build import onnx_file
from export.engines.trt_fit import attention, fit
from export.engines.trt_operators import unsupported
from export.engines.trt_refusals import Place, Refusal, refusals
from export.engines.trt_versions import dialect, parse_version
from export.errors import ExportError
from export.precision import to_fp16

OLD = [("8.5.2", 16), ("8.6.2", 17)]
FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}


def refusals_of(version: str, model: onnx.ModelProto) -> list[Refusal]:
    """Of a build of the graph by that version."""
    return refusals(Place("tensorrt", version), TensorRTOptions(), [onnx_file(model, "net.onnx")])


@pytest.mark.parametrize("precision", FLAGS)
@pytest.mark.parametrize(("version", "opset"), OLD)
def test_files_for_versions_without_strong_typing(
    files: Any, version: str, opset: int, precision: str
) -> None:
    """An older operator set, FP32 values with FP32 Q/DQ, flags for the builder, a word for the report."""
    path = getattr(files, precision)
    model = graph.load_model(path)
    library, chosen = f"tensorrt {version}", dialect("tensorrt", version)
    fitted = fit(library, chosen, model)
    assert graph.opset(fitted.model) == opset and fitted.flags == FLAGS[precision]
    assert fitted.model.ir_version <= 8  # of ONNX 1.12, which these parsers are compiled with
    onnx.checker.check_model(fitted.model, full_check=True)
    assert refusals_of(version, model) == []
    assert unsupported(fitted.model, parse_version(version)) == []
    constants = graph.initializers(fitted.model)
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in constants.values()}
    pairs = [n for n in fitted.model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert bool(pairs) is (precision == "int8")
    for node in pairs:  # as the importers of 8.5 and 8.6 assert
        scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        assert scale.dtype == np.float32 and (scale > 0).all()
        assert zero.dtype == np.int8 and zero.size == scale.size and not zero.any()
    assert bool(fitted.fp32_layers) is (precision != "fp32")
    assert (f"{library} chose FP32 or FP16" in fitted.note) is (precision != "fp32")


@pytest.mark.parametrize("precision", FLAGS)
@pytest.mark.parametrize(
    ("module", "version"), [("tensorrt", "10.3.0"), ("tensorrt", "11.4.0"), ("tensorrt_rtx", "1.7.1")]
)
def test_newer_versions_get_the_file_itself(files: Any, module: str, version: str, precision: str) -> None:
    """Precision is what the file says there."""
    model = graph.load_model(getattr(files, precision))
    fitted = fit(f"{module} {version}", dialect(module, version), model)
    assert fitted.model is model and not fitted.fp32_layers and not fitted.note


def test_an_operator_set_that_is_too_new_is_brought_down_for_any_version(files: Any) -> None:
    """TensorRT 10.3 reads 20; a config may export 22 for another target."""
    model = onnx.version_converter.convert_version(graph.load_model(files.fp32), 22)
    assert graph.opset(model) == 22
    fitted = fit("tensorrt 10.3.0", dialect("tensorrt", "10.3.0"), model)
    assert graph.opset(fitted.model) == 20


def test_what_left_the_range_of_fp16_is_held_in_fp32(files: Any, tmp_path: Path) -> None:
    """The builder would choose FP16 where it is faster, and overflow."""
    to_fp16(files.fp32, tmp_path / "mixed.onnx", keep_fp32=["HardSwish"])
    model = graph.load_model(tmp_path / "mixed.onnx")
    fitted = fit("tensorrt 8.6.2", dialect("tensorrt", "8.6.2"), model)
    held = {node.op_type for node in fitted.model.graph.node if node.name in fitted.fp32_layers}
    assert "HardSwish" in held and "Conv" not in held


def norm(opset: int = 20) -> onnx.ModelProto:
    """A layer norm in FP32 between halves."""
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    piece = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["h"], "relu"),
            helper.make_node("Cast", ["h"], ["f"], "up", to=TensorProto.FLOAT),
            helper.make_node("LayerNormalization", ["f", "w"], ["n"], "norm"),
            helper.make_node("Cast", ["n"], ["y"], "down", to=TensorProto.FLOAT16),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["batch", 4])],
        [weight],
    )
    model = helper.make_model(piece, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    graph.infer_shapes(model)
    return model


def test_the_parts_of_a_norm_that_is_written_out_are_held_in_fp32() -> None:
    """8.5 has no layer norm; its sum of squares would overflow FP16. 8.6 has one."""
    fitted = fit("tensorrt 8.5.2", dialect("tensorrt", "8.5.2"), norm())
    names = [node.name for node in fitted.model.graph.node]
    assert list(fitted.fp32_layers) == [name for name in names if name != "relu"] and len(names) > 5
    fitted = fit("tensorrt 8.6.2", dialect("tensorrt", "8.6.2"), norm())
    assert fitted.fp32_layers == ("norm",)


def test_attention_is_refused_where_the_builder_chooses() -> None:
    """In one sentence with the ways out; products with weights, quantised or not, are no attention."""
    piece = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], "quantise"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantise"),
            helper.make_node("MatMul", ["x", "d"], ["k"], "projection"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 4])],
        [helper.make_tensor_value_info("k", TensorProto.FLOAT, ["batch", 4, 4])],
        [
            numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"),
            numpy_helper.from_array(np.float32(0.1), "s"),
            numpy_helper.from_array(np.int8(0), "z"),
        ],
    )
    model = helper.make_model(piece, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    assert attention(model) == [] == refusals_of("8.6.2", model)
    model.graph.node.append(helper.make_node("MatMul", ["x", "k"], ["a"], "scores"))
    assert attention(model) == ["scores"]
    (refusal,) = refusals_of("8.6.2", model)
    assert "8.6.2 is given convolutional networks only" in refusal.what and "(node scores)" in refusal.what
    assert refusals_of("10.3.0", model) == []


def test_what_cannot_be_said_is_refused_with_version_and_operator() -> None:
    piece = helper.make_graph(
        [helper.make_node("BitwiseNot", ["x"], ["y"], "flip")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT32, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["batch", 4])],
    )
    model = helper.make_model(piece, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    (refusal,) = refusals_of("8.5.2", model)
    assert "8.5.2 cannot read the network: operator BitwiseNot at node flip" in refusal.what
    with pytest.raises(ExportError, match="operator BitwiseNot at node flip"):
        fit("tensorrt 8.5.2", dialect("tensorrt", "8.5.2"), model)


@pytest.mark.parametrize("version", ["8.5.2", "8.6.2"])
def test_bf16_is_refused(version: str) -> None:
    piece = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"], "same")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["batch", 4])],
    )
    model = helper.make_model(piece, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    (refusal,) = refusals_of(version, model)
    assert f"tensorrt {version} reads no BF16 files" in refusal.what


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "figkd/dsconv_nano", "figkd/mobilenetv2_half", "figkd/shufflenetv2", "timm/resnet18", "timm/mobilenetv2_050",
        "timm/mobilenetv3_small_050", "timm/mobilenetv4_conv_small_050", "timm/efficientnet_b0", "timm/convnext_atto",
        "timm/densenet121", "timm/hrnet_w18_small",
    ],
)  # fmt: skip
def test_convolutional_students_give_the_same_bits(name: str, tmp_path: Path) -> None:
    """Squeeze and excitation, channel shuffles, resizing, GELU and layer norm are in these."""
    import onnxruntime
    import torch

    from export.onnx import export_onnx
    from figkd import models

    torch.manual_seed(0)
    size = 64 if name.startswith("timm") else 32
    student = models.reparameterize_for_export(models.build_model(name, 10, image_size=size).eval())
    path = tmp_path / "net.onnx"
    export_onnx(student, torch.zeros(1, size, size, 3, dtype=torch.uint8), path, dynamic_batch=True)
    model = graph.load_model(path)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)

    def answer(model: onnx.ModelProto) -> Any:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: images})[0]

    for version, opset in OLD:
        library, chosen = f"tensorrt {version}", dialect("tensorrt", version)
        assert refusals_of(version, model) == []
        fitted = fit(library, chosen, model)
        assert graph.opset(fitted.model) == opset
        if opset == 17 or "convnext" not in name:
            np.testing.assert_array_equal(answer(fitted.model), answer(model))
        else:  # layer norm is written out
            np.testing.assert_allclose(answer(fitted.model), answer(model), rtol=0, atol=1e-5)
