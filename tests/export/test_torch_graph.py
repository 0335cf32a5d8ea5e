"""Protects: the torch module computes what ONNX Runtime computes of the file, before and after training it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export import graph
from export.cpu_layouts import CPU_LAYOUTS
from export.errors import ExportError
from export.onnx import export_onnx, fix_batch
from export.torch_graph import TorchGraph
from export.torch_operators import OPERATORS

LAYOUTS = ["int8", "int8_cpu"]


def run(model: onnx.ModelProto, images: Any) -> Any:
    """Logits in ONNX Runtime, node by node: its fused integer kernels round in other places."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with FP32 in place of FP16: weights and scales keep their FP16 values."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
            )
    for node in wide.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    graph.infer_shapes(wide)
    return wide


def weights_of(path: Path) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in graph.load_model(path).graph.initializer}


def tuned(files: Any, layout: str, steps: int = 8) -> TorchGraph:
    """A quantised graph after some steps of training; also asserts that they lower the loss."""
    module = TorchGraph(graph.load_model(getattr(files, layout)), weights=weights_of(files.fp32))
    optimizer = torch.optim.AdamW(module.parameters(), 2e-3, weight_decay=0)
    images, labels = torch.from_numpy(files.images[:64]), torch.from_numpy(files.labels[:64])
    values = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(module(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    return module


def logits(module: TorchGraph, images: Any) -> Any:
    with torch.no_grad():
        return module(torch.from_numpy(images)).numpy()


def assert_same(got: Any, expected: Any) -> None:
    """Equal up to float32's rounding, but for 1 image in 100: there a value on the edge of two levels fell over."""
    same = (np.abs(got - expected) <= 1e-4 * (1 + np.abs(expected))).all(axis=1)
    assert same.mean() >= 0.99
    assert np.abs(got - expected).max() < 0.02 * np.abs(expected).max()


def test_a_float_graph_computes_the_same(files: Any) -> None:
    model = graph.load_model(files.fp32)
    expected = run(model, files.images)
    np.testing.assert_allclose(logits(TorchGraph(model), files.images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_quantised_graph_computes_what_its_file_computes(files: Any, layout: str) -> None:
    """Before any training, from the stored weights: every rounding falls the same way."""
    model = graph.load_model(getattr(files, layout))
    got = logits(TorchGraph(model), files.images)
    assert_same(got, run(widened(model), files.images))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_trained_is_what_is_written(files: Any, layout: str) -> None:
    """After training: the written file computes the module's logits, with the scales that were learnt."""
    module = tuned(files, layout)
    written = module.to_onnx()
    onnx.checker.check_model(written, full_check=True)
    before = logits(TorchGraph(graph.load_model(getattr(files, layout))), files.images)
    after = logits(module, files.images)
    assert np.abs(after - before).max() > 0.1  # else the test says nothing
    assert_same(after, run(widened(written), files.images))
    assert_same(logits(TorchGraph(written), files.images), after)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_values_change(files: Any, layout: str) -> None:
    """Nodes, types, shapes and zero points stay; weights and every scale move; preprocessing does not."""
    before = graph.load_model(getattr(files, layout))
    after = tuned(files, layout).to_onnx()
    assert [n.SerializeToString() for n in after.graph.node] == [
        n.SerializeToString() for n in before.graph.node
    ]
    old, new = graph.initializers(before), graph.initializers(after)
    assert {n: (t.data_type, list(t.dims)) for n, t in old.items()} == {
        n: (t.data_type, list(t.dims)) for n, t in new.items()
    }
    moved = {n for n in old if (numpy_helper.to_array(old[n]) != numpy_helper.to_array(new[n])).any()}
    scales = {n.input[1] for n in before.graph.node if n.op_type == "DequantizeLinear"}
    zeros = {n.input[2] for n in before.graph.node if n.op_type == "DequantizeLinear"}
    assert scales <= moved and not zeros & moved
    assert sum("weight" in n and n not in scales | zeros for n in moved) >= 7
    assert not [n for n in moved if n.startswith("image_")]


def test_the_scale_of_an_integer_bias_stays_the_product(files: Any) -> None:
    """Engines add the INT32 bias to the integer accumulator, whose unit is that product."""
    model = tuned(files, "int8_cpu").to_onnx()
    made = graph.producers(model)
    checked = 0
    for node in model.graph.node:
        sources = [made.get(name) for name in node.input]
        if len(sources) == 3 and all(s is not None and s.op_type == "DequantizeLinear" for s in sources):
            x, w, b = (graph.constant(model, s.input[1]) for s in sources if s is not None)
            np.testing.assert_allclose(b, np.broadcast_to(x * w, b.shape), rtol=1e-6)
            checked += 1
    assert checked >= 5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_reach_every_parameter(files: Any, layout: str) -> None:
    module = TorchGraph(graph.load_model(getattr(files, layout)))
    module(torch.from_numpy(files.images[:32])).square().mean().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_stored_weights_start_from_the_originals(files: Any) -> None:
    """Integers have lost what lies between two levels; the FP32 file still knows it, and the function is the same."""
    model, weights = graph.load_model(files.int8_cpu), weights_of(files.fp32)
    exact, coarse = TorchGraph(model, weights=weights), TorchGraph(model)
    assert_same(logits(exact, files.images), logits(coarse, files.images))
    starts = {k: v for k, v in exact.named_buffers() if "weight_quantized" in k}
    assert len(starts) == 8
    for key, value in starts.items():
        name = key.split("_", 1)[1].removesuffix("_quantized").replace("/", ".")
        np.testing.assert_array_equal(value.numpy(), weights[name])
        assert (value != coarse.get_buffer(key)).any()


def test_a_change_is_relative(files: Any) -> None:
    """Parameters start at 0; the same change moves weights and scales of any magnitude by the same share."""
    model = graph.load_model(files.int8)
    module = TorchGraph(model)
    assert all((parameter == 0).all() for parameter in module.parameters())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.1)
    before, after = graph.initializers(model), graph.initializers(module.to_onnx())
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            old, new = (numpy_helper.to_array(part[node.input[1]]) for part in (before, after))
            np.testing.assert_allclose(new.astype(float) / old, np.exp(0.1), rtol=2e-3)
            if node.input[0] in before:
                old, new = (numpy_helper.to_array(p[node.input[0]]).astype(float) for p in (before, after))
                np.testing.assert_allclose(new - old, 0.1 * np.sqrt((old**2).mean()), rtol=0.05)


def test_weights_of_seven_bits_stay_within_them(files: Any, tmp_path: Path) -> None:
    """On CPUs without VNNI the eighth bit would saturate 16-bit sums."""
    from export.precision import to_int8_onnxruntime

    to_int8_onnxruntime(files.fp32, tmp_path / "r.onnx", files.train, cpu=CPU_LAYOUTS["u8s8_7bit"])
    model = graph.load_model(tmp_path / "r.onnx")
    module = TorchGraph(model, weights=weights_of(files.fp32))
    with torch.no_grad():
        for parameter in module.changes.values():
            if parameter.ndim == 4:
                parameter.fill_(100)
    for tensor in module.to_onnx().graph.initializer:
        if tensor.name.endswith("weight_quantized"):
            assert np.abs(numpy_helper.to_array(tensor).astype(int)).max() == 64


def test_any_batch_of_a_file_with_a_fixed_one(files: Any, tmp_path: Path) -> None:
    """Files are exported with batch 1 by default; training needs more."""
    fixed = graph.load_model(fix_batch(files.fp32, tmp_path / "one.onnx", 1))
    expected = run(graph.load_model(files.fp32), files.images[:7])
    np.testing.assert_allclose(logits(TorchGraph(fixed), files.images[:7]), expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_operator_is_named() -> None:
    node = helper.make_node("Einsum", ["x"], ["y"], "attention", equation="ij->ji")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 2]) for n in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]))
    with pytest.raises(ExportError, match=r"Einsum.*attention.*precision.qad.when: never"):
        TorchGraph(model)


class Everything(nn.Module):
    """One of most operators that classifiers are exported to, beyond those of `TinyNet`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(16, 5)
        self.register_buffer("position", torch.randn(1, 49, 8))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pad(image.permute(0, 3, 1, 2).float() / 255, (0, 1, 0, 1))
        x = nn.functional.avg_pool2d(nn.functional.silu(self.conv(x)), 3, 2, 1)
        x = nn.functional.max_pool2d(torch.clamp(x, 0, 6), 2)[:, :, :7, :7]
        tokens = self.norm(x.flatten(2).transpose(1, 2)) + self.position[:, : x.shape[2] * x.shape[3]]
        q, k, v = self.qkv(tokens).chunk(3, -1)
        mixed = torch.softmax(q @ k.transpose(1, 2) / 2.0, -1) @ v
        a, b = nn.functional.gelu(mixed).split([3, 5], -1)
        y = torch.cat([nn.functional.hardsigmoid(a), nn.functional.hardswish(b)], -1)
        y = nn.functional.leaky_relu(y) * torch.tanh(y) + torch.sqrt(y.pow(2) + 1)
        return self.head(torch.cat([y.amax(1), y.sum(1) / (1 + y.std(1, unbiased=False))], -1))


def test_operators_of_other_networks(tmp_path: Path) -> None:
    """Attention, pooling with padding, slices, splits and the other activations."""
    torch.manual_seed(0)
    module = Everything().eval()
    example = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    export_onnx(module, example, tmp_path / "x.onnx", dynamic_batch=True)
    model = graph.load_model(tmp_path / "x.onnx")
    assert len({node.op_type for node in model.graph.node}) > 20
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(logits(TorchGraph(model), images), run(model, images), rtol=1e-4, atol=1e-4)


def node_errors(model: onnx.ModelProto, images: Any) -> dict[str, float]:
    """By operator type, the largest error of a node that is given ONNX Runtime's own inputs, as a share of its range.

    Of whole networks only the logits of shallow ones can be compared: where a sum falls on the edge of two levels, the
    last bit decides, and layer by layer the difference grows to what quantisation costs.
    """
    model = widened(model)
    everything = onnx.ModelProto()
    everything.CopyFrom(model)
    types = graph.value_types(model)
    names = [name for node in model.graph.node for name in node.output if name]
    del everything.graph.output[:]
    for name in names:
        everything.graph.output.append(helper.make_empty_tensor_value_info(name))
        everything.graph.output[-1].type.tensor_type.elem_type = types[name]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        everything.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    image = model.graph.input[0].name
    values = dict(zip(names, session.run(names, {image: images}), strict=True)) | {image: images}
    module, worst = TorchGraph(model), {}

    def given(name: str) -> torch.Tensor | None:
        if not name:
            return None
        if name not in values:
            return module.value(name)
        value = torch.from_numpy(np.array(values[name]))
        return value.float() if name in levels else value

    levels = {name for node in module.nodes if node.type == "QuantizeLinear" for name in node.outputs}
    with torch.no_grad():
        for node in module.nodes:
            results = module.compute(node, [given(name) for name in node.inputs])
            for name, result in zip(node.outputs, results, strict=False):
                expected = values[name].astype(np.float64)
                assert tuple(result.shape) == expected.shape, node
                error = np.abs(expected - result.numpy()).max() / max(np.abs(expected).max(), 1e-12)
                worst[node.type] = max(worst.get(node.type, 0.0), float(error))
    return worst


@pytest.mark.parametrize("layout", ["fp32", *LAYOUTS])
def test_every_node_computes_what_onnx_runtime_computes(files: Any, layout: str) -> None:
    errors = node_errors(graph.load_model(getattr(files, layout)), files.images[:16])
    assert max(errors.values()) < 1e-5, errors
    assert layout == "fp32" or errors["QuantizeLinear"] == errors["DequantizeLinear"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv3_small_100",
        "efficientnet_b0",
        "convnext_atto",
        "levit_128s",
        "mobilevit_xxs",
        "ghostnet_100",
    ],
)
def test_networks_of_the_field_in_both_layouts(name: str, tmp_path: Path) -> None:
    """Squeeze-and-excitation, attention, LayerNorm and concatenations under Q/DQ, with gradients for everything."""
    import timm

    from export.precision import observe_file, to_int8_onnxruntime, to_int8_tensorrt

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = timm.create_model(name, num_classes=10)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.backbone((image.float() / 255 - 0.45).permute(0, 3, 1, 2) * 4)

    torch.manual_seed(0)
    size = 256 if "mobilevit" in name else 224
    coarse = torch.rand(34, 3, 8, 8) * 255
    smooth = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 255)
    images = smooth.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    export_onnx(Normalised().eval(), images[:1], tmp_path / "fp32.onnx", dynamic_batch=True)
    seen = observe_file(tmp_path / "fp32.onnx", list(images[:32].split(1)), histograms=False)
    for make in (to_int8_tensorrt, to_int8_onnxruntime):
        make(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", seen)
        model = graph.load_model(tmp_path / "int8.onnx")
        errors = node_errors(model, images[32:].numpy())
        assert max(errors.values()) < 1e-5, errors
        module = TorchGraph(model)
        module(images[32:]).square().mean().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


def test_the_table_is_sorted() -> None:
    assert list(OPERATORS) == sorted(OPERATORS)
