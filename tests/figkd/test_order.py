"""Class orders: permutations that do what their names say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figkd.errors import FigkdError
from figkd.order import (
    confusion_order,
    hierarchy_order,
    identity,
    make_order,
    random_order,
    soft_confusion,
    validate_order,
)


@settings(max_examples=50, deadline=None)
@given(size=st.integers(2, 40), seed=st.integers(0, 2**31))
def test_every_order_is_a_permutation(size: int, seed: int) -> None:
    """Protects the transform: an order that loses or repeats a class would train on wrong logits."""
    counts = np.random.default_rng(seed).integers(0, 5, (size, size))
    for order in (identity(size), random_order(size, seed), confusion_order(counts)):
        assert order.dtype == np.int64
        assert sorted(order.tolist()) == list(range(size))
        assert np.array_equal(validate_order(order, size), order)


def test_confused_classes_become_neighbours() -> None:
    """Protects the point of the order: pairs that are confused with each other sit side by side."""
    pairs = [(0, 5), (1, 3), (2, 4)]
    confusion = np.eye(6) * 90 + 1
    for a, b in pairs:
        confusion[a, b] = confusion[b, a] = 9
    place = {int(name): index for index, name in enumerate(confusion_order(confusion))}
    assert all(abs(place[a] - place[b]) == 1 for a, b in pairs)


def test_confusion_counts_rates_not_samples() -> None:
    """Protects unbalanced data: a rare class's confusion counts as much as a frequent one's."""
    confusion = np.array([[1000, 0, 60, 0], [0, 10, 0, 4], [60, 0, 1000, 0], [0, 4, 0, 10]], dtype=float)
    order = confusion_order(confusion * np.array([[1], [100], [1], [100]])).tolist()
    assert confusion_order(confusion).tolist() == order
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 2}), frozenset({1, 3})}


def test_orders_repeat() -> None:
    """Protects reproducibility: the same seed, the same order; another seed, another one."""
    assert np.array_equal(random_order(21, 3), random_order(21, 3))
    assert not np.array_equal(random_order(21, 3), random_order(21, 4))


def test_soft_confusion_is_the_mean_probability() -> None:
    """Protects the formula, the empty class, and overflow of large logits."""
    logits = np.array([[np.log(3.0), 0.0, -np.inf], [np.log(7.0), 0.0, -np.inf], [2000.0, 0.0, 0.0]])
    expected = [[(0.75 + 0.875) / 2, (0.25 + 0.125) / 2, 0], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(soft_confusion(logits, [0, 0, 2], 3), expected, atol=1e-12)


def test_temperature_spreads() -> None:
    """Protects the direction of the temperature."""
    logits = np.array([[4.0, 0.0]])
    assert soft_confusion(logits, [0], 2, 4.0)[0, 1] > soft_confusion(logits, [0], 2, 1.0)[0, 1]


def test_hierarchy(tmp_path: Path) -> None:
    """Protects nested groups and lists, read from a file."""
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps({"hounds": {"x": ["c"], "y": ["a"]}, "terriers": ["d", "b"]}))
    order = make_order("hierarchy", 4, groups_file=groups, classes=["a", "b", "c", "d"])
    assert order.tolist() == [2, 0, 3, 1]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["a", "b", "z"], "unknown class.*z"),
        (["a"], "missing class.*b"),
        (["a", "b", "a"], "repeated class.*a"),
        (["a", 3], "leaf 3"),
    ],
)
def test_wrong_hierarchies_are_named(groups: list[object], message: str) -> None:
    """Protects: the message says which class is wrong."""
    with pytest.raises(FigkdError, match=message):
        hierarchy_order(groups, ["a", "b"])


def test_make_order_by_name() -> None:
    """Protects the registry and its messages."""
    logits = np.random.default_rng(0).standard_normal((40, 5))
    labels = np.arange(40) % 5
    assert make_order("given", 5).tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(make_order("random", 5, seed=2), random_order(5, 2))
    expected = confusion_order(soft_confusion(logits, labels, 5, 2.0))
    made = make_order("confusion", 5, logits=logits, labels=labels, temperature=2.0)
    assert np.array_equal(made, expected)
    with pytest.raises(FigkdError, match="needs the teacher's logits"):
        make_order("confusion", 5)
    with pytest.raises(FigkdError, match="needs a hierarchy file"):
        make_order("hierarchy", 5)
    with pytest.raises(FigkdError, match="unknown class order 'nosuch'"):
        make_order("nosuch", 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [[0, 1], [0, 0, 2], [0.0, 1.0, 2.0], [-1, 0, 1]])
def test_non_permutations_are_refused(wrong: list[float]) -> None:
    """Protects: a wrong order raises instead of training on wrong pairs."""
    with pytest.raises(FigkdError, match="class order"):
        validate_order(wrong, 3)


def test_wrong_inputs_are_refused() -> None:
    """Protects: shapes and values that make no sense raise."""
    with pytest.raises(FigkdError, match="confusion matrix of shape"):
        confusion_order(np.zeros((2, 3)))
    with pytest.raises(FigkdError, match="negative"):
        confusion_order(-np.eye(4))
    with pytest.raises(FigkdError, match="do not fit"):
        soft_confusion(np.zeros((3, 2)), [0, 1], 2)
    with pytest.raises(FigkdError, match="temperature"):
        soft_confusion(np.zeros((2, 2)), [0, 1], 2, 0.0)
