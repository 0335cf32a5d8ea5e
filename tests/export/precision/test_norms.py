"""Protects: norms written out in elementary operators are found whole, and stay out of INT8 in both layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export import graph
from export.cpu_layouts import CPU_LAYOUTS
from export.precision import RULES, to_int8_onnxruntime, to_int8_tensorrt
from export.precision.norms import norm_arithmetic

CHANNELS = 16


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).mean(1, keepdim=True) + 1e-6)


def layer(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(1, keepdim=True) + 1e-6)


def response(x: Tensor) -> Tensor:
    """Of ConvNeXt V2."""
    norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
    return x * (norm / (norm.mean(1, keepdim=True) + 1e-6))


def unit(x: Tensor) -> Tensor:
    return 4 * nn.functional.normalize(x, dim=1)


def difference_of_squares(x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) / ((x * x).mean((2, 3), keepdim=True) - mean * mean + 1e-3).sqrt()


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "rms": rms, "layer": layer, "response": response, "unit": unit, "difference": difference_of_squares,
}  # fmt: skip


class Block(nn.Module):
    def __init__(self, norm: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm = norm
        self.gain = nn.Parameter(torch.rand(CHANNELS, 1, 1) + 0.5)
        self.bias = nn.Parameter(torch.randn(CHANNELS, 1, 1) / 10)
        self.widen = nn.Conv2d(CHANNELS, 2 * CHANNELS, 1)
        self.narrow = nn.Conv2d(2 * CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x) * self.gain + self.bias
        return x + self.narrow(torch.relu(self.widen(normed)))


def network(norm: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, 2, 1),
        *(Block(norm) for _ in range(3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(CHANNELS, 10),
    ).eval()


@pytest.fixture(scope="module")
def images() -> Any:
    """Float [64, 3, 16, 16] whose contrast differs by much, as that of feature maps does."""
    random = np.random.default_rng(0)
    contrast = np.exp(random.standard_normal((64, 1, 1, 1)))
    return (random.standard_normal((64, 3, 16, 16)) * contrast).astype(np.float32)


def exported(norm: Callable[[Tensor], Tensor], folder: Path) -> Path:
    path = folder / "fp32.onnx"
    torch.onnx.export(
        network(norm), (torch.zeros(2, 3, 16, 16),), str(path), dynamo=False, opset_version=20,
        input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
    )  # fmt: skip
    model = onnx.load(path)
    graph.name_nodes(model)
    graph.fold_constants(model)
    onnx.save(model, path)
    return path


def logits(path: Path, images: Any) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images})[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NORMS)
def test_norms_are_found_whole_and_stay_out_of_int8(name: str, tmp_path: Path, images: Any) -> None:
    """No Q/DQ stands between two nodes of a norm; convolutions, activations and residual additions are none."""
    path = exported(NORMS[name], tmp_path)
    model = onnx.load(path)
    graph.infer_shapes(model)
    found, made = norm_arithmetic(model), graph.producers(model)
    types = {node.name: node.op_type for node in model.graph.node}
    assert sum(types[node].startswith("Reduce") for node in found) == sum(
        kind.startswith("Reduce") for kind in types.values()
    )
    assert {types[node] for node in found}.isdisjoint({"Conv", "Relu", "Gemm", "GlobalAveragePool"})
    added = [node for node in model.graph.node if node.op_type == "Add" and node.name not in found]
    assert len(added) == 3  # the residual ones
    for convert in (to_int8_onnxruntime, to_int8_tensorrt):
        facts = convert(path, tmp_path / "int8.onnx", [images])
        assert set(facts["rules"]["norms"]["nodes"]) == found
        quantised = onnx.load(tmp_path / "int8.onnx")
        written = graph.producers(quantised)
        named = {node.name: node for node in quantised.graph.node}
        for node in model.graph.node:
            for index, source in enumerate(node.input):
                if node.name in found and source in made and made[source].name in found:
                    before = written[named[node.name].input[index]]
                    before = written[before.input[0]] if before.op_type == "Cast" else before
                    assert before.op_type != "DequantizeLinear"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["rms", "layer"])
def test_onnx_runtimes_file_keeps_the_logits(
    name: str, tmp_path: Path, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest error, in units of the largest logit, falls to less than half of what it is without the rule."""
    path = exported(NORMS[name], tmp_path)
    reference = logits(path, images)

    def error() -> float:
        to_int8_onnxruntime(path, tmp_path / "int8.onnx", [images], cpu=CPU_LAYOUTS["u8s8_7bit"])
        return float(
            np.abs(logits(tmp_path / "int8.onnx", images) - reference).max() / np.abs(reference).max()
        )

    with_rule = error()
    monkeypatch.setattr("export.precision.rules.norm_arithmetic", lambda model: set())
    monkeypatch.setattr("export.precision.rules.RULES", tuple(rule for rule in RULES if rule.name != "norms"))
    assert with_rule < error() / 2


def test_what_only_looks_like_a_norm_is_none() -> None:
    """A division by a constant, a gate, and a ratio of two feature maps."""
    helper = onnx.helper
    nodes = [
        helper.make_node("Div", ["x", "six"], ["a"], "a"),
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"], "pooled"),
        helper.make_node("Conv", ["pooled", "w"], ["gate"], "gate"),
        helper.make_node("HardSigmoid", ["gate"], ["open"], "open"),
        helper.make_node("Mul", ["a", "open"], ["b"], "b"),
        helper.make_node("Conv", ["x", "w"], ["c"], "c"),
        helper.make_node("Div", ["b", "c"], ["y"], "y"),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array(6, np.float32), "six"),
        onnx.numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w"),
    ]
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(nodes, "g", [value("x", 1, [1, 4, 8, 8])], [value("y", 1, [1, 4, 8, 8])], constants)
    )
    assert norm_arithmetic(model) == set()
