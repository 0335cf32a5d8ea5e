"""A trial of a search, as its file holds it: the truth from which samplers, halving and the front are made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, ValidationError

from pipeline.core.errors import EnvironmentFault
from pipeline.core.files import read_bytes, write_text
from pipeline.results.rows.row import Row

MOST_ATTEMPTS = 2
"""A trial that failed so often is not tried again."""
_MAX_BYTES = 4 << 20
_Text = Annotated[str, Field(max_length=20_000)]
_Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
State = Literal["proposed", "excluded", "paused", "finished", "failed"]


class ValidationScore(Row):
    """Accuracy of an ONNX file on validation images, percent."""

    n: _Count
    top1: _Percent
    top5: _Percent | None
    mean_per_class: _Percent
    worst_class: _Percent

    @property
    def agreement(self) -> float | None:
        """Not measured on validation images."""
        return None


class Rung(Row):
    """The student of a trial after some epochs."""

    epochs: _Count
    val_top1: _Percent
    """In torch, on validation images."""
    n: _Count
    """Validation images; 0 where it is not known yet."""


class SeedResult(Row):
    """A finished training from one seed."""

    seed: _Count
    epochs: _Count
    student: ValidationScore
    """In torch."""
    files: dict[Annotated[str, Field(max_length=256)], ValidationScore]
    """By ONNX file, fine-tuned where `qad` did so."""


class Trial(Row):
    """Settings, and what became of them."""

    trial_version: Literal[1] = 1
    number: _Count
    settings: dict[Annotated[str, Field(max_length=512)], JsonValue]
    state: State = "proposed"
    """`excluded`: cannot meet the constraints, so it was not trained. `paused`: others were promoted."""
    reason: _Text = ""
    """Why it was excluded or failed."""
    fix: _Text = ""
    rungs: tuple[Rung, ...] = ()
    seeds: tuple[SeedResult, ...] = ()
    failures: tuple[_Text, ...] = ()
    """What each failed attempt said."""
    seconds: _Seconds = 0.0
    """Work on it, without what it shares with others."""

    @property
    def epochs(self) -> int:
        """Epochs that its students were trained for, over all seeds."""
        first = max((rung.epochs for rung in self.rungs), default=0)
        return max(first, *(s.epochs for s in self.seeds[:1]), 0) + sum(s.epochs for s in self.seeds[1:])


def trial_path(folder: Path, number: int) -> Path:
    """The file of a trial."""
    return folder / f"{number:05d}.json"


def write_trial(folder: Path, trial: Trial) -> None:
    """Write a trial's file, whole or not at all."""
    write_text(trial_path(folder, trial.number), trial.model_dump_json(indent=1) + "\n")


def read_trial(folder: Path, number: int) -> Trial | None:
    """A trial's file; None if there is none.

    Raises:
        EnvironmentFault: it cannot be read, or is not what `write_trial` wrote.
    """
    path = trial_path(folder, number)
    try:
        trial = Trial.model_validate_json(read_bytes(path, _MAX_BYTES))
        if trial.number != number:
            raise ValueError(f"it is of trial {trial.number}")
        return trial
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg']}"
    except (OSError, ValueError) as error:
        what = str(error)
    raise EnvironmentFault(
        f"is no trial of a search ({what})",
        where=str(path),
        fix="remove the file; the trial is then made again",
    )
