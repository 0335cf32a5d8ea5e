"""What a device is: board, JetPack, GPU, TensorRT, memory, disk, and whoever else uses the GPU.

Every reader takes the root of the file system, so that recorded trees of other boards can be read too.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import subprocess
import sys
import time

from export.runtime.cpu import features_in, usable_cores
from export.runtime.readings import clocks, l4t_release, rails, read, snapshot

from . import memory, power_mode, trtexec
from .requests import Answer

# L4T release to JetPack, for devices without the package that says it. What is not here is not guessed: a release that
# lies between two of them may belong to either.
_JETPACK = {
    "39.2.1": "7.2.1",
    "39.2.0": "7.2",
    "38.4.0": "7.1",
    "38.2.2": "7.0",
    "38.2.1": "7.0",
    "38.2.0": "7.0",
    "36.5.0": "6.2.2",
    "36.4.7": "6.2.1",
    "36.4.4": "6.2.1",
    "36.4.3": "6.2",
    "36.4.2": "6.1",
    "36.4.0": "6.1",
    "36.3.0": "6.0",
    "36.2.0": "6.0 DP",
    "36.0.0": "6.0 EA",
    "35.6.4": "5.1.6",
    "35.6.2": "5.1.5",
    "35.6.1": "5.1.5",
    "35.6.0": "5.1.4",
    "35.5.0": "5.1.3",
    "35.4.1": "5.1.2",
    "35.3.1": "5.1.1",
    "35.2.1": "5.1",
    "35.1.0": "5.0.2",
    "34.1.1": "5.0.1 DP",
    "34.1.0": "5.0 DP",
}
# SoC in the device tree to (GPU, compute capability).
_SOCS = {
    "tegra264": ("Thor", "SM110"),
    "tegra234": ("Orin", "SM87"),
    "tegra194": ("Xavier", "SM72"),
    "tegra186": ("TX2", "SM62"),
    "tegra210": ("Nano", "SM53"),
}
_GPU_FILES = re.compile(r"^/dev/(nvhost-gpu|nvhost-ctrl-gpu|nvgpu/|nvidia\d+$|nvidia-uvm$)")


def facts(folder: str, root: str = "/") -> Answer:
    """Everything that the host asks of a device before it works there."""
    modules = packages()
    found: dict[str, object] = {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "os": _os_name(root),
        "cpu": cpu_model(root),
        "cpu_features": features_in(read(root, "proc/cpuinfo")),
        "cores": usable_cores(),
        "memory_mb": memory_total(root),
        "memory_free_mb": memory.free_mb(root),
        "disk_free_bytes": free_bytes(folder),
        "clock": time.time(),
        "gpu_users": gpu_users(root),
        "packages": modules,
    }
    found.update(jetson(root))
    found.update(desktop_gpu() if root == "/" and "gpu" not in found else {})
    found["tensorrt"] = tensorrt(root, modules)
    cuda = {"cuda": cuda_version(root), "cuda_runtime": cuda_runtime() if root == "/" else ""}
    found.update({name: version for name, version in cuda.items() if version})
    mode = power_mode.current(root)
    if mode:
        found["power_mode"] = mode
    found["clocks"] = clocks(root)
    found["readings"] = snapshot(root)
    found["rails"] = sorted(rails(root))
    return found


def jetson(root: str = "/") -> dict[str, str]:
    """`board`, and on a Jetson `l4t`, `l4t_text`, `jetpack`, `soc`, `gpu`, `compute_capability`."""
    found: dict[str, str] = {}
    model = read(root, "proc/device-tree/model")
    if model:
        found["board"] = model
    soc = re.search(r"nvidia,(tegra\d+)", read(root, "proc/device-tree/compatible"))
    if soc:
        found["soc"] = soc.group(1)
        found["gpu"], found["compute_capability"] = _SOCS.get(soc.group(1), (soc.group(1), ""))
    release = read(root, "etc/nv_tegra_release").splitlines()
    if release:
        found["l4t_text"] = release[0].lstrip("# ")
        found["l4t"] = l4t_release(root)
        if found["l4t"] != found["l4t_text"]:
            three = ".".join([*found["l4t"].split("."), "0"][:3])
            # The package says it exactly; a device without it is recognised by its release.
            found["jetpack"] = dpkg_version("nvidia-jetpack", root) or _JETPACK.get(three, "")
    return found


def tensorrt(root: str, modules: dict[str, str]) -> dict[str, str]:
    """`python` (the module's version), `trtexec` (a path), `trtexec_version`, `library`; `version`: the first known."""
    found = {"python": modules.get("tensorrt", "")}
    program = trtexec.find(root)
    found["trtexec"] = program
    found["trtexec_version"] = trtexec.probe(program) if program and root == "/" else ""
    libraries = glob.glob(os.path.join(glob.escape(root), "usr/lib/*/libnvinfer.so.*.*.*"))
    versions = sorted(path.rsplit(".so.", 1)[1] for path in libraries)
    found["library"] = versions[-1] if versions else ""
    found["version"] = found["python"] or found["trtexec_version"] or found["library"]
    return found


def packages() -> dict[str, str]:
    """Versions of the Python modules that jobs use; those that cannot be imported are left out."""
    import importlib

    found: dict[str, str] = {}
    for name in ("numpy", "PIL", "onnxruntime", "tensorrt", "tensorrt_rtx"):
        try:
            module = importlib.import_module(name)
        except Exception:  # absent, or broken: for a job it is the same
            continue
        found[name] = str(getattr(module, "__version__", "unknown"))
    return found


def dpkg_version(package: str, root: str = "/") -> str:
    """Version of an installed Debian package, from dpkg's own file; '' if it is not installed."""
    for block in read(root, "var/lib/dpkg/status").split("\n\n"):
        if block.lstrip().startswith(f"Package: {package}\n") and "install ok installed" in block:
            version = re.search(r"^Version: (\S+)", block, re.MULTILINE)
            return version.group(1) if version else ""
    return ""


def cuda_version(root: str = "/") -> str:
    """Version of the CUDA toolkit under /usr/local/cuda; '' if there is none."""
    found = re.search(
        r'"cuda"\s*:\s*{[^}]*"version"\s*:\s*"([^"]+)"', read(root, "usr/local/cuda/version.json")
    )
    return found.group(1) if found else ""


def cuda_runtime() -> str:
    """Version of the CUDA runtime that engines would be run with; '' if there is none."""
    try:
        from export.runtime import cudart
    except Exception:  # numpy is absent or broken
        return ""
    return cudart.version()


def desktop_gpu() -> dict[str, str]:
    """`gpu`, `driver` and `compute_capability` as nvidia-smi tells them; empty without it."""
    query = "name,driver_version,compute_cap"
    lines = _output(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]).splitlines()
    parts = [part.strip() for part in lines[0].split(",")] if lines else []
    if len(parts) != 3:
        return {}
    return {"gpu": parts[0], "driver": parts[1], "compute_capability": "SM" + parts[2].replace(".", "")}


def gpu_users(root: str = "/") -> list[str]:
    """Names of other processes that hold the GPU open, as far as this user may see them."""
    found = set()
    for process in glob.glob(os.path.join(glob.escape(root), "proc/[0-9]*")):
        if os.path.basename(process) == str(os.getpid()):
            continue
        for link in glob.glob(os.path.join(glob.escape(process), "fd/*")):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if _GPU_FILES.match(target):
                found.add(read(process, "comm") or os.path.basename(process))
                break
    return sorted(found)


def cpu_model(root: str = "/") -> str:
    """Name of the CPU, or of its core design where only its number is known."""
    text = read(root, "proc/cpuinfo")
    for key in ("model name", "Model", "Hardware"):
        found = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
        if found:
            return found.group(1).strip()
    parts = set(re.findall(r"^CPU part\s*:\s*(\S+)$", text, re.MULTILINE))
    return f"ARM part {', '.join(sorted(parts))}" if parts else platform.machine()


def memory_total(root: str = "/") -> int:
    """MiB of memory; 0 if unknown."""
    found = re.search(r"^MemTotal:\s*(\d+)", read(root, "proc/meminfo"), re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def free_bytes(folder: str) -> int:
    """Bytes that this user may still write on the disk of a folder."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _os_name(root: str) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', read(root, "etc/os-release"), re.MULTILINE)
    return found.group(1) if found else platform.system()


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
