"""`figkd-pipeline doctor`: what this machine has, what a config needs, and how to get what is missing."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator

from pipeline import environment
from pipeline.config.schema import DeployConfig
from pipeline.devices.doctor import device_findings
from pipeline.findings import Finding
from pipeline.preflight import data_faults, existing_parent


def examine(config: DeployConfig | None = None) -> list[Finding]:
    """Look at the machine and, if a config is given, at what it needs, here and on its devices."""
    here = [*_machine(), *_packages(), *_back_ends(config)]
    return [*here, *_config(config), *device_findings(config)] if config else here


def _machine() -> Iterator[Finding]:
    import psutil

    python = sys.version_info
    yield Finding(
        "Python",
        "ok" if python >= (3, 11) else "fault",
        platform.python_version(),
        "" if python >= (3, 11) else "Python 3.11 or later",
    )
    yield Finding("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield Finding("CPU", "ok", f"{environment.cpu_model()}, {environment.cores()} cores")
    memory = psutil.virtual_memory()
    low = memory.available < 3e9
    yield Finding(
        "memory",
        "absent" if low else "ok",
        f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
        "training wants 3 GB or more" if low else "",
    )
    gpu = environment.gpu_name()
    yield Finding(
        "NVIDIA GPU",
        "absent" if gpu == "none" else "ok",
        gpu,
        "none needed: TensorRT engines are then built where possible, and not run" if gpu == "none" else "",
    )


def _packages() -> Iterator[Finding]:
    for name in ("torch", "torchvision", "timm", "onnx", "onnxruntime", "PyWavelets"):
        version = environment.version_of(name)
        missing = version == "none"
        yield Finding(
            name, "fault" if missing else "ok", version, "pip install figkd-pipeline" if missing else ""
        )


def _back_ends(config: DeployConfig | None) -> Iterator[Finding]:
    from export.engines import BACKENDS

    demanded = (
        {t.engine for t in config.targets.values() if t.required and t.device == "local"} if config else set()
    )
    for name, backend in BACKENDS.items():
        found = backend.availability()
        if not found.built:
            yield Finding(
                f"back end {name}", "fault" if name in demanded else "absent", found.detail, found.fix
            )
        else:
            versions = ", ".join(f"{k} {v}" for k, v in found.versions.items())
            can = "builds and runs" if found.run else f"builds; cannot run: {found.detail}"
            yield Finding(f"back end {name}", "ok", f"{versions}: {can}")


def _config(config: DeployConfig) -> Iterator[Finding]:
    faults = list(data_faults(config))
    for fault in faults:
        yield Finding(fault.where, "fault", fault.what, fault.fix)
    if not faults:
        yield Finding(
            "data", "ok", f"{config.data.dataset}" + (f" in {config.data.root}" if config.data.root else "")
        )
    folder = existing_parent(config.store)
    free = shutil.disk_usage(folder).free
    yield Finding(
        "disk", "ok" if free > 2e9 else "fault", f"{free / 1e9:.1f} GB free for {config.store}",
        "" if free > 2e9 else "free some space, or set store: to another disk",
    )  # fmt: skip
