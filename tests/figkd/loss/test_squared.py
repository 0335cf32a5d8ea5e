"""The squared detail in closed form against PyWavelets, its gradient, and its memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import pywt
import torch

from figkd.loss.order import random_order
from figkd.loss.squared import SquaredDetail
from figkd.loss.wavelet import band_names, check_band_weights, deepest_level


def _weights(level: int, decay: float, given: dict[str, float] | None = None) -> dict[str, float]:
    return check_band_weights(band_names(level), given, decay)


def _expected(difference: np.ndarray, wavelet: str, level: int, mode: str, decay: float) -> float:
    with np.testing.suppress_warnings() as sup:
        sup.filter(UserWarning, "Level value of")
        _, *details = pywt.wavedec(difference, wavelet, mode=mode, level=level, axis=1)
    bands = zip(range(level, 0, -1), details, strict=True)
    return sum(decay ** (j - 1) * float((band**2).sum()) for j, band in bands) / len(difference)


# Dense; a row of blocks with and without a longer last one; too deep, too long or not local for blocks.
@pytest.mark.parametrize("classes", [2, 5, 21, 127, 128, 131, 160, 200, 257, 301, 1000])
@pytest.mark.parametrize(
    ("wavelet", "level", "mode"),
    [("haar", 1, "symmetric"), ("haar", 2, "symmetric"), ("haar", 3, "symmetric"), ("haar", 8, "symmetric"),
     ("haar", 2, "periodic"), ("haar", 3, "zero"), ("haar", 1, "reflect"), ("db2", 2, "symmetric"),
     ("sym4", 1, "periodization")],
)  # fmt: skip
def test_equals_pywavelets(classes: int, wavelet: str, level: int, mode: str) -> None:
    """Protects the value for each way of computing it: dense, blocks, filter bank."""
    level = min(level, deepest_level(classes))
    student, teacher = np.random.default_rng(classes).normal(size=(2, 4, classes)) * 3
    order = random_order(classes, 1)
    module = SquaredDetail(classes, wavelet, mode, _weights(level, 0.7), order).double()
    found = module(torch.tensor(student), torch.tensor(teacher))
    expected = _expected((student - teacher)[:, order], wavelet, level, mode, 0.7)
    assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("classes", [5, 131, 160, 301])
def test_gradient(classes: int) -> None:
    """Protects the closed form of the gradient: gradcheck in double precision."""
    student, teacher = torch.randn(
        2, 2, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    module = SquaredDetail(
        classes, "haar", "symmetric", _weights(2, 0.5, {"a2": 0.25}), random_order(classes, 2)
    )
    module = module.double()
    point = student.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x, teacher), (point,))


def test_float32_and_autocast() -> None:
    """Protects AMP: half-precision products would lose the detail of close logits."""
    student, teacher = torch.randn(2, 4, 200)
    module = SquaredDetail(200, "haar", "symmetric", _weights(2, 1.0), np.arange(200))
    expected = module(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(student, teacher), expected)


def test_a_common_offset_of_the_logits_is_not_seen() -> None:
    """Protects float32: what both halves of a node have in common cancels before it is squared, not after."""
    student, teacher = torch.randn(2, 64, 1000, generator=torch.Generator().manual_seed(0))
    module = SquaredDetail(1000, "haar", "symmetric", _weights(2, 0.7), random_order(1000, 0))
    assert float(module(student + 10, teacher)) == pytest.approx(float(module(student, teacher)), rel=1e-4)


@pytest.mark.parametrize("level", [2, 17])
def test_very_many_classes_need_no_matrix(level: int) -> None:
    """Protects memory: the form of 100,000 classes would have 10^10 entries."""
    module = SquaredDetail(100_000, "haar", "symmetric", _weights(level, 0.7), np.arange(100_000))
    assert sum(buffer.numel() for buffer in module.buffers()) < 1_000_000
    student = torch.randn(1, 100_000, generator=torch.Generator().manual_seed(0))
    expected = _expected(student.numpy().astype(np.float64), "haar", level, "symmetric", 0.7)
    assert float(module(student, torch.zeros_like(student))) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_averaged_over_all_orders_it_is_the_centred_squared_difference(level: int) -> None:
    """Protects the claim of docs/method.md that the order is what FiGKD adds to centred logit MSE."""
    differences = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(3, 5, dtype=torch.float64)
    orders = [np.array(order) for order in itertools.permutations(range(5))]
    modules = [
        SquaredDetail(5, "haar", "symmetric", _weights(level, 0.5), order).double() for order in orders
    ]
    ratios = []
    for x in differences:
        mean = sum(float(module(x, zero)) for module in modules) / len(modules)
        ratios.append(mean / float((x - x.mean(dim=1, keepdim=True)).square().sum()))
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-5)
