"""What an ONNX file says about its classes and its input survives every step, and what is none counts as untold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export import contract, graph, precision
from export.contract import Contract, ImageInput
from export.engines import BACKENDS
from export.engines.sidecar import read_facts
from export.onnx import export_onnx, fix_batch

NAMES = ["ant", "Ölbaum", 'a "b"', "\N{SNOWMAN}"]
IMAGE = ImageInput("NHWC", "uint8", 16, 16)


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = (images.float() / 255 - 0.5).permute(0, 3, 1, 2)
        logits: torch.Tensor = self.head(self.conv(pixels).relu().mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with a contract."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("contract") / "fp32.onnx"
    example = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    export_onnx(_Small(), example, path, dynamic_batch=True, metadata=contract.metadata(NAMES, IMAGE))
    return path


def _told(path: Path) -> Contract:
    return contract.contract_of(graph.load_model(path))


def _keys(path: Path) -> dict[str, str]:
    return {item.key: item.value for item in graph.load_model(path).metadata_props}


@pytest.mark.parametrize("step", ["as it is", "batch", "fp16", "bf16", "int8 tensorrt", "int8 onnxruntime"])
def test_every_file_tells_its_classes_and_input(exported: Path, tmp_path: Path, step: str) -> None:
    """Protects who gets only the file: labels, size, layout; INT8 says its reader and keeps nothing of the tool."""
    path = tmp_path / "made.onnx"
    images = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), dtype=np.uint8)
    if step == "as it is":
        path = exported
    elif step == "batch":
        fix_batch(exported, path, 1)
    elif step == "fp16":
        precision.to_fp16(exported, path)
    elif step == "bf16":
        precision.to_bf16(exported, path)
    elif step == "int8 tensorrt":
        precision.to_int8_tensorrt(exported, path, images)
    else:
        precision.to_int8_onnxruntime(exported, path, images)
    told = _told(path)
    assert told.classes == tuple(NAMES)
    assert told.image is not None and told.image["layout"] == "NHWC" and told.image["height"] == 16
    assert told.image["dtype"] == "uint8" and told.image["normalisation"] == "inside the graph"
    keys = _keys(path)
    assert "onnx.infer" not in keys
    if step.startswith("int8"):
        assert (
            keys["figkd.int8_layout"] == step.partition(" ")[2] and "figkd.int8_layout" in keys["figkd.note"]
        )
    else:
        assert keys.keys() == {"figkd.classes", "figkd.input"}


def test_a_stock_session_hands_it_out(exported: Path) -> None:
    """Protects users without this package."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["figkd.classes"]) == NAMES


def test_an_engine_and_its_sidecar_tell_the_same(exported: Path, tmp_path: Path) -> None:
    """Protects engines that are plans: their sidecar is all that can tell."""
    out = tmp_path / "fp32.onnx"
    BACKENDS["onnxruntime"].build(exported, out)
    facts = read_facts(out)
    assert facts["classes"] == NAMES == list(_told(out).classes)
    assert facts["image"] == _told(out).image


@pytest.mark.parametrize(
    "value", ["", "[", "1", '{"a": 1}', "[1]", '["a", "a"]', "[" * 5000, '["' + "x" * 5000 + '"]', "null"]
)
def test_what_is_no_list_of_names_is_untold(exported: Path, value: str) -> None:
    """Protects against files of others that use the key, or were altered."""
    model: Any = onnx.load(str(exported))
    graph.set_metadata(model, {contract.CLASSES: value, contract.INPUT: value})
    assert contract.contract_of(model).classes == ()


@pytest.mark.parametrize(
    "change",
    [
        {"resize": 0},
        {"resize": 8},
        {"width": 20},
        {"dtype": "int8"},
        {"levels": {"integer": [1, 0]}},
        {"mean": [0.5]},
    ],
)
def test_a_file_tells_how_a_photo_becomes_its_input(change: dict[str, Any]) -> None:
    """What a device needs beside the engine; what cannot be counts as untold."""
    from dataclasses import asdict

    for image in (
        ImageInput("NHWC", "uint8", 16, 16, resize=20),
        ImageInput("NHWC", "uint8", 16, 16, resize=20, levels={"integer": (0.0, 4095.0)}),
        ImageInput("NCHW", "float32", 16, 16, mean=(0.1,) * 3, std=(0.5,) * 3, resize=16),
    ):
        told = json.loads(contract.metadata(NAMES, image)[contract.INPUT])
        found = contract.preprocessing_of(told)
        assert found is not None
        assert (found.side, found.size, found.dtype) == (image.resize, 16, image.dtype)
        assert dict(found.levels).items() >= dict(image.levels).items()
    told = asdict(ImageInput("NHWC", "uint8", 16, 16, resize=20)) | change
    assert contract.preprocessing_of(told) is None
    assert contract.preprocessing_of(None) is None
    assert contract.preprocessing_of(asdict(IMAGE)) is None
