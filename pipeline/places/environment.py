"""Facts about this machine and its packages, without importing anything heavy."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

from export.engine_kinds import ENGINE_KINDS
from export.runtime.cpu import usable_cores

# The distribution that provides each back end; the first one installed counts.
DISTRIBUTIONS: dict[str, tuple[str, ...]] = {name: kind.distributions for name, kind in ENGINE_KINDS.items()}


def version_of(package: str) -> str:
    """Version of an installed package (or of the first distribution of a back end), else 'none'."""
    for name in DISTRIBUTIONS.get(package, (package,)):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "none"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """`version_of` for several packages."""
    return {package: version_of(package) for package in packages}


@functools.cache
def cpu_model() -> str:
    """The CPU's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def gpu_name() -> str:
    """Name of the first NVIDIA GPU through NVML, else 'none'."""
    try:
        import pynvml

        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        return name if isinstance(name, str) else str(name.decode())
    except Exception:  # no driver, no library, no device: all mean that there is none to use
        return "none"


@functools.cache
def gpu_compute_capability() -> str:
    """Compute capability of the first NVIDIA GPU such as `SM86`, else 'none'."""
    try:
        import pynvml

        pynvml.nvmlInit()
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(pynvml.nvmlDeviceGetHandleByIndex(0))
    except Exception:  # as above
        return "none"
    return f"SM{major}{minor}"


@functools.cache
def git_revision() -> str:
    """Revision of the working copy that this code runs from, with '+' if it has changes; '' if there is none."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    try:
        revision = _git(here, "rev-parse", "HEAD")
        return revision + ("+" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


def cores() -> int:
    """CPU cores that this process may use."""
    return usable_cores()
