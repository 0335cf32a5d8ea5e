"""Latency rows of a result and of the `benchmark` command."""

from __future__ import annotations

from typing import Any, Literal

from export.cautions import Code
from pipeline.results.evidence import Part


class Warned(Part):
    """What makes a latency less sure than it looks; codes and values as `export.cautions.Caution` lists them."""

    code: Code
    values: dict[str, float] = {}


class Decoded(Part):
    """The images that `image_to_class` decoded, in turns."""

    source: Literal["files", "stored", "random"]
    """`files`: files of test images. `stored`: JPEGs made of prepared images. `random`: JPEGs of random pixels."""
    n: int
    formats: dict[str, int] = {}
    """How many of each, such as `JPEG`."""
    median_megapixels: float
    """10^6 pixels, before decoding."""
    median_kb: float
    """kB of 10^3 bytes."""


class Latency(Part):
    """Latency of one engine, batch size and boundary, in trtexec's terms; ms unless said."""

    batch: int
    boundary: Literal["engine", "engine+copies", "image_to_class"]
    n: int
    """Samples."""
    min: float
    mean: float
    median: float
    p90: float
    p95: float
    p99: float | None
    """Null below 1,000 samples."""
    intervals: dict[str, tuple[float, float] | None] = {}
    """95 % confidence intervals of `median`, `p90`, `p95`, `p99`, distribution-free; null where samples are too few.
    The median's covers the differences between the rounds, too."""
    round_medians: list[float] = []
    """The median of each round; engines of a target took their turns side by side, so that rounds can be compared."""
    max: float
    std: float
    cv_percent: float
    """Standard deviation over mean, percent."""
    throughput: float
    """Images per second of wall time."""
    drift_percent: float | None
    """Median of the last third against the first third, percent."""
    outlier_percent: float | None = None
    """Samples above the third quartile + 3 interquartile ranges, percent."""
    streams: int = 1
    """Inferences at once."""
    rate_fps: float | None = None
    """Images arrived at this rate and did not wait; latency counts from the scheduled arrival. Null: a closed loop, an
    inference begins when the one before has ended."""
    power_mode: str = ""
    """Of a device that was measured in several modes; the rows that budgets are judged at come first. Empty: see the
    device's `power_mode`."""
    deadline_misses: int | None = None
    """Images that were not done when the next one arrived."""
    deadline_miss_percent: float | None = None
    """The same, percent of all."""
    keeps_rate: bool | None = None
    """The line of waiting images did not grow."""
    resolution_ms: float = 0.0
    """The steps in which the clock of the samples tells time; 0 where they are far below any latency."""
    warnings: list[Warned] = []
    """What makes the row less sure than it looks."""
    notes: list[str] = []
    """What the engine's runtime said of how it was timed, such as `CUDA graph`."""
    samples: str
    """Name of the raw samples in the benchmark artifact's samples.npz."""
    histogram: list[tuple[float, int]] = []
    """(upper edge in ms, count) of the raw samples up to their 99th percentile, in bins of equal ratio."""
    median_of_parts_ms: dict[str, float] = {}
    """Medians of the parts, such as `decode` and `infer`."""
    decoded: Decoded | None = None
    """What `image_to_class` was given; null for other boundaries, and in results that do not say."""

    @property
    def plain(self) -> bool:
        """One inference after the other."""
        return self.streams == 1 and self.rate_fps is None


class BenchmarkRow(Latency):
    """A latency row of `figkd-pipeline benchmark`."""

    id: str
    """Engine id, or the file as it was given."""
    disturbed: bool = False
    """Others were at work while it was timed."""


class TimedEngine(Part):
    """What a row's engine is."""

    id: str
    backend: str
    mb: float | None = None
    """Of the file, MB of 10^6 bytes."""
    input_shape: list[int] = []
    """Of one image."""
    input_dtype: str = ""
    runtime: dict[str, Any] = {}
    """How it was timed, such as `providers` and `threads`."""


class BenchmarkDocument(Part):
    """What `figkd-pipeline benchmark --json` and `--output` write, and `--baseline` reads."""

    benchmark_version: Literal[2] = 2
    created: str
    """UTC."""
    latency: list[BenchmarkRow]
    engines: list[TimedEngine] = []
    """Those that were timed now; empty in earlier documents."""
    comparison: list[dict[str, Any]] = []
    """Against the baseline: `change_percent` of the median with its interval, and the `judgement`: `regression`,
    `undecided` (it would be one, but one of the two measurements was disturbed), `slower`, `faster` or `noise`."""
    machine: dict[str, Any] = {}
    packages: dict[str, str] = {}
    outputs: list[str] = []
    """The class of each output of the engines, where it is known."""
