"""`scout.json`: what untrained candidates cost on the targets of a config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.core.files import write_text
from pipeline.results.rows.row import Row, read_document

SCOUT_FILE = "scout.json"
_Text = Annotated[str, Field(max_length=20_000)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Interval = tuple[_Finite, _Finite]


class Candidate(Row):
    """A network that may become the student, and the side of its square input."""

    model: Annotated[str, Field(max_length=512)]
    """As `student.model` of a config names it."""
    image_size: Annotated[int, Field(ge=8, le=1024)]
    """Pixels."""
    code: Path | None = None
    """For `module:function`: the module's file, as `student.code`."""

    @property
    def id(self) -> str:
        """Name in tables: `timm/resnet18@224`."""
        return f"{self.model}@{self.image_size}"


class ScoutRow(Row):
    """A candidate's engine of one precision on one target. Times in ms, sizes in bytes.

    A row without times says why in `reason`: the network cannot be built, exported, made in that precision or built as
    an engine, or the target cannot run it.
    """

    candidate: Candidate
    target: str
    """Its name in the config."""
    backend: str
    """Kind of engine: `onnxruntime`, `tensorrt`, ..."""
    precision: str
    compute_capability: str = ""
    """The GPU that it is for, such as `SM86`; empty where the builder's own or none is meant."""
    device: _Text = ""
    """Where it was measured, in words; empty for this machine."""
    state: Literal["timed", "built", "failed", "missing"]
    """`built`: it cannot be run there. `missing`: a back end is."""
    reason: _Text = ""
    """Why there are no times; empty where there are."""
    fix: _Text = ""
    """What to do about it."""
    parameters: _Count | None = None
    """Of the network in torch, with a head for the data's classes."""
    onnx_bytes: _Count | None = None
    """Of the FP32 graph."""
    engine_bytes: _Count | None = None
    memory_bytes: _Count | None = None
    """What loading and running the engine adds to the peak memory of a process; None where it was not measured."""
    batch: _Count = 1
    """Images in an inference."""
    n: _Count = 0
    """Samples of the latency at boundary `engine`, one inference after the other."""
    p50_ms: _Finite | None = None
    p50_interval: Interval | None = None
    """95 % confidence interval, distribution-free; it covers the differences between the rounds, too."""
    p99_ms: _Finite | None = None
    """None below 1,000 samples."""
    p99_interval: Interval | None = None
    """95 % confidence interval, distribution-free."""
    throughput: _Finite | None = None
    """Images per second of wall time."""
    energy_mj: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Of one image above what the idle machine takes, mJ; None where it was not measured."""
    build_seconds: _Finite | None = None
    calibration: Literal["", "data", "synthetic"] = ""
    """The images that set the INT8 ranges: the config's own, or noise. Neither changes the latency."""
    disturbed: bool = False
    """Others were at work while it was timed."""

    @property
    def id(self) -> str:
        """Name among all rows of a document."""
        engine = "-".join(filter(None, (self.precision, self.compute_capability)))
        return f"{self.candidate.id} {self.target}/{engine}"

    @property
    def timed(self) -> bool:
        """It ran, and its latency is known."""
        return self.state == "timed" and self.p50_ms is not None


class ScoutDocument(Row):
    """All rows of a scouting, as `scout.json` holds them."""

    scout_version: Literal[1] = 1
    config: _Text
    """Name of the deployment."""
    created: _Text
    """UTC."""
    classes: _Count
    rows: tuple[ScoutRow, ...]
    cpu: _Text = ""
    """Of this machine."""
    gpu: _Text = ""
    seconds: float = 0.0
    """What the scouting took; what was known already takes none."""
    measured: int = 0
    """Candidates and targets that were measured now; the others were known."""


def write_scouted(path: Path, document: ScoutDocument) -> None:
    """Write the document, whole or not at all."""
    write_text(path, document.model_dump_json(indent=1) + "\n")


def read_scouted(path: Path) -> ScoutDocument:
    """Read what `write_scouted` wrote.

    Raises:
        ConfigError: there is no such file, or it is none of these.
    """
    return read_document(path, ScoutDocument, "figkd-pipeline scout CONFIG")


def rows_of(rows: Sequence[ScoutRow], candidate: Candidate) -> list[ScoutRow]:
    """The rows of one candidate."""
    return [row for row in rows if row.candidate == candidate]
