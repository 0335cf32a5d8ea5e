"""What is counted of a model's answers: right, bounded, under 1 kB, and nothing else passes for it."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from export.runtime.counts import BINS, OutputCounts, Tally, counts_from, counts_of, nothing


def test_answers_are_counted_by_class_and_confidence() -> None:
    logits = np.array([[0.0, 100.0, 0.0], [5.0, 5.0, 5.0], [0.0, 0.0, 100.0]], np.float32)
    found = counts_of(logits)
    assert found.images == 3 and found.classes == (1, 1, 1)
    assert found.confidence[BINS - 1] == 2 and found.confidence[int(BINS / 3)] == 1


def test_many_classes_share_groups() -> None:
    logits = np.eye(1000, dtype=np.float32)[[3, 67, 999]]
    found = counts_of(logits)
    assert len(found.classes) == 64 and found.classes[3] == 2 and found.classes[999 % 64] == 1


def test_a_day_of_a_busy_camera_takes_about_1_kb() -> None:
    day = OutputCounts((80_000,) * BINS, (40_000,) * 64)
    assert len(json.dumps(day.to_json(), separators=(",", ":"))) < 1024
    assert counts_from(json.loads(json.dumps(day.to_json()))) == day


@pytest.mark.parametrize(
    "found",
    [
        None, [], {}, {"confidence": [1] * BINS}, {"confidence": [1] * BINS, "classes": []},
        {"confidence": [1] * BINS, "classes": [BINS + 1]}, {"confidence": [True] * BINS, "classes": [BINS]},
        {"confidence": [1] * (BINS - 1), "classes": [BINS - 1]}, {"confidence": [-1] * BINS, "classes": [-BINS]},
        {"confidence": [1.0] * BINS, "classes": [BINS]}, {"confidence": ["1"] * BINS, "classes": [BINS]},
        {"confidence": [0] * BINS, "classes": [0] * 65},
    ],
)  # fmt: skip
def test_anything_else_is_refused(found: object) -> None:
    with pytest.raises(ValueError):
        counts_from(found)


def test_other_numbers_of_classes_do_not_add_up() -> None:
    with pytest.raises(ValueError):
        nothing(3).plus(nothing(4))


def test_several_threads_count_together() -> None:
    tally, logits = Tally(3), np.zeros((10, 3), np.float32)

    def work() -> None:
        for _ in range(100):
            tally.add(logits)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.take().images == 4000 and tally.take().images == 0
