"""How good answers are against guessing and against the teacher's, and where they are wrong: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from export.proportions import above_chance, paired_difference, wilson
from pipeline.results.evidence import ClassCount, Confusion, Finding, Gap, Mistake, Share, Standing

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

MAX_CLASSES = 50
"""Classes that a list of them names."""
MAX_MISTAKES = 12
MAX_CONFUSED = 12
SIGNIFICANCE = 0.05


def standing(labels: Array, answers: Array, names: Sequence[str], teacher: Array | None = None) -> Standing:
    """A model's answers against always giving the most frequent class, against chance, against the teacher.

    Args:
        labels: [N] true classes.
        answers: [N] predicted classes; -1 for an output that is no number, which is wrong everywhere.
        names: of the C classes.
        teacher: [N] the teacher's answers to the same images.
    """
    count, classes = len(labels), len(names)
    totals = np.bincount(labels, minlength=classes)
    right = answers == labels
    hits = np.bincount(labels[right], minlength=classes)
    majority = int(totals.argmax())
    over_majority = _gap(right, labels == majority)
    chance = 1 / classes
    tested = np.flatnonzero(totals)
    # A class of which not even all right would tell is too small to be named.
    tells = chance ** totals[tested] < SIGNIFICANCE
    guessed = tested[tells & (above_chance(hits[tested], totals[tested], chance) >= SIGNIFICANCE)]
    guessed = guessed[np.lexsort((guessed, hits[guessed] / totals[guessed]))]
    missing = np.flatnonzero(totals == 0)
    given = np.unique(answers[answers >= 0])
    only = names[int(given[0])] if len(given) == 1 and (answers >= 0).all() else None
    findings: list[Finding] = []
    if over_majority.points <= 0:
        findings.append("no_better_than_majority")
    elif over_majority.low <= 0:
        findings.append("not_clearly_better_than_majority")
    findings += ["one_class_only"] if only is not None else []
    findings += ["classes_at_chance"] if len(guessed) else []
    findings += ["classes_not_tested"] if len(missing) else []
    return Standing(
        n=count,
        classes=classes,
        top1=_share(int(right.sum()), count),
        chance=100 * chance,
        majority_class=names[majority],
        majority=_share(int(totals[majority]), count),
        over_majority=over_majority,
        over_teacher=None if teacher is None else _gap(right, teacher == labels),
        at_chance=[
            ClassCount(index=int(c), name=names[c], n=int(totals[c]), correct=int(hits[c]))
            for c in guessed[:MAX_CLASSES]
        ],
        at_chance_count=len(guessed),
        too_few_count=int((~tells).sum()),
        not_tested=[names[c] for c in missing[:MAX_CLASSES]],
        not_tested_count=len(missing),
        only_class=only,
        findings=findings,
    )


def mistakes(labels: Array, answers: Array, confidence: Array, names: Sequence[str]) -> list[Mistake]:
    """The most confident wrong answers, most confident first; `confidence` [N] is 0 to 1."""
    wrong = np.flatnonzero((answers != labels) & (answers >= 0))
    worst = wrong[np.lexsort((wrong, -confidence[wrong]))][:MAX_MISTAKES]
    return [
        Mistake(
            index=int(i),
            true=names[labels[i]],
            predicted=names[answers[i]],
            confidence=100 * float(confidence[i]),
        )
        for i in worst
    ]


def confusion(labels: Array, answers: Array, names: Sequence[str]) -> Confusion | None:
    """Counts of the worst classes, each with what it is most often taken for; None where nothing is wrong.

    All classes where they are few. Only pairs that occur are counted, so that many classes take no matrix of all.
    """
    wrong = (answers != labels) & (answers >= 0)
    if not wrong.any():
        return None
    chosen = _worst(labels, answers, wrong, len(names))
    place = {c: i for i, c in enumerate(chosen)}
    counts = [[0] * len(chosen) for _ in chosen]
    elsewhere = [0] * len(chosen)
    for i in np.flatnonzero(np.isin(labels, chosen)):
        row, column = place[int(labels[i])], place.get(int(answers[i]))
        if column is None:
            elsewhere[row] += 1
        else:
            counts[row][column] += 1
    return Confusion(classes=[names[c] for c in chosen], counts=counts, elsewhere=elsewhere)


def _worst(labels: Array, answers: Array, wrong: Array, classes: int) -> list[int]:
    """Up to `MAX_CONFUSED` classes, by index: the worst, what it is taken for most often, the next worst, and so on."""
    if classes <= MAX_CONFUSED:
        return list(range(classes))
    totals = np.bincount(labels, minlength=classes)
    missed = np.bincount(labels[wrong], minlength=classes)
    tested = np.flatnonzero(totals)
    order = tested[np.lexsort((tested, -missed[tested] / totals[tested]))]
    chosen: list[int] = []
    for c in order:
        taken_for, counts = np.unique(answers[wrong & (labels == c)], return_counts=True)
        for found in (int(c), *(int(t) for t in taken_for[np.argsort(-counts, kind="stable")][:1])):
            if found not in chosen and len(chosen) < MAX_CONFUSED:
                chosen.append(found)
        if len(chosen) == MAX_CONFUSED:
            break
    return sorted(chosen)


def _share(hits: int, n: int) -> Share:
    low, high = wilson(hits, n)
    return Share(percent=100 * hits / n, low=100 * low, high=100 * high)


def _gap(first: Array, second: Array) -> Gap:
    points, (low, high) = paired_difference(first, second)
    return Gap(points=100 * points, low=100 * low, high=100 * high)
