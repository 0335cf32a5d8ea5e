"""What a verdict is held against: the most frequent class, chance, the teacher; and where the mistakes are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.results.standing import MAX_CLASSES, MAX_CONFUSED, MAX_MISTAKES, confusion, mistakes, standing

EIGHT = ["birds", "cars", "fish", "flags", "houses", "stars", "trees", "waves"]


def _case(counts: list[int], answers: dict[int, list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Labels of so many images a class, and answers: by class the first ones, the class itself for the rest."""
    labels = np.repeat(np.arange(len(counts)), counts)
    given_ = labels.copy()
    for c, replies in answers.items():
        start = sum(counts[:c])
        given_[start : start + len(replies)] = replies
    return labels, given_


def test_a_model_that_is_worse_than_the_largest_class_is_found() -> None:
    """512 drawings of the fault report: 13.6 % right, always "flags" 23.3 %."""
    counts = [11, 11, 11, 24, 12, 12, 11, 11]
    labels = np.repeat(np.arange(8), counts)
    answers = (labels + 1) % 8
    answers[35:47], answers[:2] = 3, 0
    found = standing(labels, answers, EIGHT)
    assert found.top1.percent == pytest.approx(100 * 14 / 103)
    assert (found.majority_class, found.majority.percent) == ("flags", pytest.approx(23.301, abs=1e-3))
    assert (found.majority.low, found.majority.high) == (
        pytest.approx(16.19, abs=0.01),
        pytest.approx(32.33, abs=0.01),
    )
    assert found.chance == 12.5 and found.over_majority.points == pytest.approx(-9.709, abs=1e-3)
    assert found.findings == ["no_better_than_majority", "classes_at_chance"]
    assert {c.name: (c.n, c.correct) for c in found.at_chance}["birds"] == (11, 2)
    assert "flags" not in {c.name for c in found.at_chance}


def test_one_answer_to_everything() -> None:
    """200 : 4 images: 98 % right, and nothing learnt."""
    labels = np.repeat([0, 1], [200, 4])
    found = standing(labels, np.zeros(204, int), ["yes", "no"])
    assert found.only_class == "yes" and found.top1.percent == pytest.approx(98.04, abs=0.01)
    assert found.findings == ["no_better_than_majority", "one_class_only"]
    assert found.too_few_count == 1, "four images of `no` could not tell"


def test_better_by_too_little_is_said() -> None:
    """Two right more than the largest class of 20 images: the interval holds 0."""
    labels, answers = _case([11, 9], {1: [0] * 7})
    found = standing(labels, answers, ["a", "b"])
    assert found.over_majority.points == pytest.approx(10) and found.over_majority.low < 0
    assert found.findings[0] == "not_clearly_better_than_majority"


def test_a_good_model_has_nothing_to_be_said() -> None:
    """And the gap to its teacher is paired: both fail on the same images."""
    labels, answers = _case([100] * 4, {0: [1] * 42})
    teacher = labels.copy()
    teacher[:41] = 3
    found = standing(labels, answers, list("abcd"), teacher)
    assert found.findings == [] and found.over_teacher is not None
    assert found.over_teacher.points == pytest.approx(-0.25)
    assert found.over_teacher.high - found.over_teacher.low < 2, "unpaired it would be more than 8 points"


def test_classes_without_test_images_are_named() -> None:
    """An accuracy that no image can lower is no accuracy."""
    labels, answers = _case([20, 0, 20], {})
    found = standing(labels, answers, ["a", "b", "c"])
    assert found.not_tested == ["b"] and found.findings == ["classes_not_tested"]


def test_outputs_that_are_no_numbers_are_wrong_and_no_class() -> None:
    """A diverged network answers nothing; it is not "one class only"."""
    labels = np.repeat(np.arange(3), 10)
    found = standing(labels, np.full(30, -1), ["a", "b", "c"])
    assert found.top1.percent == 0 and found.only_class is None
    assert confusion(labels, np.full(30, -1), ["a", "b", "c"]) is None
    assert mistakes(labels, np.full(30, -1), np.zeros(30), ["a", "b", "c"]) == []


def test_lists_are_bounded_and_counts_are_whole() -> None:
    """Thousands of classes must not fill a report."""
    labels = np.repeat(np.arange(300), 2)
    answers = (labels + 1) % 300
    found = standing(labels, answers, [str(i) for i in range(300)])
    assert len(found.at_chance) == MAX_CLASSES and found.at_chance_count == 300
    table = confusion(labels, answers, [str(i) for i in range(300)])
    assert table is not None and len(table.classes) == MAX_CONFUSED
    assert (
        len(mistakes(labels, answers, np.linspace(0, 1, 600), [str(i) for i in range(300)])) == MAX_MISTAKES
    )


def test_the_most_confident_mistakes_come_first() -> None:
    """Right answers, however sure, are none."""
    labels, answers = np.array([0, 0, 1, 1]), np.array([1, 0, 0, 1])
    found = mistakes(labels, answers, np.array([0.6, 0.99, 0.9, 0.8]), ["a", "b"])
    assert [(m.index, m.true, m.predicted, round(m.confidence)) for m in found] == [
        (2, "b", "a", 90),
        (0, "a", "b", 60),
    ]


def test_the_worst_classes_stand_beside_what_they_are_taken_for() -> None:
    """Of 30 classes, 5 is always taken for 17: both are in the table; the rest of a row is counted."""
    labels, answers = _case([10] * 30, {5: [17] * 10, 6: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]})
    table = confusion(labels, answers, [str(i) for i in range(30)])
    assert table is not None and {"5", "17", "6"} <= set(table.classes)
    row = table.classes.index("5")
    assert table.counts[row][table.classes.index("17")] == 10
    for i, _ in enumerate(table.classes):
        assert sum(table.counts[i]) + table.elsewhere[i] == 10


@given(
    st.integers(2, 6).flatmap(
        lambda c: st.lists(st.tuples(st.integers(0, c - 1), st.integers(-1, c - 1)), min_size=1, max_size=60)
    )
)
def test_findings_agree_with_the_numbers(pairs: list[tuple[int, int]]) -> None:
    """Below or level with the majority is always found, above never; shares lie in their intervals."""
    labels, answers = np.array(pairs).T
    found = standing(labels, answers, [str(i) for i in range(6)])
    assert ("no_better_than_majority" in found.findings) == (
        found.top1.percent <= found.majority.percent + 1e-9
    )
    for share in (found.top1, found.majority):
        assert share.low - 1e-9 <= share.percent <= share.high + 1e-9
    assert found.over_majority.points == pytest.approx(found.top1.percent - found.majority.percent)
