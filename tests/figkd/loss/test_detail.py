"""The linear detail: matrix and filter bank against PyWavelets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pywt
import torch

from figkd.loss import detail
from figkd.loss.detail import FilterBankLevel, LinearDetail
from figkd.loss.order import random_order
from figkd.loss.wavelet import band_names, check_band_weights


@pytest.mark.parametrize("mode", pywt.Modes.modes)
@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym5", "coif3", "bior3.5", "rbio2.2", "db20"])
def test_one_level_equals_dwt(wavelet: str, mode: str) -> None:
    """Protects the filter bank's alignment and every boundary mode, for even and odd lengths."""
    for length in (200, 257):
        signal = np.random.default_rng(length).normal(size=(3, length))
        approximation, coefficients = FilterBankLevel(length, wavelet, mode)(torch.tensor(signal))
        expected = pywt.dwt(signal, wavelet, mode=mode, axis=1)
        np.testing.assert_allclose(approximation.numpy(), expected[0], atol=2e-6)
        np.testing.assert_allclose(coefficients.numpy(), expected[1], atol=2e-6)


@pytest.mark.parametrize("level", [1, 2, 5])
def test_filter_bank_and_matrix_agree(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the switch: the same coefficients, order and weights whether an axis is long or short."""
    classes = 301
    weights = check_band_weights(band_names(level), {"d1": 0.5, f"a{level}": 0.25}, 0.8)
    arguments: tuple[Any, ...] = (classes, "db2", "reflect", weights, random_order(classes, 1))
    monkeypatch.setattr(detail, "DENSE_CLASSES", classes)
    dense = LinearDetail(*arguments)
    monkeypatch.setattr(detail, "DENSE_CLASSES", 120)
    banked = LinearDetail(*arguments)
    assert len(banked.levels) == min(level, 2) and not len(dense.levels)
    x = torch.randn(4, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(banked(x), dense(x), atol=1e-5, rtol=1e-5)


def test_autocast_leaves_it_in_float32() -> None:
    """Protects AMP: half-precision products would lose the detail of close logits."""
    x = torch.randn(4, 21)
    module = LinearDetail(21, "haar", "symmetric", check_band_weights(band_names(2), None), np.arange(21))
    expected = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(x), expected)


def test_few_levels_of_very_many_classes_need_no_matrix() -> None:
    """Protects memory: one level of 100,000 classes once took a matrix of 50,000 x 50,000."""
    module = LinearDetail(
        100_000, "haar", "symmetric", check_band_weights(band_names(1), {"a1": 0.25}), np.arange(100_000)
    )
    assert sum(buffer.numel() for buffer in module.buffers()) < 1_000_000
    x = torch.randn(1, 100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    approximation, coefficients = pywt.dwt(x.numpy(), "haar", axis=1)
    expected = np.concatenate([approximation * 0.5, coefficients], axis=1)
    np.testing.assert_allclose(module(x).numpy(), expected, atol=1e-6)
