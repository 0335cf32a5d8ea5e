"""Labelled images in a bundle: whether the model is as often right here as it was where the bundle was made.

canary/inputs.npy     uint8 [N, S, S, 3]: the engine's views of validation images
canary/labels.npy     int32 [N]: the index of the right class
canary/answers.npy    int32 [N]: the index that the engine gave where it was measured; see `EngineEntry.answers`

The images are the same, so that the comparison is paired: only those count that changed sides. The release fails if so
many more became wrong than right that chance alone does this less often than once in a hundred times (one-sided
exact sign test, McNemar).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import comb
from typing import TYPE_CHECKING, Any

from .errors import BundleRefused, SelfTestFailed
from .golden import array_of

if TYPE_CHECKING:
    from ..arrays import Array
    from .model import Model
    from .verify import Bundle

FOLDER = "canary"
INPUTS, LABELS, ANSWERS = "canary/inputs.npy", "canary/labels.npy", "canary/answers.npy"
MOST_BYTES = 5_000_000
MOST_IMAGES = 500
LEAST_P = 0.01
_MOST_READ = 10_000
_AT_ONCE = 32


@dataclass(frozen=True)
class Canary:
    """What was found."""

    images: int
    right: int
    """Here."""
    was_right: int
    """Where the bundle was made."""
    lost: int
    """Right there and wrong here."""
    won: int
    """Wrong there and right here."""

    @property
    def p(self) -> float:
        """How often chance alone loses so many of those that changed sides, or more."""
        changed = self.lost + self.won
        return sum(comb(changed, k) for k in range(self.lost, changed + 1)) / (1 << changed)

    @property
    def passed(self) -> bool:
        """Whether it is not clearly worse."""
        return self.p >= LEAST_P

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "p": self.p, "passed": self.passed}


def has_canary(bundle: Bundle) -> bool:
    """Whether there are labelled images in it."""
    return INPUTS in bundle.manifest.files


def run_canary(bundle: Bundle, model: Model) -> Canary:
    """Classify the labelled images of a bundle.

    Raises:
        BundleRefused: there are none, or they do not fit together.
        CannotRun: the engine fails.
    """
    if not has_canary(bundle):
        raise BundleRefused("it has no labelled images", "take a bundle that has, or leave --canary out")
    inputs = array_of(bundle.read(INPUTS), "|u1", INPUTS)
    labels = array_of(bundle.read(LABELS), "<i4", LABELS)
    place = model.entry_in(bundle.manifest).place(ANSWERS)
    answers = array_of(bundle.read(place), "<i4", place)
    fits = inputs.ndim == 4 and labels.shape == answers.shape == inputs.shape[:1]
    if not fits or not 1 <= len(inputs) <= _MOST_READ:
        raise BundleRefused("the files in %s do not fit each other" % FOLDER)
    lost = won = right = 0
    for start in range(0, len(inputs), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        here: Array = model.logits(list(inputs[rows])).argmax(axis=1) == labels[rows]
        there: Array = answers[rows] == labels[rows]
        right += int(here.sum())
        lost += int((there & ~here).sum())
        won += int((here & ~there).sum())
    return Canary(len(inputs), right, int((answers == labels).sum()), lost, won)


def require_canary(found: Canary) -> None:
    """Refuse a machine on which the model is clearly worse.

    Raises:
        SelfTestFailed: says by how much.
    """
    if not found.passed:
        raise SelfTestFailed(
            "self-test failed: %d of %d labelled images are right, %d were; %d were lost and %d won"
            % (found.right, found.images, found.was_right, found.lost, found.won),
            "do not use it on this machine",
        )
