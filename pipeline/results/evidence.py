"""Parts of a result that its verdict rests on beside the budgets: guessing, the teacher, other load, the mistakes.

Numbers and codes; the views make the words. Shares and accuracies are percent of the test set.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Finding = Literal[
    "no_better_than_majority",
    "not_clearly_better_than_majority",
    "one_class_only",
    "classes_at_chance",
    "classes_not_tested",
]


class Part(BaseModel):
    """Base of every part of a result."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Share(Part):
    """A share of the test images, percent."""

    percent: float
    low: float
    """Lower end of its 95 % interval (Wilson score)."""
    high: float


class Gap(Part):
    """How much more accurate one is than another on the same images, percentage points."""

    points: float
    low: float
    """Lower end of its 95 % interval (paired; Bonett and Price 2012)."""
    high: float


class ClassCount(Part):
    """A class and what became of its test images."""

    index: int
    """Number of the output."""
    name: str
    n: int
    correct: int


class Standing(Part):
    """How good a model's answers are against guessing and against the teacher's, on the test images."""

    n: int
    classes: int
    top1: Share
    chance: float
    """What guessing gets right, percent: 100 / classes."""
    majority_class: str
    """The most frequent class of the test images."""
    majority: Share
    """What always answering it gets right."""
    over_majority: Gap
    """Top-1 above that."""
    over_teacher: Gap | None
    """Top-1 above the teacher's (mostly negative); null for the teacher."""
    at_chance: list[ClassCount]
    """Classes that cannot be told from guessing: an exact one-sided binomial test against `chance` at 5 %. The first
    50, worst first; a class with so few images that the test could not tell is not among them."""
    at_chance_count: int
    too_few_count: int
    """Classes with so few test images that not even all right would be told from guessing."""
    not_tested: list[str]
    """Classes without a test image; the first 50."""
    not_tested_count: int
    only_class: str | None
    """The class that is the answer to every image, if there is one."""
    findings: list[Finding]
    """What a verdict must not be silent about."""


class Load(Part):
    """Who else was at work while a target's engines took turns; CPU cores, as the tool itself measured."""

    others: float
    """Other processes."""
    stolen: float
    """The hypervisor, for other machines."""
    seconds: float
    rounds: int
    """Rounds that count."""
    repeated: int = 0
    """Rounds that were taken again because others were at work; the quieter ones count."""
    disturbed: bool
    """Others took more than 0.15 cores all the same: no median is known as well as its interval says."""


class Mistake(Part):
    """A test image that was answered wrong, with confidence."""

    index: int
    """Number of the test image."""
    true: str
    predicted: str
    confidence: float
    """Softmax of the logits, percent."""


class Confusion(Part):
    """Counts of test images by true (rows) and predicted class (columns), for the worst classes."""

    classes: list[str]
    counts: list[list[int]]
    """[K, K]"""
    elsewhere: list[int]
    """[K]: answered with a class that is not among these."""
