"""Class orders: permutations that do what their names say."""

from __future__ import annotations

import hashlib
import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figkd.errors import FigkdError
from figkd.loss import order as order_module
from figkd.loss.order import (
    OPTIMAL_UP_TO,
    confusion_order,
    hierarchy_order,
    identity,
    images_to_compare,
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


@given(labels=st.lists(st.integers(0, 5), max_size=60), most=st.integers(1, 9))
def test_the_images_that_are_compared(labels: list[int], most: int) -> None:
    """Protects an order from the images that come first: so many of each class, spread over its own, once each."""
    rows = images_to_compare(labels, most)
    assert (np.diff(rows) > 0).all()
    for name in set(labels):
        own = np.flatnonzero(np.array(labels) == name)
        places = np.searchsorted(own, rows[np.array(labels)[rows] == name])
        assert len(places) == min(len(own), most)
        # As a ruler: wherever a class is cut, the share of those before the cut is kept, to one image.
        assert abs(places / len(own) - np.arange(len(places)) / len(places)).max() <= 1 / len(places)


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested more than 64 levels"),
        ("[" * 600 + "]" * 600, "nested more than 64 levels"),
        ("[" * 55 + '"a"' + "]" * 55, "more than 50 levels"),
        ("[" + " " * 10_000_000 + "]", "more than 10,000,000 bytes"),
        ("[1, ", "cannot be read as JSON"),
        ("\xff", "cannot be read as JSON"),
    ],
    ids=["endless", "very deep", "deep", "large", "broken", "no text"],
)
def test_hostile_hierarchy_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """Protects: the library's error, and neither Python's nor the machine's memory."""
    path = tmp_path / "groups.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(FigkdError, match=message):
        make_order("hierarchy", 2, groups_file=path, classes=["a", "b"])


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


@pytest.mark.parametrize(
    ("classes", "digest"),
    [(200, "1dcca0536c122dc2"), pytest.param(1000, "6bbaff8fe20829d6", marks=pytest.mark.slow)],
)
def test_orders_of_few_classes_stay_as_they_were(classes: int, digest: str) -> None:
    """Protects results that are out: the order that students were trained with is the same to the last class."""
    random = np.random.default_rng(7)
    logits = (random.standard_normal((3 * classes, classes)) * 2).astype(np.float16)
    labels = random.integers(0, classes, 3 * classes)
    order = make_order("confusion", classes, logits=logits, labels=labels, temperature=2.0)
    assert hashlib.sha256(order.tobytes()).hexdigest()[:16] == digest
    assert classes <= OPTIMAL_UP_TO


def test_orders_of_thousands_of_classes_take_no_minutes() -> None:
    """Protects 2,000 classes from an optimum that took 28 s of a quiet core, for the logits that cost it most."""
    logits = np.random.default_rng(0).standard_normal((4_000, 2_000)).astype(np.float32)
    started = time.process_time()
    order = make_order("confusion", 2_000, logits=logits, labels=np.arange(4_000) % 2_000)
    assert sorted(order.tolist()) == list(range(2_000))
    assert time.process_time() - started < 20


def _alike(classes: int, seed: int = 0) -> np.ndarray:
    """Confusion of classes that lie in a plane, numbered at random: near ones are confused."""
    places = np.random.default_rng(seed).random((classes, 2))
    return np.exp(-40 * np.square(places[:, None] - places[None]).sum(axis=2))


@settings(max_examples=50, deadline=None)
@given(size=st.integers(3, 40), seed=st.integers(0, 2**31))
def test_every_order_of_many_classes_is_a_permutation(size: int, seed: int) -> None:
    """Protects the transform where leaves are not ordered optimally, ties and empty rows among them."""
    counts = np.random.default_rng(seed).integers(0, 3, (size, size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_module, "OPTIMAL_UP_TO", 2)
        order = confusion_order(counts)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(size))


@pytest.mark.parametrize("seed", range(3))
def test_many_classes_are_ordered_nearly_as_well(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Protects the point of the order beyond the size where the optimum is affordable: neighbours are look-alikes."""
    confusion = _alike(200, seed)
    rates = confusion / confusion.sum(axis=1, keepdims=True)
    between = (rates + rates.T) / 2

    def kept(order: np.ndarray) -> float:
        return float(between[order[:-1], order[1:]].sum())

    optimal = kept(confusion_order(confusion))
    monkeypatch.setattr(order_module, "OPTIMAL_UP_TO", 2)
    assert kept(confusion_order(confusion)) > 0.85 * optimal > 3 * kept(identity(200))


@pytest.mark.parametrize("rows", [1, 7, 50])
def test_distances_in_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Protects the triangle's layout against SciPy's own, whatever the size of a block."""
    from scipy.spatial.distance import squareform

    confusion = np.random.default_rng(0).random((23, 23))
    confusion[5] = 0
    monkeypatch.setattr(order_module, "_BLOCK_VALUES", rows * 23)
    sums = confusion.sum(axis=1, keepdims=True)
    rates = confusion / np.where(sums > 0, sums, 1)
    whole = 1.0 - (rates + rates.T) / 2
    np.fill_diagonal(whole, 0.0)
    assert np.array_equal(order_module._distances(confusion), squareform(whole, checks=False))


def test_memory_grows_with_the_square_of_the_classes() -> None:
    """Protects the machine: 3,000 classes take two matrices of doubles and not a copy of all logits."""
    classes = 3000
    logits, labels = np.zeros((4 * classes, classes), np.float16), np.arange(4 * classes) % classes
    logits[np.arange(4 * classes), labels] = 5
    said: list[str] = []
    tracemalloc.start()
    order = make_order(
        "confusion",
        classes,
        logits=logits,
        labels=labels,
        progress=lambda done, total, note: said.append(note),
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(validate_order(order, classes), order)
    assert peak < 3 * 8 * classes**2
    assert said[-1] == "ordering 3,000 classes" and len(said) > 2
