"""The wavelet detail of logits as a module: a matrix for usual class counts, a filter bank for very many classes.

Both give `pywt.wavedec`'s coefficients. The matrix needs C x C entries, so that beyond `DENSE_CLASSES` classes each
level is a convolution with stride 2 of the extended signal, until the signal is short enough for a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pywt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figkd.loss.wavelet import band_names, wavedec_matrix, weighted

DENSE_CLASSES = 256
"""Longest axis that is transformed by one matrix; longer ones are faster by filter bank."""


class LinearDetail(nn.Module):
    """Weighted detail coefficients of x [B, C] along its last axis: [B, D], the bands coarse to fine.

    Args:
        num_classes: C.
        wavelet: any discrete wavelet of PyWavelets.
        mode: PyWavelets' boundary mode.
        weights: weight of every band's squared error, from `figkd.loss.wavelet.check_band_weights`.
        order: int64 [C], position i of the transformed axis holds x[:, order[i]].
    """

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
        self.levels = nn.ModuleList()
        length, self.scales = num_classes, []
        while length > DENSE_CLASSES and len(self.levels) < level:
            step = FilterBankLevel(length, wavelet, mode)
            self.levels.append(step)
            length = step.length_out
            self.scales.append(float(np.sqrt(weights[f"d{len(self.levels)}"])))
        rest = level - len(self.levels)
        # Without a level left for the matrix, the signal is the approximation, and may still be very long.
        self.approximation = None if rest else math.sqrt(weights[f"a{level}"])
        if not rest:
            matrix = np.zeros((length, 0))
        else:
            bands = wavedec_matrix(length, wavelet, rest, mode)
            matrix = weighted(bands, [weights[name] for name in band_names(level)[: len(bands.slices)]])
        if self.levels:
            self.register_buffer("order", torch.from_numpy(order), persistent=False)
        else:
            # x[:, order] @ W equals x @ W' with row order[i] of W' = row i of W: no gather per step.
            rows = np.empty_like(matrix)
            rows[order] = matrix
            matrix = rows
        self.register_buffer("matrix", torch.tensor(matrix, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Detail coefficients of float32 or float64 [B, C]."""
        # Autocast would run these products in half precision.
        with torch.autocast(x.device.type, enabled=False):
            fine: list[Tensor] = []
            if self.levels:
                x = x.index_select(1, self.get_buffer("order"))
            for step, scale in zip(self.levels, self.scales, strict=True):
                x, detail = step(x)
                if scale:
                    fine.append(detail * scale)
            if self.approximation is None:
                coarse = [x @ self.get_buffer("matrix").to(x.dtype)]
            else:
                coarse = [x * self.approximation] if self.approximation else []
            bands = [*coarse, *reversed(fine)]
            return torch.cat(bands, dim=1) if len(bands) > 1 else bands[0]


class FilterBankLevel(nn.Module):
    """One level of `pywt.dwt` of signals [B, n]: approximation and detail, each [B, `length_out`]."""

    def __init__(self, length: int, wavelet: str, mode: str) -> None:
        super().__init__()
        transform = pywt.Wavelet(wavelet)
        taps = int(transform.dec_len)
        self.length_out = int(pywt.dwt_coeff_len(length, taps, mode))
        periodic = mode == "periodization"
        # pywt: out[k] = sum_j filter[j] x[2 k + shift - j] of the extended signal, shift = 1 or taps / 2.
        self.left = taps // 2 - 1 if periodic else taps - 2
        self.right = 2 * (self.length_out - 1) + taps - self.left - length
        self.pairs = taps == 2 and length % 2 == 0
        edge = min(length, taps + 1)
        self.edge = edge
        self.register_buffer("pads", _extension(length, edge, self.left, self.right, mode), persistent=False)
        filters = np.stack([np.array(transform.dec_lo)[::-1], np.array(transform.dec_hi)[::-1]])
        self.register_buffer(
            "filters", torch.tensor(filters[:, None].copy(), dtype=torch.float32), persistent=False
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Approximation and detail of x [B, n]."""
        if self.pairs:  # Haar of an even length: a convolution would be many times slower
            even, odd = x[:, ::2] * math.sqrt(0.5), x[:, 1::2] * math.sqrt(0.5)
            return even + odd, even - odd
        ends = torch.cat([x[:, : self.edge], x[:, -self.edge :]], dim=1) @ self.get_buffer("pads").to(x.dtype)
        extended = torch.cat([ends[:, : self.left], x, ends[:, self.left :]], dim=1)
        bands = F.conv1d(extended[:, None], self.get_buffer("filters").to(x.dtype), stride=2)
        return bands[:, 0], bands[:, 1]


def _extension(length: int, edge: int, left: int, right: int, mode: str) -> Tensor:
    """What pywt puts before and after a signal, as a matrix [2 edge, left + right] of its first and last values."""
    basis = np.zeros((2 * edge, length))
    basis[np.arange(edge), np.arange(edge)] = 1.0
    basis[edge + np.arange(edge), length - edge + np.arange(edge)] = 1.0
    # pywt.pad fails for widths of 0 in some modes: pad one more on each side.
    padded = np.stack([pywt.pad(row, (left + 1, right + 1), mode) for row in basis])
    before, after = padded[:, 1 : left + 1], padded[:, left + 1 + length : -1]
    outside = np.concatenate([before, after], axis=1)
    return torch.tensor(outside, dtype=torch.float32)
