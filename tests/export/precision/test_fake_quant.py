"""Protects: fake quantisation is ONNX's arithmetic, and its gradients are the documented ones."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from export.precision.fake_quant import dequantize, half_through, quantize


def fake(x: Tensor, scale: Tensor, zero: Tensor | None = None, low: int = -128, high: int = 127) -> Tensor:
    return dequantize(quantize(x, scale, zero, low, high), scale, zero)


def test_frozen_values() -> None:
    """Round half to even after the division, then the zero point, then saturation."""
    x = torch.tensor([-100.0, -1.25, -0.75, -0.25, 0.25, 0.75, 1.0, 63.5, 63.74, 64.0])
    q = quantize(x, torch.tensor(0.5), None, -128, 127)
    assert q.tolist() == [-128, -2, -2, 0, 0, 2, 2, 127, 127, 127]
    assert dequantize(q, torch.tensor(0.5), None).tolist() == [-64, -1, -1, 0, 0, 1, 1, 63.5, 63.5, 63.5]
    unsigned = quantize(x, torch.tensor(0.5), torch.tensor(3), 0, 255)
    assert unsigned.tolist() == [0, 1, 1, 3, 3, 5, 5, 130, 130, 131]
    assert dequantize(unsigned, torch.tensor(0.5), torch.tensor(3)).tolist() == [
        -1.5, -1, -1, 0, 0, 1, 1, 63.5, 63.5, 64,
    ]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-300, 300, width=32), min_size=6, max_size=6),
    scales=st.lists(st.floats(2.0**-10, 4, width=32), min_size=3, max_size=3),
    unsigned=st.booleans(),
    per_channel=st.booleans(),
)
def test_agrees_with_onnx(
    values: list[float], scales: list[float], unsigned: bool, per_channel: bool
) -> None:
    """The standard's own reference computes the same, bit for bit."""
    x = np.array(values, np.float32).reshape(2, 3)
    scale = np.array(scales if per_channel else scales[0], np.float32)
    zero = np.full(scale.shape, 7 if unsigned else 0, np.uint8 if unsigned else np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "pair",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    got = fake(
        torch.from_numpy(x),
        torch.from_numpy(scale),
        torch.from_numpy(zero),
        *((0, 255) if unsigned else (-128, 127)),
    )
    np.testing.assert_array_equal(got.numpy(), expected)


def test_straight_through_gradient_of_the_input() -> None:
    """1 where the level is kept, the ends included (the largest weight of a channel lies there); 0 where it is cut."""
    x = torch.tensor([-70.0, -64.2, -64.0, 0.3, 63.5, 63.7, 63.8, 70.0], requires_grad=True)
    fake(x, torch.tensor(0.5)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 1, 1, 0, 0]


def test_gradients_per_channel() -> None:
    """Each scale gets the gradient of its own channel: the same as that of the channel alone."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 2, 2, generator=generator)
    weight = torch.randn(4, 3, 2, 2, generator=generator)
    start = torch.tensor([0.01, 0.02, 0.5])
    scale, whole = start.clone().requires_grad_(), x.clone().requires_grad_()
    (fake(whole, scale, torch.tensor([0, 5, -3])) * weight).sum().backward()
    for channel, zero in enumerate((0, 5, -3)):
        one, part = start[channel].clone().requires_grad_(), x[:, channel].clone().requires_grad_()
        (fake(part, one, torch.tensor(zero)) * weight[:, channel]).sum().backward()
        assert scale.grad is not None and whole.grad is not None and one.grad is not None
        # The order of a sum depends on the CPU; this bounds its rounding, for terms of at most 128 |weight|.
        terms = 128 * weight[:, channel].abs()
        bound = 2 * terms.numel() * torch.finfo(terms.dtype).eps * float(terms.sum())
        torch.testing.assert_close(scale.grad[channel], one.grad, rtol=0, atol=bound)
        torch.testing.assert_close(whole.grad[:, channel], part.grad)


@pytest.mark.parametrize("zero", [0, 10])
def test_gradient_of_the_scale(zero: int) -> None:
    """round(x/s) - x/s inside, the end of the range outside: what learnt step sizes (LSQ) prescribe."""
    x = torch.tensor([-100.0, 0.3, 0.6, 100.0])
    for index, value in enumerate(x.tolist()):
        scale = torch.tensor(0.5, requires_grad=True)
        fake(x[index], scale, torch.tensor(zero)).backward()
        levels = np.float32(value) / np.float32(0.5)
        inside = float(np.round(levels) - levels)
        expected = {0: -128 - zero, 3: 127 - zero}.get(index, inside)
        assert scale.grad is not None and scale.grad.item() == pytest.approx(expected, abs=1e-6)


def test_gradient_of_the_scale_is_that_of_the_loss() -> None:
    """Where the level does not change, a finite difference checks both gradients together.

    With x moving in proportion to s, the level stays and y = s * level exactly: dy/ds + dy/dx * x/s is the level.
    """
    x, s, step = torch.tensor(0.61), 0.5, 1e-3
    moved = [fake(x * t / s, torch.tensor(t)) for t in (s - step, s + step)]
    difference = (moved[1] - moved[0]).item() / (2 * step)
    scale, value = torch.tensor(s, requires_grad=True), x.clone().requires_grad_()
    fake(value, scale).backward()
    assert scale.grad is not None and value.grad is not None
    assert (scale.grad + value.grad * x / s).item() == pytest.approx(difference, rel=1e-3)
    assert difference == pytest.approx(1.0, rel=1e-3)


@settings(deadline=None, max_examples=200)
@given(st.floats(-6e4, 6e4, width=32))
def test_half_is_fp16_and_passes_the_gradient(value: float) -> None:
    """What is stored as FP16 is computed with as FP16."""
    x = torch.tensor(value, requires_grad=True)
    y = half_through(x)
    y.backward()
    assert y.item() == float(np.float16(np.float32(value))) and x.grad is not None and x.grad.item() == 1
