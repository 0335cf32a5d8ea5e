"""The section `scout`: which candidate students are measured untrained, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipeline.config.bounds import Count, FilePath, Seconds, SomeSeconds
from pipeline.config.candidates import named_models, too_many
from pipeline.config.problems import Problem, did_you_mean
from pipeline.config.section import Section

ImageSize = Annotated[int, Field(ge=8, le=1024)]
Text = Annotated[str, Field(max_length=512)]


def _quoted(value: Any) -> Any:
    if isinstance(value, int | float):  # YAML has read 050 as the number 40
        raise ValueError('must be text in quotes, such as "050"')
    return value


Width = Annotated[Text, BeforeValidator(_quoted)]


class Scout(Section):
    """Candidate students for `figkd-pipeline scout`, which measures them untrained. A run does not read it."""

    models: Annotated[list[Text], Field(max_length=10_000)] = Field(default_factory=list)
    """Networks as in `student.model`, or shell patterns over the names of `figkd-pipeline list models`, such as
    `timm/mobilenetv4_conv_*`. `{width}` in a name stands for each of `widths`. Default: the config's student, and the
    networks of docs/students.md for about this image size."""
    widths: Annotated[list[Width], Field(max_length=100)] = Field(default_factory=list)
    """Texts for `{width}`, such as `["050", "075", "100"]` with `timm/mobilenetv3_small_{width}`."""
    image_sizes: Annotated[list[ImageSize], Field(max_length=100)] = Field(default_factory=list)
    """Sides of the square images in pixels. Default: `data.image_size`."""
    code: Annotated[dict[Text, FilePath], Field(max_length=100)] = Field(default_factory=dict)
    """For `module:function`: the file of each module. Default: `<module>.py` beside the config, else an installed
    module."""
    targets: Annotated[list[Text], Field(min_length=1, max_length=64)] | None = None
    """Targets to measure on. Default: all."""
    images: Literal["data", "synthetic"] = "data"
    """What sets the INT8 ranges. `data`: training images of the config, which are prepared first if need be.
    `synthetic`: noise; of the data, only the classes are counted. The latency is the same."""
    calibration_images: Annotated[int, Field(ge=32, le=100_000)] = 32
    """Number of these images."""
    min_samples: Count = 1000
    """Fewest samples of an engine. A p99 needs 1,000."""
    min_seconds: Seconds = 0.5
    """Shortest time spent on timing an engine, in s."""
    max_seconds: SomeSeconds = 5.0
    """Longest time, in s, even if `min_samples` is not reached."""
    warmup_ms: Annotated[float, Field(ge=0, le=604_800_000)] = 100
    """Warm-up before the first sample, in ms."""
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 6
    """The precisions of a candidate take turns in this many rounds. A 95 % interval of differences between rounds
    needs 6."""
    energy_s: Seconds | None = None
    """How long an engine runs to measure its energy, in s; 0: do not. Default: `benchmark.energy_s` if there is a
    budget on energy, else 0."""
    memory: bool = True
    """Measure how much memory loading and running an engine adds to a process, on this machine."""


def scout_problems(scout: Scout, targets: Mapping[str, object]) -> Iterator[Problem]:
    """What is wrong with the section, as far as no library is needed to see it."""
    named = named_models(scout.models, scout.widths, "scout") if scout.models or scout.widths else None
    if named is not None:
        yield from named.problems
        if reason := too_many(len(named.models), max(1, len(set(scout.image_sizes)))):
            yield Problem("scout.models", reason, "narrow the patterns, or name fewer sizes")
    for name in scout.targets or ():
        if name not in targets:
            yield Problem("scout.targets", "no such target", did_you_mean(name, targets), name)
    for module, file in scout.code.items():
        if not file.is_file():
            yield Problem(
                f"scout.code.{module}",
                "no such file",
                "paths are relative to where the command runs",
                str(file),
            )
    if scout.max_seconds < scout.min_seconds:
        yield Problem(
            "scout.max_seconds", f"is below scout.min_seconds = {scout.min_seconds}", "", scout.max_seconds
        )
