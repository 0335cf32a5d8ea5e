"""Protects: accuracy figures, checked against counts done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from export.accuracy import ClassAccuracy, Confused, accuracy, identical_rows
from export.errors import ExportError

NAMES = ["a", "b", "c", "d", "e", "f"]


def one_hot(classes: list[int], count: int = 6) -> Any:
    return np.eye(count, dtype=np.float32)[classes]


def test_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    report = accuracy(one_hot([0, 0, 1, 1, 0, 2]), labels, NAMES, one_hot([0, 0, 1, 1, 1, 1]))
    assert report.n == 6 and report.top1 == pytest.approx(400 / 6)
    assert report.mean_per_class == pytest.approx((200 / 3 + 50 + 100) / 3)
    assert report.worst_classes[0] == ClassAccuracy("b", 2, 50.0)
    assert len(report.worst_classes) == 3  # classes that do not occur are not listed
    assert report.agreement == pytest.approx(400 / 6)
    assert report.finite
    assert report.confusions == [
        Confused("a", "b", 1),
        Confused("b", "a", 1),
    ]


def test_top5_needs_more_than_five_classes() -> None:
    logits = np.array([[6.0, 5, 4, 3, 2, 1], [6.0, 5, 4, 3, 2, 1]])
    assert accuracy(logits, np.array([4, 5]), NAMES).top5 == 50.0
    assert accuracy(logits[:, :5], np.array([4, 3]), NAMES[:5]).top5 is None
    assert accuracy(logits, np.array([4, 5]), NAMES).agreement is None


def test_nan_rows_are_wrong_and_reported() -> None:
    logits = one_hot([0, 0])
    logits[1, 3] = np.nan
    report = accuracy(logits, np.array([0, 0]), NAMES, one_hot([0, 0]))
    assert not report.finite and report.top1 == report.agreement == report.top5 == 50.0
    assert report.confusions == []


@pytest.mark.parametrize(
    ("logits", "labels", "names"),
    [
        (one_hot([0]), np.array([0, 1]), NAMES),
        (one_hot([0]), np.array([6]), NAMES),
        (one_hot([0]), np.array([0]), NAMES[:5]),
        (one_hot([]), np.array([], int), NAMES),
    ],
)
def test_misfits_are_refused(logits: Any, labels: Any, names: list[str]) -> None:
    with pytest.raises(ExportError):
        accuracy(logits, labels, names)


class Rows:
    def __init__(self, noise: float) -> None:
        self.noise = noise

    def infer(self, images: Any) -> Any:
        return one_hot([1] * len(images)) + self.noise * np.arange(len(images))[:, None]


def test_rows_that_differ_are_found() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    engines: list[Any] = [Rows(0.0), Rows(1e-6), Rows(0.1), Rows(np.nan)]
    assert [identical_rows(engine, image, 4) for engine in engines] == [True, True, False, False]
