"""The multiscale KL divergence: against a recursive definition, against KL itself, and its arrangement."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from figkd.errors import FigkdError
from figkd.loss.functional import kd
from figkd.loss.multiscale import band_weights_of, fold_index, multiscale_kl
from figkd.loss.order import random_order
from figkd.loss.wavelet import deepest_level


def _recursive(q: np.ndarray, p: np.ndarray, level: int, bands: tuple[float, ...], power: float) -> float:
    """The definition, node by node, for one sample whose classes are in order."""
    total = 0.0
    for band in range(level):
        halves_q, halves_p = ([x[i : i + 2] for i in range(0, len(x), 2)] for x in (q, p))
        for ours, theirs in zip(halves_q, halves_p, strict=True):
            mass = theirs.sum()
            split_p, split_q = theirs / mass, ours / ours.sum()
            total += bands[band] * mass**power * float((split_p * np.log(split_p / split_q)).sum())
        q, p = (np.array([pair.sum() for pair in halves]) for halves in (halves_q, halves_p))
    return total + bands[level] * float((p * np.log(p / q)).sum())


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 70),
    seed=st.integers(0, 10_000),
    power=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    decay=st.sampled_from([0.5, 1.0]),
    data=st.data(),
)
def test_equals_the_definition(
    classes: int, seed: int, power: float, decay: float, data: st.DataObject
) -> None:
    """Protects the value for any class count, order, level, weights and temperature."""
    level = data.draw(st.integers(1, deepest_level(classes)))
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(2, 3, classes)) * 2
    order, temperature = random_order(classes, seed), 1.5
    bands = band_weights_of(level, {f"a{level}": 0.4}, decay)
    found = multiscale_kl(
        torch.tensor(student),
        torch.tensor(teacher),
        torch.from_numpy(fold_index(order, level)),
        bands,
        mass_power=power,
        temperature=temperature,
    )
    q, p = (_softmax(x / temperature)[:, order] for x in (student, teacher))
    expected = np.mean([_recursive(a, b, level, bands, power) for a, b in zip(q, p, strict=True)])
    assert float(found) == pytest.approx(expected * temperature**2, rel=1e-9, abs=1e-12)


@given(classes=st.integers(2, 200), level=st.integers(1, 8), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_chain_rule(classes: int, level: int, seed: int) -> None:
    """Protects the law: nodes by mass, all bands and the approximation add up to Hinton's KL, in any order."""
    level = min(level, deepest_level(classes))
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 4, classes, generator=generator, dtype=torch.float64)
    index = torch.from_numpy(fold_index(random_order(classes, seed), level))
    bands = (1.0,) * (level + 1)
    found = multiscale_kl(student, teacher, index, bands, mass_power=1.0, temperature=3.0)
    assert float(found) == pytest.approx(float(kd(student, teacher, temperature=3.0)), rel=1e-9)


def test_arrangement() -> None:
    """Protects the layout: the first fold joins neighbours, and odd classes meet the empty class (5)."""
    assert fold_index([4, 3, 2, 1, 0], 1).tolist() == [4, 2, 0, 3, 1, 5]
    # Leaves 4 3 | 2 1 | 0 .: level 1 joins i and i + n/2; level 2 joins the results of the first two pairs.
    assert fold_index([4, 3, 2, 1, 0], 2).tolist() == [4, 0, 2, 5, 3, 5, 1, 5]


def test_extreme_logits_stay_finite() -> None:
    """Protects against 0 / 0 in empty nodes: one-hot teachers and students, also where they disagree."""
    student = torch.tensor([[300.0, 0.0, 0.0, 0.0, -300.0]], requires_grad=True)
    teacher = torch.tensor([[-300.0, 0.0, 0.0, 0.0, 300.0]])
    index = torch.from_numpy(fold_index(np.arange(5), 3))
    for power in (0.0, 0.5, 1.0):
        value = multiscale_kl(student, teacher, index, (1.0,) * 4, mass_power=power, temperature=1.0)
        (gradient,) = torch.autograd.grad(value, student)
        assert torch.isfinite(value) and torch.isfinite(gradient).all(), power


def test_wrong_bands_are_named() -> None:
    """Protects: names and signs of band weights are checked."""
    with pytest.raises(FigkdError, match="unknown wavelet band 'd3'"):
        band_weights_of(2, {"d3": 1.0})
    with pytest.raises(FigkdError, match="every wavelet band has weight 0"):
        band_weights_of(1, {"d1": 0.0})
