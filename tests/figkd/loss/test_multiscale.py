"""The multiscale KL divergence: against a recursive definition, against KL itself, and its arrangement."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from figkd.errors import FigkdError
from figkd.loss.class_tree import ClassTree, fold_index
from figkd.loss.functional import kd
from figkd.loss.multiscale import band_weights_of, multiscale_kl
from figkd.loss.order import random_order
from figkd.loss.wavelet import deepest_level


def _recursive(q: Tensor, p: Tensor, level: int, bands: tuple[float, ...], power: float) -> Tensor:
    """The definition, node by node, for one sample whose classes are in order."""
    total = q.new_zeros(())
    for band in range(level):
        halves_q, halves_p = ([x[i : i + 2] for i in range(0, len(x), 2)] for x in (q, p))
        for ours, theirs in zip(halves_q, halves_p, strict=True):
            mass = theirs.sum()
            split_p, split_q = theirs / mass, ours / ours.sum()
            total = total + bands[band] * mass**power * (split_p * torch.log(split_p / split_q)).sum()
        q, p = (torch.stack([pair.sum() for pair in halves]) for halves in (halves_q, halves_p))
    return total + bands[level] * (p * torch.log(p / q)).sum()


def _tree(order: npt.ArrayLike, bands: tuple[float, ...]) -> ClassTree:
    return ClassTree(np.asarray(order, dtype=np.int64), bands)


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(2, 140),
    seed=st.integers(0, 10_000),
    power=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    decay=st.sampled_from([0.5, 1.0]),
    data=st.data(),
)
def test_equals_the_definition(
    classes: int, seed: int, power: float, decay: float, data: st.DataObject
) -> None:
    """Protects value and gradient for any class count, order, level, weights and temperature."""
    level = data.draw(st.integers(1, deepest_level(classes)))
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 3, classes, generator=generator, dtype=torch.float64) * 2
    student.requires_grad_()
    order, temperature = random_order(classes, seed), 1.5
    bands = band_weights_of(level, {f"a{level}": 0.25}, decay)
    found = multiscale_kl(student, teacher, _tree(order, bands), mass_power=power, temperature=temperature)
    q, p = (torch.softmax(x / temperature, 1)[:, order] for x in (student, teacher))
    rows = [_recursive(a, b, level, bands, power) for a, b in zip(q, p, strict=True)]
    expected = torch.stack(rows).mean() * temperature**2
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    slopes = [torch.autograd.grad(value, student)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-7, atol=1e-10)


@given(classes=st.integers(2, 200), level=st.integers(1, 8), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_chain_rule(classes: int, level: int, seed: int) -> None:
    """Protects the law: nodes by mass, all bands and the approximation add up to Hinton's KL, in any order."""
    level = min(level, deepest_level(classes))
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 4, classes, generator=generator, dtype=torch.float64)
    tree = _tree(random_order(classes, seed), (1.0,) * (level + 1))
    found = multiscale_kl(student, teacher, tree, mass_power=1.0, temperature=3.0)
    assert float(found) == pytest.approx(float(kd(student, teacher, temperature=3.0)), rel=1e-9)


def test_arrangement() -> None:
    """Protects the layout: the first fold joins neighbours, and odd classes meet the empty class (5)."""
    assert fold_index([4, 3, 2, 1, 0], 1).tolist() == [4, 2, 0, 3, 1, 5]
    # Leaves 4 3 | 2 1 | 0 .: level 1 joins i and i + n/2; level 2 joins the results of the first two pairs.
    assert fold_index([4, 3, 2, 1, 0], 2).tolist() == [4, 0, 2, 5, 3, 5, 1, 5]


def test_extreme_logits_stay_finite() -> None:
    """Protects against 0 / 0 in empty nodes: one-hot teachers and students, also where they disagree."""
    for classes, level in ((5, 3), (130, 8)):
        student = torch.zeros(1, classes)
        student[0, 0], student[0, -1] = 300.0, -300.0
        teacher = -student
        student.requires_grad_()
        tree = _tree(np.arange(classes), (1.0,) * (level + 1))
        for power in (0.0, 0.5, 1.0):
            value = multiscale_kl(student, teacher, tree, mass_power=power, temperature=1.0)
            (gradient,) = torch.autograd.grad(value, student)
            assert torch.isfinite(value) and torch.isfinite(gradient).all(), (classes, power)


def test_few_nodes_are_one_matrix() -> None:
    """Protects the speed: folds down to at most 64 nodes, and no class is moved where there are none."""
    for classes, level, folds, leaves in (
        (10, 4, 0, 10),
        (64, 6, 0, 64),
        (100, 7, 1, 100),
        (1000, 10, 4, 1008),
    ):
        tree = _tree(np.arange(classes), (1.0,) * (level + 1))
        assert (tree.folds, tree.leaves) == (folds, leaves)
    assert _tree(np.arange(1000), (1.0, 1.0)).members is None


def test_wrong_bands_are_named() -> None:
    """Protects: names and signs of band weights are checked."""
    with pytest.raises(FigkdError, match="unknown wavelet band 'd3'"):
        band_weights_of(2, {"d3": 1.0})
    with pytest.raises(FigkdError, match="every wavelet band has weight 0"):
        band_weights_of(1, {"d1": 0.0})
