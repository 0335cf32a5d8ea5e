"""Protects: the layer information beside an engine, and what is counted in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export.engines import BACKENDS
from export.engines.trt_layers import layers_path, network_summary

rtx = BACKENDS["tensorrt_rtx"]
needs_rtx = pytest.mark.skipif(not rtx.availability().built, reason=rtx.availability().detail)


@needs_rtx
@pytest.mark.parametrize(("precision", "share"), [("fp32", "float"), ("fp16", "half"), ("int8", "quantised")])
def test_each_precision_is_seen_in_the_parsed_network(
    files: Any, tmp_path: Path, precision: str, share: str
) -> None:
    """8 convolutions and products: with Q/DQ before them they can run in INT8."""
    info = rtx.build(getattr(files, precision), tmp_path / "m.engine", compute_capabilities=["SM86"])
    found = json.loads(layers_path(tmp_path / "m.engine").read_text())
    summary = found["network"]["summary"]
    assert summary == info.composition["network"]
    assert summary["compute"] == 8 and summary[share] >= 7
    layers = found["network"]["layers"]
    assert len(layers) == summary["layers"] == info.layers
    assert any(layer["type"] == "CONVOLUTION" and layer["outputs"][0]["shape"][0] == 1 for layer in layers)


def test_a_quantised_layer_is_one_that_reads_a_dequantised_tensor() -> None:
    def layer(kind: str, source: str, name: str, dtype: str = "float") -> dict[str, Any]:
        return {
            "name": name,
            "type": kind,
            "inputs": [source],
            "outputs": [{"name": name, "dtype": dtype, "shape": []}],
        }

    layers = [
        layer("DEQUANTIZE", "x", "d", "half"),
        layer("SHUFFLE", "d", "s", "half"),
        layer("CONVOLUTION", "s", "c1", "half"),
        layer("CONVOLUTION", "c1", "c2", "half"),
        layer("MATRIX_MULTIPLY", "c2", "m"),
    ]
    found = network_summary(layers)
    assert (found["compute"], found["quantised"], found["half"], found["float"]) == (3, 1, 1, 1)
    assert found["types"] == {"CONVOLUTION": 2, "DEQUANTIZE": 1, "MATRIX_MULTIPLY": 1, "SHUFFLE": 1}
