"""What an engine is bound to, and whether it belongs here.

An engine of TensorRT holds machine code for one GPU, laid out by one version of the library. This module says which
facts must agree, and how to build the engine again where they do not.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from export.engine_kinds import kinds_with
from export.engines.trt_versions import Dialect, parse_version

if TYPE_CHECKING:
    from export.engines.sidecar import Sidecar


@dataclass(frozen=True)
class HostMachine:
    """The library and device that want to load an engine."""

    library: str
    """`tensorrt` or `tensorrt_rtx`."""
    version: str
    device: str
    """Name of the GPU."""
    compute_capability: str
    """Such as `SM87`."""
    platform: str
    """CPU architecture: `x86_64`, `aarch64`."""
    l4t: str
    """Release of the Jetson's system, such as `36.4.3`; empty elsewhere."""


def incompatibility(facts: Sidecar, here: HostMachine, chosen: Dialect) -> str:
    """Why an engine with the sidecar `facts` cannot be loaded `here`; empty if it can.

    Args:
        facts: the sidecar's content.
        here: this machine.
        chosen: dialect of this machine's library.
    """
    options = facts["options"]
    built_with = str(facts["versions"].get(here.library))
    if built_with != here.version:
        if not options.get("version_compatible"):
            return (
                f"was built by {here.library} {built_with}, here is {here.version}; "
                "engines load in the same version only"
            )
        if problem := _other_version(built_with, here, chosen):
            return problem
    if facts["platform"] != here.platform:
        return f"was built on {facts['platform']}, this machine is {here.platform}"
    if facts["l4t"] != here.l4t:
        names = [f"Jetson Linux {l4t}" if l4t else "no Jetson" for l4t in (facts["l4t"], here.l4t)]
        return f"was built on {names[0]}, here is {names[1]}"
    return _other_device(facts, here, str(options.get("hardware_compatibility", "none")))


def _other_version(built_with: str, here: HostMachine, chosen: Dialect) -> str:
    theirs, ours = parse_version(built_with), parse_version(here.version)
    older_major = bool(theirs) and theirs[0] in chosen.older_majors
    if older_major or (theirs[:1] == ours[:1] and theirs <= ours):
        return ""
    majors = ", ".join(f"{major}.x" for major in (*chosen.older_majors, *ours[:1]))
    return (
        f"was built by {here.library} {built_with}, here is {here.version}; a version-compatible engine loads in later "
        f"versions, and {here.version} takes those of {majors}"
    )


def _other_device(facts: Sidecar, here: HostMachine, hardware: str) -> str:
    wanted, device = facts["compute_capability"], facts["device"]
    named = f"this GPU is {here.compute_capability} ({here.device})"
    if hardware == "ampere_plus":
        return "" if _major(here.compute_capability) >= 8 else f"is for Ampere and later, {named}"
    if wanted and here.compute_capability not in wanted:
        return f"is for {', '.join(wanted)}, {named}"
    if hardware == "none" and device and device != here.device:
        return f"was built on {device}, this GPU is {here.device}"
    return ""


def _major(capability: str) -> int:
    """8 of `SM86`, 12 of `SM120`."""
    return int(capability.removeprefix("SM") or 0) // 10


def rebuild_command(engine: Path, facts: Sidecar) -> str:
    """The shell command that builds the engine of a sidecar again, on the machine where it is run."""
    options = facts["options"]
    words = [
        "python",
        "-P",  # a folder `export/` where the command is run is not this package
        "-m",
        "export",
        "build",
        facts.get("source", {}).get("file", "model.onnx"),
        str(engine),
    ]
    words += ["--backend", facts["backend"], "--batch-sizes", *(str(size) for size in facts["batch_sizes"])]
    if facts["backend"] in kinds_with("compute_capabilities") and facts["compute_capability"]:
        words += ["--compute-capabilities", *facts["compute_capability"]]
    for name in ("optimization_level", "workspace_mb", "tactic_dram_mb"):
        if options.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    if options.get("hardware_compatibility", "none") != "none":
        words += ["--hardware-compatibility", str(options["hardware_compatibility"])]
    for name in ("version_compatible", "strip_weights"):
        if options.get(name):
            words.append(f"--{name.replace('_', '-')}")
    if not options.get("strong_typing", True):
        words.append("--weak-typing")
    return shlex.join(words)
