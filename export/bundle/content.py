"""What a bundle is made of, as the caller gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.runtime.bundle.manifest import EngineEntry
from export.runtime.bundle.preprocess import Preprocessing

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

ALLOWED_LOGIT: Mapping[str, float] = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2, "int8": 5e-2}
"""Difference of a logit that is allowed between machines, by precision; times the largest |logit| where that is above
1."""
ALLOWED_PIXEL = 32
"""Difference of a pixel of a JPEG that is allowed between decoders."""


@dataclass(frozen=True)
class Measured:
    """What was measured where the bundle was made; texts for what has a unit or a decimal point."""

    accuracy: Mapping[str, str]
    """Percent by metric; `n`, and `source`, what computed the logits."""
    latency: Sequence[Mapping[str, str]]
    """Each `boundary`, `batch`, `n`, `median_ms`, `p99_ms`."""
    budgets: Sequence[Mapping[str, str]]
    """Each `metric`, `goal`, `limit`, `value`, `verdict`."""
    machine: Mapping[str, str]
    """What it was measured on, in words."""
    packages: Mapping[str, str]
    """Versions."""


@dataclass(frozen=True)
class Packed:
    """An engine, and what it did where it was measured."""

    entry: EngineEntry
    """Without `answers`: where they lie is the writer's affair."""
    files: Mapping[str, Path]
    """By their names in the bundle: the engine, its sidecar, weights beside it."""
    logits: Array
    """Its answers to the golden views, float32 [N, C]."""
    source: str
    """Of these answers; see `export.runtime.bundle.golden.Golden`."""
    measured: Measured
    answers: Mapping[str, bytes] = field(default_factory=dict)
    """Further files with its answers, by where a bundle of one engine has them."""


@dataclass(frozen=True)
class Lineage:
    """Where the engines come from."""

    data: str
    """Name of the data set."""
    teacher: str
    student: str
    method: str
    config_sha256: str
    """Of the resolved config as canonical JSON."""
    git: str
    steps: Sequence[Mapping[str, str]]
    """Each `step`, `key`, `digest`: the artifacts of the run."""


@dataclass(frozen=True)
class Content:
    """A bundle before it is written."""

    name: str
    target: str
    channel: str
    sequence: int
    created: str
    """UTC."""
    verdict: str
    summary: str
    """A sentence about the result, for the card."""
    engines: Sequence[Packed]
    """Of one student: a device takes the first that fits it."""
    classes: Sequence[str]
    preprocessing: Preprocessing
    inputs: Array
    """Golden views, uint8 [N, S, S, 3]."""
    pictures: Mapping[str, bytes]
    """Golden image files by name, in the order of the first inputs."""
    lineage: Lineage
    licence: str = "NOASSERTION"
    """SPDX expression for the model."""
    parameters: int = 0
    """Of the network."""
    counts: bool = True
    """Whether a device counts answers by class and confidence."""
    more: Mapping[str, bytes] = field(default_factory=dict)
    """Further files."""
