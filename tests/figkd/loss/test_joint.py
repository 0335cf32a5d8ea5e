"""Protects the loss made by one function: its parts are those of the three functions, value and gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from figkd.loss import functional, joint
from figkd.loss.class_tree import ClassTree
from figkd.loss.figkd_loss import FiGKDLoss
from figkd.loss.multiscale import band_weights_of, multiscale_kl
from figkd.loss.order import random_order
from figkd.loss.squared import SquaredDetail
from figkd.loss.wavelet import band_names, check_band_weights, deepest_level


@settings(max_examples=30, deadline=None)
@given(
    classes=st.integers(2, 150),
    seed=st.integers(0, 10_000),
    temperatures=st.sampled_from([(1.0, 1.0), (1.5, 2.0), (2.0, 4.0), (4.0, 1.0), (4.0, 4.0)]),
    squared=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1]),
    low=st.sampled_from([0.0, 0.25]),
)
def test_equals_its_parts(
    classes: int, seed: int, temperatures: tuple[float, float], squared: bool, smoothing: float, low: float
) -> None:
    """Protects every part, and each part's share of the gradient, for any class count and order."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 6, classes, generator=generator, dtype=torch.float64) * 3
    student.requires_grad_()
    labels = torch.randint(classes, (6,), generator=generator)
    level = deepest_level(classes)
    temperature, warmth = temperatures
    order, low_band = random_order(classes, seed), {f"a{level}": low}
    detail: ClassTree | SquaredDetail
    if squared:
        bands = check_band_weights(band_names(level), low_band, 0.5)
        detail = SquaredDetail(classes, "haar", "symmetric", bands, order)
        distance = detail(student, teacher) / temperature**2
    else:
        detail = ClassTree(order, band_weights_of(level, low_band, 0.5))
        distance = multiscale_kl(student, teacher, detail, mass_power=0.5, temperature=temperature)
    chosen = joint.Settings(0.5, 2.0, 3.0, 0.5, temperature, warmth, smoothing)
    found = joint.joint(student, teacher, labels, detail, chosen)
    expected = (
        0.5 * functional.cross_entropy(student, labels, label_smoothing=smoothing),
        2.0 * distance,
        3.0 * functional.batch_relation(student, teacher, temperature=warmth),
    )
    for one, other, share in zip(found, expected, (1.0, -2.0, 0.5), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
        slopes = [torch.autograd.grad(share * x, student, retain_graph=True)[0] for x in (one, other)]
        torch.testing.assert_close(*slopes, rtol=1e-7, atol=1e-10)
    assert torch.autograd.gradcheck(
        lambda point: sum(joint.joint(point, teacher, labels, detail, chosen)),
        student[:, :],
        atol=1e-4,
        rtol=1e-3,
        fast_mode=True,
    )


_KL = {"distance": "kl", "level": "full", "temperature": 2.0, "weight": 1.0, "batch_weight": 2.0}


@pytest.mark.parametrize("options", [_KL, {}])
@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_single_precision_is_near_the_parts(classes: int, options: dict[str, Any]) -> None:
    """Protects float32: within a few roundings of the parts, also over chunks of rows."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 130, classes, generator=generator) * 4
    labels = torch.randint(classes, (130,), generator=generator)
    loss = FiGKDLoss(classes, order=random_order(classes, 1), **options)
    assert loss.joint is not None
    gradients = []
    for apart in (False, True):
        loss.joint = None if apart else loss.joint
        point = student.clone().requires_grad_()
        parts = loss.parts(point, teacher, labels)
        gradients.append(
            (torch.stack(list(parts.values())), *torch.autograd.grad(sum(parts.values()), point))
        )
    for one, other in zip(*gradients, strict=True):
        largest = float(other.detach().abs().max())
        torch.testing.assert_close(one, other, rtol=2e-5, atol=largest * 2e-6)


def test_what_would_underflow_is_made_in_parts() -> None:
    """Protects very many classes and large temperatures: a uniform softmax to the power T must not vanish."""
    assert joint.fits(10_000, 4.0, 1.0)
    assert not joint.fits(100_000, 8.0, 1.0)
    assert joint.fits(100, 2.0, 4.0) and not joint.fits(100, 1.0, 4.0)
    loss = FiGKDLoss(2, distance="kl", temperature=900.0)
    assert loss.joint is None
    assert FiGKDLoss(4, distance="kl", order="random").joint is None
    assert FiGKDLoss(4, domain="standardised").joint is None
    student = torch.zeros(3, 2, requires_grad=True)
    value = loss(student, torch.ones(3, 2), torch.tensor([0, 1, 1]))
    assert np.isfinite(float(value.detach()))
