"""What every back end and every loaded engine offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, TypedDict

from export.engines.options import TensorRTOptions
from export.engines.trt_built import Summary
from export.engines.trt_layers import NetworkSummary
from export.progress import Progress
from export.runtime.arrays import Array
from export.runtime.engine import Engine as InProcess
from export.runtime.facts import Tensor
from export.runtime.remedies import Skipped
from export.runtime.sampling import Limits, Query, Samples

__all__ = ["Array", "Availability", "Backend", "Engine", "EngineInfo", "Query", "Samples"]

Option = str | int | bool | None
"""The value of an option of a builder."""


@dataclass(frozen=True)
class Availability:
    """Whether a back end can build and run engines on this machine, and if not, why and what helps."""

    built: bool
    """Can build engines here."""
    run: bool
    """Can run engines here."""
    detail: str
    """One line: what is there, or what is missing."""
    fix: str = ""
    """One line: how to get what is missing."""
    versions: dict[str, str] = field(default_factory=dict)
    """Library name to version."""
    compute_capability: str = ""
    """Of the GPU that engines run on, such as `SM86`; empty where there is none."""


class Composition(TypedDict, total=False):
    """What TensorRT made of a network, counted; empty of other engines."""

    network: NetworkSummary | None
    """The parsed network; None where the engine was built on a device."""
    engine: Summary | None
    """The built one; None where it could not be asked."""


@dataclass(frozen=True)
class EngineInfo:
    """Facts about a built engine file."""

    file: str
    bytes: int
    build_seconds: float
    backend: str
    versions: dict[str, str]
    compute_capability: tuple[str, ...]
    """GPU targets such as `SM86`; empty for CPUs and for TensorRT-RTX's portable default."""
    batch_sizes: tuple[int, ...]
    """Accepted batch sizes; empty where any size is."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layers: int
    """Layers of the parsed network, before the engine fuses them."""
    sha256: str
    state: str = "built"
    device: str = ""
    """GPU that the engine was built on, where it is bound to one."""
    platform: str = ""
    """CPU architecture that the engine was built on, where it is bound to one."""
    l4t: str = ""
    """Release of the Jetson's system that it was built on; empty elsewhere."""
    source: dict[str, str] = field(default_factory=dict)
    """`file` (name) and `sha256` of the ONNX file."""
    options: Mapping[str, Option] = field(default_factory=dict)
    """Options of the builder that decide what the engine is."""
    weights: dict[str, str] = field(default_factory=dict)
    """For a stripped engine: `file` (name, beside the engine) and `sha256` of the ONNX file with its weights."""
    composition: Composition = field(default_factory=Composition)
    """What it consists of."""
    classes: tuple[str, ...] = ()
    """Class names by output, where the ONNX file tells them."""
    image: dict[str, object] = field(default_factory=dict)
    """The image that it takes (`export.contract.ImageInput`), where the ONNX file tells it."""
    notes: tuple[str, ...] = ()
    """What happened on the way; not in the sidecar."""
    remark: str = ""
    """What a report should say of it although nothing failed; not in the sidecar."""
    skipped_tactics: Skipped | None = None
    """Kernels that TensorRT's builder left out because memory did not suffice; not in the sidecar."""

    def to_dict(self) -> dict[str, object]:
        """JSON-ready dictionary."""
        return asdict(self)


class Engine(InProcess, Protocol):
    """A loaded engine that can be timed. Not thread-safe."""

    backend: str

    def time(self, batch: Array, limits: Limits, *, boundary: str = "engine") -> Samples:
        """Time repeated inference of `batch` within `limits`, one query at a time."""
        ...


class Backend(Protocol):
    """Builds engines from ONNX files and loads them."""

    name: str

    def availability(self) -> Availability:
        """What this machine can do; never raises."""
        ...

    def build(
        self,
        onnx: Path,
        out: Path,
        *,
        batch_sizes: Sequence[int] = (1,),
        compute_capabilities: Sequence[str] = (),
        threads: int | None = None,
        tensorrt: TensorRTOptions = ...,
        progress: Progress = ...,
    ) -> EngineInfo:
        """Build the engine file `out` from `onnx`, and its facts in `<out>.json`.

        Options that a back end does not know are ignored by it; precision is what the ONNX file says. `tensorrt` are
        the options of TensorRT's builder.
        """
        ...

    def load(
        self,
        path: Path,
        *,
        threads: int | None = None,
        provider: str | None = None,
        spinning: bool = True,
        denormals_as_zero: bool = False,
    ) -> Engine:
        """Load an engine file. Options that a back end does not know are ignored by it.

        Args:
            path: the file.
            threads: CPU threads for one inference; None: all that this process may use.
            provider: ONNX Runtime execution provider.
            spinning: CPU threads wait for work in a loop instead of sleeping.
            denormals_as_zero: CPU threads take denormal numbers as zero.
        """
        ...
