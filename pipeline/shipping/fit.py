"""Whether a bundle runs on a device, from what it needs and what the device says of itself: before it is sent."""

from __future__ import annotations

from export.runtime.bundle.manifest import EngineEntry, Manifest
from pipeline.devices.facts import Facts

# What an install takes beside the bundle itself: the copy that is sent, and room to work.
_COPIES, _SPARE = 2, 16 << 20


def unmet(manifest: Manifest, facts: Facts) -> list[str]:
    """What the device lacks to take any engine of the bundle, a line each; none if one fits.

    Args:
        manifest: of the bundle.
        facts: of the device.
    """
    lacks: list[str] = []
    several = len(manifest.engines) > 1
    for entry in manifest.engines:
        found = _unmet(entry, facts, several=several)
        if not found:
            lacks = []
            break
        lacks += [f"{entry.name}: {line}" for line in found] if several else found
    room = _COPIES * manifest.size + _SPARE
    if room > facts["disk_free_bytes"]:
        lacks.append(f"{room / 1e6:.0f} MB are needed, {facts['disk_free_bytes'] / 1e6:.0f} MB are free")
    return lacks


def _unmet(entry: EngineEntry, facts: Facts, *, several: bool) -> list[str]:
    """The same of one engine. The device decides again, by `export.runtime.bundle.fit`."""
    needs, lacks = entry.needs, []
    if needs.architecture and facts["machine"] != needs.architecture:
        lacks.append(f"its CPU is {facts['machine']}, the engine is for {needs.architecture}")
    found = facts.get("compute_capability", "")
    if needs.compute_capability and _sm(found) not in needs.compute_capability:
        wanted = " or ".join(needs.compute_capability)
        lacks.append(f"its GPU is {_sm(found) or 'none'}, the engine is for {wanted}")
    if needs.l4t and facts.get("l4t", "") != needs.l4t:
        lacks.append(f"its L4T is {facts.get('l4t') or 'none'}, the engine is for {needs.l4t}")
    for package, version in needs.versions.items():
        there = _version(package, facts)
        if there != version:
            lacks.append(f"its {package} is {there or 'missing'}, the engine is for {version}")
    if needs.cpu_features and not set(needs.cpu_features).intersection(facts.get("cpu_features", [])):
        lacks.append(f"its CPU has no {' or '.join(needs.cpu_features)}")
    if several and not needs.versions and not _version(entry.backend, facts):
        lacks.append(f"its Python has no {entry.backend}")
    return lacks


def _version(package: str, facts: Facts) -> str:
    if package == "tensorrt":
        return facts["tensorrt"]["python"] or facts["tensorrt"]["version"]
    return facts["packages"].get(package, "")


def _sm(capability: str) -> str:
    """`8.7` as manifests write it."""
    digits = capability.replace(".", "")
    return f"SM{digits}" if digits.isdigit() else capability
