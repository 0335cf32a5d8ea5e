"""Facts about the machine that measurements were taken on; whatever cannot be read is left out, never
fatal."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from export.runtime.cpu import features_in, usable_cores

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxscript",
    "onnxslim",
    "tensorrt",
    "tensorrt_rtx_cu13",
    "nvidia-cuda-runtime",
    "pillow",
)

Facts = dict[str, Any]


def machine_facts() -> Facts:
    """Everything that a reader of a latency needs to know about the machine.

    Returns:
        `cpu` (model, architecture, cores, threads usable by this process, governor, mhz, features), `memory_gib`,
        `gpus` (name, driver, memory_gib, clocks and power limit where readable), `os`, `kernel`, `python`,
        `packages` (name to version), and `board` (device-tree model, L4T release) on embedded boards.
    """
    facts: Facts = {
        "cpu": cpu_facts(),
        "gpus": gpu_facts(),
        "os": _os_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": package_versions(),
    }
    memory = _meminfo("MemTotal")
    if memory is not None:
        facts["memory_gib"] = round(memory / 2**20, 2)
    board = board_facts()
    if board:
        facts["board"] = board
    return facts


def cpu_facts() -> Facts:
    """Model, architecture, counts and, where readable, clock governor and current frequency."""
    facts: Facts = {"architecture": platform.machine()}
    text = _read("/proc/cpuinfo") or ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware") and value.strip():
            facts.setdefault("model", value.strip())
    facts.setdefault("model", platform.processor() or "unknown")
    facts["logical"] = os.cpu_count()
    cores = {
        (_read(f"{folder}/topology/physical_package_id"), _read(f"{folder}/topology/core_id"))
        for folder in _cpu_folders()
    }
    cores = {core for core in cores if None not in core}
    if cores:
        facts["cores"] = len(cores)
    facts["usable"] = usable_cores()
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor:
        facts["governor"] = governor
    for name, file in (("mhz", "scaling_cur_freq"), ("max_mhz", "cpuinfo_max_freq")):
        clock = _read(f"/sys/devices/system/cpu/cpu0/cpufreq/{file}")
        if clock and clock.isdigit():
            facts[name] = int(clock) // 1000
    features = cpu_features(text)
    if features:
        facts["features"] = features
    load = _read("/proc/loadavg")
    if load:
        facts["load_1min"] = float(load.split()[0])
    return facts


def gpu_facts() -> list[Facts]:
    """NVIDIA GPUs as NVML reports them; empty where there are none or NVML is absent."""
    try:
        import pynvml
    except Exception:
        return []
    try:
        pynvml.nvmlInit()
    except Exception:
        return []
    gpus: list[Facts] = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            gpus.append(_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)))
    except Exception:
        return gpus
    finally:
        pynvml.nvmlShutdown()
    return gpus


def _gpu(nvml: Any, handle: Any) -> Facts:
    def capability() -> str:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        return f"{major}.{minor}"

    readers: dict[str, Callable[[], Any]] = {
        "name": lambda: _text(nvml.nvmlDeviceGetName(handle)),
        "driver": lambda: _text(nvml.nvmlSystemGetDriverVersion()),
        "memory_gib": lambda: round(nvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30, 2),
        "compute_capability": capability,
        "sm_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "memory_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
        "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
    }
    facts: Facts = {}
    for name, reader in readers.items():
        # A field that this board does not have is left out.
        with contextlib.suppress(Exception):
            facts[name] = reader()
    return facts


def board_facts() -> Facts:
    """Device-tree model and L4T release of an embedded board; empty elsewhere."""
    facts: Facts = {}
    model = _read("/proc/device-tree/model")
    if model:
        facts["model"] = model.rstrip("\0")
    release = _read("/etc/nv_tegra_release")
    if release:
        facts["l4t"] = release.splitlines()[0].lstrip("# ")
    return facts


def cpu_features(cpuinfo: str | None = None) -> list[str]:
    """What of a CPU's instructions decides a file or explains a speed, sorted; empty if unknown.

    Args:
        cpuinfo: content of `/proc/cpuinfo`; read from the machine by default.
    """
    return features_in(_read("/proc/cpuinfo") or "" if cpuinfo is None else cpuinfo)


def architecture() -> str:
    """The CPU's architecture as Linux names it: `x86_64`, `aarch64`."""
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _cpu_folders() -> list[str]:
    return [str(p) for p in Path("/sys/devices/system/cpu").glob("cpu[0-9]*")]


def _meminfo(key: str) -> int | None:
    for line in (_read("/proc/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    return None


def _os_name() -> str:
    for line in (_read("/etc/os-release") or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip('"')
    return sys.platform


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
