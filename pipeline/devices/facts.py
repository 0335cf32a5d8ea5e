"""What a device says of itself, as typed values: the result of the agent's job `facts`."""

from __future__ import annotations

from typing import Annotated, Required

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from pipeline.devices.messages import Count, Job, Name, Number, Path, Seconds

_CLOSED = ConfigDict(strict=True, extra="forbid")
_Few = Field(max_length=1000)
Watts = Annotated[dict[Name, Number], _Few]


@with_config(_CLOSED)
class Gpu(TypedDict, total=False):
    """Load in percent, clocks in MHz."""

    load_percent: Number
    mhz: Count
    min_mhz: Count
    max_mhz: Count
    app_mhz: Count
    governor: Name


@with_config(_CLOSED)
class Cpu(TypedDict, total=False):
    """Clocks in MHz; `online` as the kernel lists the cores."""

    mhz: Count
    min_mhz: Count
    max_mhz: Count
    governor: Name
    online: Name


@with_config(_CLOSED)
class MemoryClock(TypedDict, total=False):
    """In MHz; whether `jetson_clocks` has locked it."""

    mhz: Count
    min_mhz: Count
    max_mhz: Count
    locked: bool


@with_config(_CLOSED)
class Clocks(TypedDict, total=False):
    """Of CPU, GPU and memory."""

    cpu: Cpu
    gpu: Gpu
    memory: MemoryClock


@with_config(_CLOSED)
class Reading(TypedDict, total=False):
    """One reading: degrees Celsius by zone, watts by rail; `at` is a time in s."""

    at: Required[Number]
    temperatures: Annotated[dict[Name, Number], _Few]
    rails: Watts
    gpu: Gpu
    memory: MemoryClock
    cpu: Cpu
    throttling: Annotated[dict[Name, Number], _Few]


@with_config(_CLOSED)
class PowerMode(TypedDict, total=False):
    """Of a Jetson."""

    id: Count
    name: Name
    available: Annotated[list[Name], _Few]


@with_config(_CLOSED)
class Memory(TypedDict, total=False):
    """MiB; `wanted` is what a build needs."""

    available: Count
    swap_free: Count
    wanted: Count


@with_config(_CLOSED)
class TensorRT(TypedDict):
    """Versions, empty where there is none; `trtexec` is a path on the device."""

    python: Name
    trtexec: Path
    trtexec_version: Name
    library: Name
    version: Name


@with_config(_CLOSED)
class Facts(TypedDict, total=False):
    """What `pipeline.devices.agent.board.facts` says."""

    system: Required[Name]
    release: Required[Name]
    machine: Required[Name]
    python: Required[Name]
    executable: Required[Path]
    os: Required[Name]
    cpu: Required[Name]
    cpu_features: Annotated[list[Name], _Few]
    cores: Required[Count]
    memory_mb: Required[Count]
    memory_free_mb: Required[Memory]
    disk_free_bytes: Required[Count]
    clock: Required[Seconds]
    gpu_users: Required[Annotated[list[Name], _Few]]
    packages: Required[Annotated[dict[Name, Name], _Few]]
    board: Name
    soc: Name
    gpu: Name
    compute_capability: Name
    driver: Name
    l4t: Name
    l4t_text: Name
    jetpack: Name
    tensorrt: Required[TensorRT]
    cuda: Name
    cuda_runtime: Name
    power_mode: PowerMode
    clocks: Required[Clocks]
    readings: Required[Reading]
    rails: Required[Annotated[list[Name], _Few]]


FACTS = Job("facts", Facts)
