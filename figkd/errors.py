"""Errors that a user can cause, with what went wrong and what to do about it."""

from __future__ import annotations

from typing import Any


class FigkdError(Exception):
    """A problem that the caller can fix.

    Attributes:
        what: one sentence that says what is wrong.
        fix: one sentence that says what to do about it; empty if there is nothing to say.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(f"{what} ({fix})" if fix else what)
        self.what = what
        self.fix = fix


class DataError(FigkdError):
    """A data set that is missing, unreadable or not laid out as expected."""


class ModelError(FigkdError):
    """A model that is unknown or that refuses the arguments."""


class CheckpointError(FigkdError):
    """A file of weights that is missing, damaged or made for another model."""


class TrainingError(FigkdError):
    """A training run that cannot go on."""


class TrainingPaused(Exception):
    """A training that was asked to pause has done so; it goes on from its state file. No error.

    Attributes:
        history: the records of its epochs so far.
    """

    def __init__(self, history: list[dict[str, Any]]) -> None:
        super().__init__(f"paused after epoch {len(history)}")
        self.history = history


class LabelError(FigkdError):
    """Two lists of class names that do not belong together, or a list that is none."""
