"""Protects: the shares that explain a missing speed-up are counted right."""

from __future__ import annotations

from typing import Any

from export.engines.onnxruntime import optimised_operators
from export.quantised import quantised_share

# Of the net in conftest.py at 32 px: output pixels * output channels * input channels a group * kernel.
MACS = (
    16 * 16 * 12 * 3 * 9
    + (16 * 16 * 12 * 9 + 16 * 16 * 12 * 12)
    + (8 * 8 * 12 * 9 + 8 * 8 * 24 * 12)
    + (8 * 8 * 24 * 9 + 8 * 8 * 24 * 24)
    + 24 * 8
)
DEPTHWISE = 16 * 16 * 12 * 9 + 8 * 8 * 12 * 9 + 8 * 8 * 24 * 9


def test_a_float_graph_has_no_int8(files: Any) -> None:
    """Layers and multiply-accumulates by hand."""
    share = quantised_share(files.fp32)
    assert (share.layers, share.int8_layers, share.int8_macs) == (8, 0, 0)
    assert (share.macs, share.depthwise_macs) == (MACS, DEPTHWISE)
    assert share.quantize == share.dequantize == 0
    assert share.float_layers[0].macs_percent == 100 * 16 * 16 * 12 * 27 / MACS


def test_quantised_graphs(files: Any) -> None:
    """In the layout for ONNX Runtime every layer is INT8, and its optimiser fuses them."""
    share = quantised_share(files.int8_cpu)
    assert share.layers == 8 and share.macs == MACS
    assert share.int8_layers >= 7 and share.int8_macs >= 0.98 * MACS
    assert share.dequantize >= share.quantize > 0
    operators = optimised_operators(files.int8_cpu)
    assert operators["QLinearConv"] == 7
    assert "Conv" not in operators and operators.get("DequantizeLinear", 0) <= 2
    assert quantised_share(files.int8).int8_layers > 0
