"""How large a value of a config may be: far above what makes sense, and what a machine can still hold.

The bounds keep products finite, waits and memory bearable, and paths such that the system can take them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

_LONGEST_NAME, _LONGEST_PATH, _MOST_NAMES = 255, 3_000, 100


def _bytes(name: str) -> bytes:
    """As most systems store it: what a config may say does not depend on the locale."""
    return name.encode("utf-8", "surrogateescape")


def _possible(path: Path) -> Path:
    """Systems take names of 255 bytes and paths of 4,096, of which the working folder has some."""
    if any(len(_bytes(part)) > _LONGEST_NAME for part in path.parts):
        raise ValueError(f"must be a path whose names have at most {_LONGEST_NAME} bytes")
    if len(_bytes(str(path))) > _LONGEST_PATH or len(path.parts) > _MOST_NAMES:
        raise ValueError(f"must be a path of at most {_LONGEST_PATH:,} bytes and {_MOST_NAMES} names")
    return path


FilePath = Annotated[Path, AfterValidator(_possible)]
Names = Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=1_000)]

Channels = Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=3, max_length=3)]

Count = Annotated[int, Field(ge=1, le=10_000_000)]
Epochs = Annotated[int, Field(ge=0, le=100_000)]
SomeEpochs = Annotated[int, Field(ge=1, le=100_000)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
TrainingBatch = Annotated[int, Field(ge=2, le=65_536)]
Threads = Annotated[int, Field(ge=1, le=1_024)]
Megabytes = Annotated[int, Field(ge=1, le=1_000_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

Shares = Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(max_length=100)]
Strength = Annotated[float, Field(ge=0, le=1_000)]
Percent = Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(ge=0, le=604_800)]
SomeSeconds = Annotated[float, Field(gt=0, le=604_800)]
