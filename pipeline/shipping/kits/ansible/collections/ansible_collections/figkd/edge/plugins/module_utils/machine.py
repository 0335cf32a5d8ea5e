"""What a device is, and what it lacks of what a bundle needs. Runs on the device: Python 3.8, standard library."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
from typing import Any, Dict, List, Sequence

_SPARE_BYTES = 16 << 20
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def facts_of(candidates: Sequence[Dict[str, Any]], root: str) -> Dict[str, Any]:
    """The facts of this machine that bundles may ask for.

    Args:
        candidates: `engines` of bundles; versions of other packages are not looked up.
        root: folder of the releases, for the room that is free.
    """
    engines = [engine for one in candidates for engine in one["engines"]]
    packages = {package for engine in engines for package in engine["needs"].get("versions", {})}
    packages |= {
        engine["backend"] for one in candidates if len(one["engines"]) > 1 for engine in one["engines"]
    }
    asked = any(engine["needs"].get("compute_capability") for engine in engines)
    return {
        "architecture": platform.machine(),
        "cpu_features": _cpu_features(),
        "l4t": _l4t(),
        "compute_capability": _compute_capability() if asked else "",
        "versions": {package: _version(package) for package in sorted(packages)},
        "free_bytes": _free(root),
    }


def lacks(candidate: Dict[str, Any], facts: Dict[str, Any]) -> List[str]:
    """What a device lacks to run any engine of a bundle, a line each; none if one fits. Pure.

    Args:
        candidate: `engines` of the bundle.
        facts: from `facts_of`.
    """
    found: List[str] = []
    several = len(candidate["engines"]) > 1
    for engine in candidate["engines"]:
        one = _lacks(engine, facts, several)
        if not one:
            return []
        found += ["{}: {}".format(engine["name"], line) for line in one] if several else one
    return found


def _lacks(engine: Dict[str, Any], facts: Dict[str, Any], several: bool) -> List[str]:
    needs, found = engine["needs"], []
    if needs.get("architecture") not in ("", None, facts["architecture"]):
        found.append(
            "its CPU is {}, the engine is for {}".format(facts["architecture"], needs["architecture"])
        )
    capabilities = needs.get("compute_capability") or []
    if capabilities and facts["compute_capability"] not in capabilities:
        wanted = " or ".join(capabilities)
        found.append(
            "its GPU is {}, the engine is for {}".format(facts["compute_capability"] or "none", wanted)
        )
    if needs.get("l4t") not in ("", None, facts["l4t"]):
        found.append("its L4T is {}, the engine is for {}".format(facts["l4t"] or "none", needs["l4t"]))
    for package, version in sorted(needs.get("versions", {}).items()):
        here = facts["versions"].get(package, "")
        if here != version:
            found.append("its {} is {}, the engine is for {}".format(package, here or "missing", version))
    features = needs.get("cpu_features") or []
    if features and not set(features).intersection(facts["cpu_features"]):
        found.append("its CPU has no {}".format(" or ".join(features)))
    if several and not needs.get("versions") and not facts["versions"].get(engine["backend"]):
        found.append("its Python has no {}".format(engine["backend"]))
    return found


def lacks_room(candidate: Dict[str, Any], facts: Dict[str, Any]) -> List[str]:
    """The same of room on the disk: for what is sent, for the copy that is verified, and some to work. Pure.

    Args:
        candidate: `bytes` of the bundle.
        facts: from `facts_of`.
    """
    room = 2 * candidate["bytes"] + _SPARE_BYTES
    if facts["free_bytes"] >= room:
        return []
    return ["{:.0f} MB are needed, {:.0f} MB are free".format(room / 1e6, facts["free_bytes"] / 1e6)]


def held(archive: str, folder: str) -> str:
    """A bundle that was sent, under a name of our own: whoever removes the other one takes nothing from us.

    An install of a controller that was lost ends with removing what was sent, which by then may be ours as well.

    Raises:
        FileNotFoundError: it is gone already.
    """
    path = os.path.join(folder, os.path.basename(archive))
    try:
        os.link(archive, path)
    except FileNotFoundError:
        raise
    except OSError:  # on another file system, or one without links
        shutil.copyfile(archive, path)
    return path


def _l4t() -> str:
    try:
        with open("/etc/nv_tegra_release", encoding="utf-8", errors="replace") as file:
            line = file.readline()
    except OSError:
        return ""
    found = re.search(r"R(\d+).*?REVISION:\s*(\d+(?:\.\d+)*)", line)
    return "{}.{}".format(found.group(1), found.group(2)) if found else line.strip("# ").strip()


def _cpu_features() -> List[str]:
    """What all cores can do, as the kernel lists it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lists = re.findall(r"^(?:flags|Features)[ \t]*:(.*)$", file.read(), re.MULTILINE)
    except OSError:
        return []
    return sorted(set.intersection(*(set(words.split()) for words in lists))) if lists else []


def _compute_capability() -> str:
    """Of the first GPU, such as `SM87`; empty without one."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
            return ""
        if cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device):
            return ""
        if cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device):
            return ""
    except (OSError, AttributeError):
        return ""
    return "SM{}{}".format(major.value, minor.value)


def _version(package: str) -> str:
    from importlib import import_module, metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        pass
    try:  # JetPack installs some without metadata
        return str(getattr(import_module(package), "__version__", ""))
    except Exception:
        return ""


def _free(root: str) -> int:
    while not os.path.isdir(root) and root != os.path.dirname(root):
        root = os.path.dirname(root)
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize
