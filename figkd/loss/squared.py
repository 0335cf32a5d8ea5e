"""Squared distance of the wavelet detail of student and teacher, with its gradient in closed form.

The transform is linear, so that the distance is the quadratic form x G x of the difference x of the logits, with
G = W W' for the detail's matrix W, and its gradient is 2 G x: one matrix product serves both. A Haar transform of L
levels looks at aligned blocks of 2^L classes only; with many classes G is then a row of small blocks, and the cost
grows with the number of classes, not with its square.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from figkd.loss.detail import DENSE_CLASSES, LinearDetail
from figkd.loss.wavelet import detail_matrix

# Width of a block of classes: a smaller one is a slower product per class, a larger one does more than is needed.
_BLOCK = range(32, 65)
# A row of blocks is faster than one matrix from here on (benchmarks/bench_loss.py).
_BLOCKS_FROM = 128


class SquaredDetail(nn.Module):
    """Mean over the batch of the weighted sum of squared differences of detail coefficients.

    Takes what `figkd.loss.detail.LinearDetail` takes.
    """

    block: Tensor | None
    last: Tensor | None
    order: Tensor | None
    places: Tensor | None

    def __init__(
        self,
        num_classes: int,
        wavelet: str,
        mode: str,
        weights: Mapping[str, float],
        order: npt.NDArray[np.int64],
    ) -> None:
        super().__init__()
        level = len(weights) - 1

        def form(classes: int) -> Tensor:
            matrix = detail_matrix(classes, wavelet, level, mode, weights)
            return torch.tensor(matrix @ matrix.T, dtype=torch.float32)

        width = _block_width(num_classes, 1 << level)
        # What an extension of the signal puts beyond its end is part of the last block only in this mode.
        local = mode == "symmetric" or num_classes % (1 << level) == 0
        block = last = places = None
        self.detail: LinearDetail | None = None
        if (
            wavelet == "haar"
            and local
            and num_classes > max(_BLOCKS_FROM, 2 * width)
            and width <= DENSE_CLASSES
        ):
            block = form(width)
            # Never shorter than a block: a transform of fewer than 2^L classes has fewer than L levels.
            last = form(width + num_classes % width) if num_classes % width else None
            places = torch.from_numpy(np.argsort(order))
        elif num_classes <= DENSE_CLASSES:
            inverse = np.argsort(order)
            block = form(num_classes)[inverse][:, inverse].contiguous()
        else:
            self.detail = LinearDetail(num_classes, wavelet, mode, weights, order)
        self.register_buffer("block", block, persistent=False)
        self.register_buffer("last", last, persistent=False)
        self.register_buffer("order", None if places is None else torch.from_numpy(order), persistent=False)
        self.register_buffer("places", places, persistent=False)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Scalar of float32 or float64 [B, C]; no gradient flows into the teacher."""
        if self.detail is not None:
            coefficients: Tensor = self.detail(student - teacher)
            return coefficients.square().sum() / len(student)
        return cast(Tensor, _Squared.apply(student, teacher, self))

    def product(self, difference: Tensor) -> tuple[Tensor, Tensor]:
        """The scalar x G x and x G [B, C] of a difference x, where `detail` is None. Not under autocast."""
        assert self.block is not None  # where there is no other way
        x = difference if self.order is None else difference.index_select(1, self.order)
        found = _product(x, self.block, self.last)
        value = torch.dot(x.flatten(), found.flatten())
        return value, found if self.places is None else found.index_select(1, self.places)


class _Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, form: SquaredDetail) -> Tensor:
        # Autocast would run the products in half precision.
        with torch.autocast(student.device.type, enabled=False):
            value, product = form.product(student - teacher)
        ctx.save_for_backward(product)
        return value / len(student)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (product,) = ctx.saved_tensors
        return product * (upstream * (2 / len(product))), None, None


def _block_width(classes: int, step: int) -> int:
    """A multiple of `step` in the range of `_BLOCK`, or `step` if that is larger; one that divides `classes` if any."""
    widths = range(-(-_BLOCK.start // step) * step, max(_BLOCK.stop, step + 1), step)
    return next((width for width in widths if classes % width == 0), widths[0])


def _product(difference: Tensor, block: Tensor, last: Tensor | None) -> Tensor:
    """The difference [B, C] times the block-diagonal matrix of as many blocks as fit, and the last one."""
    width, block = len(block), block.to(difference.dtype)
    if last is None:
        return (difference.reshape(-1, width) @ block).view(difference.shape)
    main = difference.shape[1] - len(last)
    body = (difference[:, :main].reshape(-1, width) @ block).view(-1, main)
    return torch.cat([body, difference[:, main:] @ last.to(difference.dtype)], dim=1)
