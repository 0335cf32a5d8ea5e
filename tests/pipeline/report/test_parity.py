"""Hundreds of parity cases become a few rows that hide nothing."""

from __future__ import annotations

import pytest
from sample import sample

from pipeline.report.parity import summarise


def test_groups_keep_the_worst() -> None:
    """The largest error, the tightest limit, the smallest cosine and any failed case survive the merging."""
    cases = [
        {
            "what": "real",
            "batch": 1,
            "n": 1,
            "max_abs": 1e-6,
            "allowed": 0.02,
            "cosine": 1.0,
            "top1_agreement": 100.0,
            "ok": True,
        },
        {
            "what": "real",
            "batch": 1,
            "n": 3,
            "max_abs": 5e-3,
            "allowed": 0.01,
            "cosine": 0.9,
            "top1_agreement": 100 / 3,
            "ok": False,
        },
        {
            "what": "real",
            "batch": 3,
            "n": 3,
            "max_abs": 2e-6,
            "allowed": 0.02,
            "cosine": 1.0,
            "top1_agreement": 100.0,
            "ok": True,
        },
    ]
    one, three = summarise(cases)
    assert (one.n, one.max_abs, one.allowed, one.cosine, one.ok) == (4, 5e-3, 0.01, 0.9, False)
    assert one.agreement == pytest.approx(50.0)
    assert (three.batch, three.ok, three.agreement) == (3, True, 100.0)


def test_counts_images() -> None:
    """n of a row is the number of images in all its cases."""
    assert [(row.what, row.batch, row.n) for row in summarise(sample().parity)] == [
        ("real images", 1, 96),
        ("real images", 3, 96),
        ("random images", 1, 6),
    ]
    assert summarise([]) == []
