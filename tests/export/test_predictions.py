"""What classifiers answered survives the file, and a confidence is a softmax."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.predictions import Predictions, read_predictions, save_predictions


def test_answers_and_their_confidence() -> None:
    """The class of the largest logit with its softmax; no answer where a logit is no number; no overflow."""
    found = Predictions.of(
        np.array([[0.0, np.log(3.0)], [1e4, 0.0], [np.nan, 1.0], [np.inf, 0.0]], np.float32)
    )
    assert found.classes.tolist() == [1, 0, -1, -1]
    assert found.confidence.tolist() == pytest.approx([0.75, 1.0, 0.0, 0.0])


def test_more_rows_than_a_part() -> None:
    """Worked on in parts, with the same result as at once."""
    logits = np.random.default_rng(0).normal(size=(2500, 7)).astype(np.float32)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert Predictions.of(logits).confidence == pytest.approx(shares.max(axis=1), abs=1e-4)


def test_a_file_holds_them_and_is_the_same_again(tmp_path: Path) -> None:
    """By any name, also by none at all; equal answers give equal bytes, so that a digest is stable."""
    said = {"cpu/fp32": Predictions.of(np.eye(3)), "a:b/é": Predictions.of(-np.eye(3))}
    for name in ("a.npz", "b.npz"):
        save_predictions(tmp_path / name, said)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read_predictions(tmp_path / "a.npz")
    assert list(found) == list(said)
    for name, each in found.items():
        assert each.classes.tolist() == said[name].classes.tolist()
        assert each.confidence.tolist() == said[name].confidence.tolist()
    save_predictions(tmp_path / "none.npz", {})
    assert read_predictions(tmp_path / "none.npz") == {}
