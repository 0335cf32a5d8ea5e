"""ONNX's QuantizeLinear and DequantizeLinear in torch, with gradients: what is trained is what the file computes.

Rounding has no useful gradient. The straight-through estimator (Bengio et al. 2013) takes it for the identity, and then
the chain rule alone gives a Q/DQ pair `y = s (clamp(round(x/s) + z, low, high) - z)` the gradients of learnt step sizes
(LSQ, Esser et al. 2020): where the clamp leaves the level alone `dy/dx = 1` and `dy/ds = round(x/s) - x/s`; where it
does not, `dy/dx = 0` and `dy/ds` is the end of the range, `low - z` or `high - z`.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor | None, low: int, high: int, axis: int = 1
) -> Tensor:
    """QuantizeLinear: `clamp(round(x / scale) + zero_point, low, high)`, half to even, integers held as float32.

    Args:
        x: float32, any shape.
        scale: float32, one value, or one for each index of `axis`.
        zero_point: as `scale`, in any type; None is 0. It has no gradient.
        low: smallest value of the integer type.
        high: largest value of the integer type.
        axis: of `x`, where there are several scales.
    """
    zero = None if zero_point is None else _along(zero_point.to(x), x, axis)
    return cast(Tensor, _Quantize.apply(x, _along(scale, x, axis), zero, low, high))


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int = 1) -> Tensor:
    """DequantizeLinear: `(q - zero_point) * scale`; arguments as for `quantize`."""
    if zero_point is not None:
        q = q - _along(zero_point.to(q), q, axis)
    return q * _along(scale, q, axis)


def half_through(x: Tensor) -> Tensor:
    """The nearest FP16 value, as float32; the gradient passes through."""
    return x + (x.to(torch.float16).to(x.dtype) - x).detach()


class _Quantize(torch.autograd.Function):
    # Written out, because of the ends: torch.clamp gives no gradient to what lies exactly on one, as the largest weight
    # of every channel does; and because autograd would keep four tensors of the size of x instead of one and a mask.

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor | None, low: int, high: int) -> Tensor:
        levels = torch.round(x / scale)
        if zero is not None:
            levels += zero
        clamped = torch.clamp(levels, low, high)
        ctx.save_for_backward(x, scale, clamped == levels)
        return clamped

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, scale, inside = ctx.saved_tensors
        of_x = torch.where(inside, gradients[0], 0.0).div_(scale)
        of_scale = None
        if ctx.needs_input_grad[1]:
            product = of_x * x
            kept = [axis for axis in range(scale.ndim) if scale.shape[axis] > 1]
            summed = [axis for axis in range(product.ndim) if axis not in kept]
            of_scale = -(product.sum(summed) if summed else product).reshape(scale.shape) / scale
        return of_x, of_scale, None, None, None


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Shape one value for each index of `axis` so that it broadcasts against `x`."""
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return values.reshape(shape)
