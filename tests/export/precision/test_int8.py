"""Protects: both INT8 layouts are what their engine wants, keep the predictions, and repeat byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import graph
from export.contract import INT8_CPUS, INT8_LAYOUT
from export.cpu_layouts import CPU_LAYOUTS, Name
from export.engines import BACKENDS
from export.engines.onnxruntime import CPU, OnnxRuntimeEngine
from export.errors import PrecisionError
from export.onnx import describe, fix_batch
from export.precision import (
    DEFAULT_KEEP_FP32,
    halve,
    int8_nodes,
    load_fp32,
    observe_file,
    quantise_for_tensorrt,
    ranges,
    to_int8_onnxruntime,
    to_int8_tensorrt,
)


def logits(path: Path, images: Any) -> Any:
    return BACKENDS["onnxruntime"].load(path, threads=1).infer(images)


def scales(model: onnx.ModelProto, op: str) -> dict[str, tuple[Any, Any]]:
    """Input of an `op` node to the scale and zero point of the DequantizeLinear that makes it."""
    made = graph.producers(model)
    found = {}
    for node in model.graph.node:
        if node.op_type == op:
            for name in node.input:
                source = made.get(name)
                if source is not None and source.op_type == "DequantizeLinear":
                    found[name] = tuple(graph.constant(model, part) for part in source.input[1:3])
    return found


@pytest.mark.parametrize("kind", ["int8", "int8_cpu"])
def test_accuracy_survives(files: Any, kind: str) -> None:
    exact, quantised = logits(files.fp32, files.images), logits(getattr(files, kind), files.images)
    assert (exact.argmax(1) == files.labels).mean() > 0.6  # else the comparison says nothing
    assert (exact.argmax(1) == quantised.argmax(1)).mean() > 0.95
    assert (quantised.argmax(1) == files.labels).mean() > (exact.argmax(1) == files.labels).mean() - 0.03
    assert np.abs(exact - quantised).max() > 1e-4  # it is quantised


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_files_repeat_byte_for_byte(files: Any, tmp_path: Path, method: str) -> None:
    for build in (to_int8_tensorrt, to_int8_onnxruntime):
        paths = [tmp_path / f"{build.__name__}{i}.onnx" for i in (0, 1)]
        for path in paths:
            build(files.fp32, path, files.train[:40], method=method)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_tensorrt_layout(files: Any) -> None:
    model = graph.load_model(files.int8)
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    readers = graph.consumers(model)
    types = graph.value_types(model)
    made = graph.producers(model)
    for node in convolutions:
        assert made[node.input[0]].op_type == "DequantizeLinear"
        weight = made[node.input[1]]
        channels = graph.constant(model, weight.input[1]).shape
        assert channels == tuple(graph.value_shapes(model)[node.input[1]][:1])  # one scale an output channel
        if len(node.input) > 2:
            assert node.input[2] in graph.initializers(model)  # the bias is not quantised
        assert all(r.op_type != "QuantizeLinear" for r in readers[node.output[0]] if r.op_type == "Relu")
        assert types[node.output[0]] == TensorProto.FLOAT16
    for scale, zero in scales(model, "Conv").values():
        assert zero.dtype == np.int8 and not zero.any() and scale.dtype == np.float16 and (scale > 0).all()


def test_onnxruntime_layout(files: Any) -> None:
    model = graph.load_model(files.int8_cpu)
    activations = [z for s, z in scales(model, "Conv").values() if z is not None and z.dtype == np.uint8]
    assert len(activations) == 7
    readers = graph.consumers(model)
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert readers[node.output[0]][0].op_type in ("QuantizeLinear", "Relu")
            assert len(node.input) == 3 or graph.producers(model)[node.input[1]].op_type == "DequantizeLinear"


def test_reduced_range_halves_the_weights(files: Any, tmp_path: Path) -> None:
    largest = {}
    for reduce in (True, False):
        path = tmp_path / f"{reduce}.onnx"
        cpu = CPU_LAYOUTS["u8s8_7bit" if reduce else "u8s8"]
        facts = to_int8_onnxruntime(files.fp32, path, files.train[:40], cpu=cpu)
        assert facts["cpu"] == cpu.facts()
        stored = [
            numpy_helper.to_array(t)
            for t in onnx.load(path).graph.initializer
            if t.data_type == TensorProto.INT8
        ]
        largest[reduce] = max(int(np.abs(w.astype(int)).max()) for w in stored if w.ndim >= 2)
    assert largest == {True: 64, False: 127} or largest == {True: 63, False: 127}


@pytest.mark.parametrize("name", ["u8s8", "u8s8_7bit", "s8s8"])
def test_each_cpu_layout_keeps_the_predictions_and_says_whose_it_is(
    files: Any, tmp_path: Path, name: Name
) -> None:
    """All layouts run on any CPU where nothing can saturate; the file tells for which CPUs it is."""
    path = tmp_path / "a.onnx"
    to_int8_onnxruntime(files.fp32, path, files.train[:40], cpu=CPU_LAYOUTS[name])
    exact = OnnxRuntimeEngine(str(path), 1, CPU, int8_kernels=False).infer(files.images)
    assert (exact.argmax(1) == logits(files.fp32, files.images).argmax(1)).mean() > 0.95
    told = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert told[INT8_LAYOUT] == "onnxruntime" and json.loads(told[INT8_CPUS]) == CPU_LAYOUTS[name].facts()
    zeros = [z for _, z in scales(graph.load_model(path), "Conv").values() if z is not None and z.ndim == 0]
    assert zeros and {str(z.dtype) for z in zeros} == {CPU_LAYOUTS[name].activations}


def test_signed_activations_have_the_levels_of_unsigned_ones(files: Any, tmp_path: Path) -> None:
    """S8S8 is U8S8 with every zero point 128 lower: after a ReLU no level is lost, and the answers are the same."""
    answers = {}
    for name in ("u8s8", "s8s8"):
        to_int8_onnxruntime(files.fp32, tmp_path / name, files.train[:40], cpu=CPU_LAYOUTS[name])
        engine = OnnxRuntimeEngine((tmp_path / name).read_bytes(), 1, CPU, int8_kernels=False)
        answers[name] = engine.infer(files.images)
    np.testing.assert_allclose(answers["s8s8"], answers["u8s8"], atol=1e-5)


def test_summary_counts(files: Any, tmp_path: Path) -> None:
    facts = to_int8_tensorrt(
        files.fp32, tmp_path / "a.onnx", files.train[:40], exclude=("Gemm", "backbone.0.*")
    )
    assert facts["quantised_nodes"] == {"Conv": 6}
    assert len(facts["excluded"]["products"]) == 2
    assert facts["int8_macs_percent"] + facts["excluded"]["macs_percent"] == pytest.approx(100)
    assert facts["bytes"] == (tmp_path / "a.onnx").stat().st_size
    assert facts["calibration"] == {"images": 40, "method": "minmax", "percentile": None}
    with pytest.raises(PrecisionError, match="no node matches 'Convv'"):
        to_int8_tensorrt(files.fp32, tmp_path / "b.onnx", files.train[:40], exclude=("Convv",))
    with pytest.raises(PrecisionError, match="no node is left"):
        to_int8_tensorrt(files.fp32, tmp_path / "b.onnx", files.train[:40], exclude=("Gemm", "Conv"))
    assert not (tmp_path / "b.onnx").exists()


def test_an_fp16_source_is_refused(files: Any, tmp_path: Path) -> None:
    with pytest.raises(PrecisionError, match="FP16 or BF16 weights already"):
        to_int8_tensorrt(files.fp16, tmp_path / "x.onnx", files.train)


def test_interface_and_fixed_batch(files: Any, tmp_path: Path) -> None:
    for path in (files.int8, files.int8_cpu):
        facts = describe(path)
        assert (facts["inputs"], facts["outputs"]) == (
            describe(files.fp32)["inputs"],
            describe(files.fp32)["outputs"],
        )
        fixed = fix_batch(path, tmp_path / path.name, 1)
        np.testing.assert_allclose(logits(fixed, files.images[:4]), logits(path, files.images[:4]), atol=1e-3)


def convolution_model(path: Path, weight: Any, bias: Any) -> None:
    """1x1 convolution, ReLU, an identity convolution (so that the first one's output is quantised),
    pooling."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "eye"], ["d"], "identity", kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["y"], "flat", axis=1),
    ]
    eye = np.eye(len(weight), dtype=np.float32)[:, :, None, None]
    tensors = [
        numpy_helper.from_array(value, name) for value, name in ((weight, "w"), (bias, "b"), (eye, "eye"))
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", weight.shape[1], 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", len(weight)])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, str(path))


def test_tiny_weights_do_not_become_nan(tmp_path: Path) -> None:
    """A channel whose scale underflows in FP16 would divide by zero in a strongly typed engine."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3, 1, 1)).astype(np.float32)
    weight[1] *= 1e-8
    weight[2] = 0
    bias = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    convolution_model(tmp_path / "s.onnx", weight, bias)
    images = rng.standard_normal((40, 3, 4, 4)).astype(np.float32)
    to_int8_tensorrt(tmp_path / "s.onnx", tmp_path / "q.onnx", images)
    for scale, _ in scales(graph.load_model(tmp_path / "q.onnx"), "Conv").values():
        assert (scale.astype(np.float32) >= 2.0**-21).all()
    np.testing.assert_allclose(
        logits(tmp_path / "q.onnx", images), logits(tmp_path / "s.onnx", images), atol=0.02
    )


def test_a_projection_shortcut_is_quantised_on_its_own_side(tmp_path: Path) -> None:
    """TensorRT reads one operand of a residual addition as INT8: the projection's, not the main branch's."""
    rng = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(rng.standard_normal((4, 3, k, k)).astype(np.float32), f"w{k}") for k in (3, 1)
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w3"], ["main"], "main", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["x", "w1"], ["short"], "short", kernel_shape=[1, 1]),
        helper.make_node("Add", ["main", "short"], ["sum"], "add"),
        helper.make_node("GlobalAveragePool", ["sum"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["y"], "flat", axis=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, str(tmp_path / "s.onnx"))
    images = rng.standard_normal((40, 3, 4, 4)).astype(np.float32)
    to_int8_tensorrt(tmp_path / "s.onnx", tmp_path / "q.onnx", images)
    quantised = graph.load_model(tmp_path / "q.onnx")
    made = graph.producers(quantised)
    (addition,) = (n for n in quantised.graph.node if n.op_type == "Add")
    assert [made[name].op_type for name in addition.input] == ["Conv", "DequantizeLinear"]
    np.testing.assert_allclose(
        logits(tmp_path / "q.onnx", images), logits(tmp_path / "s.onnx", images), atol=0.1
    )


def test_a_range_below_half_precision_is_widened(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    convolution_model(
        tmp_path / "s.onnx", rng.standard_normal((4, 3, 1, 1)).astype(np.float32), np.ones(4, np.float32)
    )
    images = (rng.standard_normal((40, 3, 4, 4)) * 1e-7).astype(np.float32)
    to_int8_tensorrt(tmp_path / "s.onnx", tmp_path / "q.onnx", images)
    np.testing.assert_allclose(
        logits(tmp_path / "q.onnx", images), logits(tmp_path / "s.onnx", images), atol=0.02
    )


def test_fp16_biases_survive_the_cpu_optimiser(tmp_path: Path) -> None:
    """ONNX Runtime's WeightBiasQuantization turns FP16 Q/DQ biases into garbage; the engine switches it off.

    The second half shows that the defect is there to be avoided. If it fails, ONNX Runtime was fixed and the
    switch may go.
    """
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((8, 6, 1, 1)) * 2e-4).astype(np.float32)
    bias = rng.uniform(1, 2, 8).astype(np.float32)
    convolution_model(tmp_path / "s.onnx", weight, bias)
    images = (rng.standard_normal((40, 6, 4, 4)) * 0.05).astype(np.float32)
    to_int8_tensorrt(tmp_path / "s.onnx", tmp_path / "q.onnx", images)
    exact = logits(tmp_path / "s.onnx", images)
    np.testing.assert_allclose(logits(tmp_path / "q.onnx", images), exact, atol=0.02)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        str(tmp_path / "q.onnx"), options, providers=["CPUExecutionProvider"]
    )
    optimised = session.run(None, {"x": images})[0]
    assert np.abs(optimised - exact).max() > 0.5


def test_one_observation_serves_both_layouts(files: Any, tmp_path: Path) -> None:
    """Watching the graph once gives the same files as watching it for each."""
    seen = observe_file(files.fp32, files.train)
    for build, made in ((to_int8_tensorrt, files.int8), (to_int8_onnxruntime, files.int8_cpu)):
        build(files.fp32, tmp_path / "a.onnx", seen)
        assert (tmp_path / "a.onnx").read_bytes() == made.read_bytes()


def weight_scales(exact: onnx.ModelProto, quantised: onnx.ModelProto) -> dict[str, tuple[Any, Any]]:
    """Convolution to its FP32 weight and the scale of its INT8 weight."""
    made = graph.producers(quantised)
    weights = {n.name: graph.constant(exact, n.input[1]) for n in exact.graph.node if n.op_type == "Conv"}
    return {
        node.name: (weights[node.name], graph.constant(quantised, made[node.input[1]].input[1]))
        for node in quantised.graph.node
        if node.op_type == "Conv"
    }


@pytest.mark.parametrize(
    ("build", "options", "steps"),
    [
        (to_int8_tensorrt, {}, 127),
        (to_int8_onnxruntime, {"cpu": CPU_LAYOUTS["u8s8"]}, 127),
        (to_int8_onnxruntime, {"cpu": CPU_LAYOUTS["u8s8_7bit"]}, 64),
    ],
)
def test_weights_have_a_scale_each_channel_or_one(
    files: Any, tmp_path: Path, build: Any, options: dict[str, bool], steps: int
) -> None:
    """The option reaches every layout: a scale is the largest weight of its channel, or of the tensor, by the steps.

    So no channel's scale is larger than the tensor's: that is what per-channel scales save. The error of the logits
    need not follow, and depends on the CPU.
    """
    exact = load_fp32(files.fp32)
    for choice in ("per_channel", "per_tensor"):
        facts = build(files.fp32, tmp_path / "q.onnx", files.train, weights=choice, **options)
        assert facts["weights_scale"] == choice
        found = weight_scales(exact, graph.load_model(tmp_path / "q.onnx"))
        assert len(found) == 7
        for weight, scale in found.values():
            largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
            wanted = largest / steps if choice == "per_channel" else largest.max() / steps
            assert scale.shape == np.shape(wanted)
            np.testing.assert_allclose(scale.astype(np.float64), wanted, rtol=2e-3)  # FP16 for TensorRT


def test_the_steps_make_the_file(files: Any, tmp_path: Path) -> None:
    """The FP32-valued graph computes what the FP16 file computes, and becomes it by `halve` alone."""
    seen = observe_file(files.fp32, files.train)
    model = load_fp32(files.fp32)
    quantised = quantise_for_tensorrt(model, ranges(seen, method="minmax"))
    graph.save_model(quantised, tmp_path / "single.onnx")
    np.testing.assert_allclose(
        logits(tmp_path / "single.onnx", files.images), logits(files.int8, files.images), atol=0.5
    )
    assert len(int8_nodes(quantised)) == 7  # the classifier is kept out
    halve(quantised, DEFAULT_KEEP_FP32)
    graph.save_model(quantised, tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").read_bytes() == files.int8.read_bytes()
