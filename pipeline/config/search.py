"""The section `search` of a config, and a search file: what is searched, for what, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, JsonValue, Tag

from pipeline.config.bounds import FilePath, Seed, SomeEpochs
from pipeline.config.section import Section

MOST_TRIALS = 10_000
"""Larger grids, and more trials than this, are refused."""
Direction = Literal["min", "max"]
SamplerName = Literal["tpe", "nsga2", "random", "grid"]
EngineName = Literal["local", "submitit", "ray"]
_Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
_Number = Annotated[float, Field(ge=-1e15, le=1e15)]


class Range(Section):
    """Numbers between two ends, both included. Set exactly one key."""

    log: Annotated[list[_Number], Field(min_length=2, max_length=2)] | None = None
    """Lowest and highest number, above 0; drawn evenly on a logarithmic scale."""
    uniform: Annotated[list[_Number], Field(min_length=2, max_length=2)] | None = None
    """Lowest and highest number, drawn evenly."""
    int: Annotated[list[_Whole], Field(min_length=2, max_length=2)] | None = None
    """Lowest and highest whole number, drawn evenly."""


def _kind(value: Any) -> str:
    return "values" if isinstance(value, list) else "range"


Values = Annotated[list[JsonValue], Field(min_length=1, max_length=MOST_TRIALS), Tag("values")]
Dimension = Annotated[Values | Annotated[Range, Tag("range")], Discriminator(_kind)]


class Halving(Section):
    """Successive halving: all trials of a wave train for a few epochs, and the best of them for more.

    The learning rate follows the schedule of the whole training from the start, so that a promoted trial continues
    from where it paused, bit for bit.
    """

    min_epochs: SomeEpochs = 1
    """Epochs after which trials are compared for the first time."""
    factor: Annotated[int, Field(ge=2, le=16)] = 3
    """One in so many trials is promoted, to so many times the epochs."""


class SlurmOptions(Section):
    """How a trial is submitted to SLURM by `submitit`."""

    partition: Annotated[str, Field(max_length=256)] | None = None
    """Partition. Default: the cluster's."""
    timeout_min: Annotated[int, Field(ge=1, le=525_600)] = 240
    """Longest time of a job, in minutes."""
    cpus: Annotated[int, Field(ge=1, le=1_024)] = 4
    """CPUs of a job."""
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    """GPUs of a job."""
    mem_gb: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Memory of a job, in GB. Default: the cluster's."""
    cluster: Literal["slurm", "local"] = "slurm"
    """`local`: submitit starts the jobs on this machine, to try the set-up without SLURM."""


class RayOptions(Section):
    """How a trial runs on a Ray cluster."""

    address: Annotated[str, Field(max_length=512)] | None = None
    """`auto`, `ray://host:port` or `host:port` of a cluster. Default: one that is started on this machine."""
    cpus: Annotated[float, Field(gt=0, le=1_024)] = 1
    """CPUs of a trial."""
    gpus: Annotated[float, Field(ge=0, le=64)] = 0
    """GPUs of a trial."""


class Search(Section):
    """Which settings `figkd-pipeline search` tries, and for what (docs/search.md)."""

    space: Annotated[dict[str, Dimension], Field(min_length=1, max_length=64)]
    """What is varied: config keys such as `student.model`, `data.image_size` or `distill.lr`, each with a list of
    values or with one of `{log: [a, b]}`, `{uniform: [a, b]}`, `{int: [a, b]}`. Names of networks may be patterns."""
    objectives: Annotated[dict[str, Direction], Field(min_length=1, max_length=8)]
    """What to optimise: `val_top1: max`, `latency_p50_ms@TARGET: min`, `engine_mb@TARGET: min`, ...: the metrics of
    `budgets`, with `val_` before those of accuracy. The constraints are the config's `budgets`."""
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = None
    """How many settings are tried. Default: every point of a grid, else 20."""
    sampler: SamplerName = "tpe"
    """How settings are drawn. `tpe`, `nsga2`: by Optuna's samplers, which learn from the trials of earlier waves.
    `random`: at random. `grid`: every combination of lists."""
    wave: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = None
    """Number of trials that are drawn, and compared by halving, together. Default: 8 for samplers that learn, else
    all."""
    halving: Halving | None = None
    """Train all trials for a few epochs, and the best for more. Default: every trial is trained in full."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """Number of seeds with which each trial that reaches the last rung is trained. Their mean counts."""
    seed: Seed = 0
    """Seed of the draws."""
    scout: bool = True
    """Measure every network untrained, and train only those that can meet the budgets. Objectives of engines need
    it."""
    confirm: bool = True
    """Take the settings on the front through all stages, to test accuracy and the latency of the trained engines."""
    jobs: Annotated[int, Field(ge=1, le=1_024)] = 1
    """Number of trials that train at once. Engines are never timed in parallel on one target."""
    engine: EngineName = "local"
    """Where trials are trained: in processes of this machine, on SLURM through submitit, or on a Ray cluster."""
    slurm: SlurmOptions = SlurmOptions()
    """For `engine: submitit`."""
    ray: RayOptions = RayOptions()
    """For `engine: ray`."""


class SearchFile(Search):
    """A search beside the config that it varies."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=40)] | None = None
    """Name of the search. Its results are written to `<output>/<name>/`. Default: the file's."""
    base: FilePath
    """The deploy config, relative to this file."""
