"""What the views say of the devices that engines ran on: one list of (label, text) for each target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.report import latency_words, numbers
from pipeline.results.doubts import coarse
from pipeline.results.result import Result

Facts = Mapping[str, Any]


def device_facts(result: Result) -> list[tuple[str, list[tuple[str, str]]]]:
    """Target and its device's facts in words; only targets on devices that were measured."""
    return [(target, list(_rows(facts))) for target, facts in result.devices.items()]


def _rows(machine: Facts) -> Iterator[tuple[str, str]]:
    facts: Facts = machine.get("facts", {})
    yield "device", str(machine.get("device", ""))
    for label, key in (
        ("board", "board"),
        ("L4T", "l4t"),
        ("JetPack", "jetpack"),
        ("GPU", "gpu"),
        ("CUDA", "cuda"),
    ):
        if facts.get(key):
            yield label, str(facts[key])
    version = facts.get("tensorrt", {}).get("version")
    if version:
        yield "TensorRT", str(version)
    yield (
        "CPU",
        f"{facts.get('cpu', 'unknown')}, {facts.get('cores', '?')} cores ({facts.get('machine', '?')})",
    )
    yield "system", f"{facts.get('os', '')}, Python {facts.get('python', '?')}"
    if facts.get("memory_mb"):
        free = facts.get("memory_free_mb", {}).get("available")
        yield (
            "memory",
            f"{numbers.count(facts['memory_mb'])} MiB"
            + (f", {numbers.count(free)} MiB free" if free else ""),
        )
    packages = facts.get("packages", {})
    if packages:
        yield "packages", ", ".join(f"{name} {found}" for name, found in packages.items())
    yield "power mode", _power_mode(machine.get("power_mode", {}))
    yield from _clocks(machine)
    yield from _modes(machine.get("modes", {}))
    yield "temperature", _temperature(machine.get("temperatures_c", {}))
    throttled = machine.get("throttled", [])
    yield "throttling", "; ".join(throttled) if throttled else _none_seen(machine)
    if not machine.get("energy"):
        yield "energy", "not available: the device has no power sensor that can be read"
    yield from _sustained(machine.get("sustained", {}))
    golden = machine.get("golden")
    yield (
        "golden images",
        f"{golden['n']} images decoded there and here: {numbers.percent(golden['differing_percent'])} % of the values "
        f"differ, at most by {golden['max_abs']} of 255"
        if golden
        else "not compared: the device does not decode images itself here",
    )
    if facts.get("gpu_users"):
        yield "other users of the GPU", ", ".join(facts["gpu_users"])
    if machine.get("clock_skew_s") is not None and abs(machine["clock_skew_s"]) > 1:
        yield "clock", f"{machine['clock_skew_s']:+.1f} s against this machine's"
    for text in machine.get("missing", []):
        yield "not measured", str(text)


def _power_mode(mode: Facts) -> str:
    if not mode:
        return "the device has none that can be read"
    return f"{mode.get('name', '?')} (id {mode.get('id', '?')})"


def _modes(modes: Facts) -> Iterator[tuple[str, str]]:
    """Readings in the power modes that budgets are not judged at."""
    for mode, found in modes.items():
        parts = [f"{label} {text}" for label, text in _clocks(found)]
        parts += [f"temperature {_temperature(found.get('temperatures_c', {}))}"]
        parts += [f"throttling: {', '.join(found['throttled'])}"] if found.get("throttled") else []
        for engine, energy in found.get("energy", {}).items():
            if energy:
                parts.append(f"{engine} {numbers.fixed(energy['mj_per_image'], 2)} mJ an image above idle")
        yield f"in {mode}", "; ".join(parts)


def _clocks(machine: Facts) -> Iterator[tuple[str, str]]:
    before, after = machine.get("before", {}), machine.get("after", {})
    for label, key in (("CPU clock", "cpu"), ("GPU clock", "gpu")):
        first, last = before.get(key, {}), after.get(key, {})
        if "mhz" in first:
            limit = f" of {numbers.count(first['max_mhz'])}" if "max_mhz" in first else ""
            governor = f", governor {first['governor']}" if "governor" in first else ""
            yield (
                label,
                f"{numbers.count(first['mhz'])} → {numbers.count(last.get('mhz'))}{limit} MHz{governor}",
            )


def _temperature(zones: Facts) -> str:
    if not zones:
        return "not available"
    parts = (f"{zone} {a:.1f} → {top:.1f} → {b:.1f}" for zone, (a, top, b) in zones.items())
    return ", ".join(parts) + " °C (before, highest, after)"


def _none_seen(machine: Facts) -> str:
    seen = machine.get("before", {}).get("throttling")
    return "none" if seen else "not available: the device has no counter that can be read"


def _sustained(runs: Facts) -> Iterator[tuple[str, str]]:
    for name, found in runs.items():
        whole = f"{numbers.seconds(found['seconds'])}, {numbers.count(found['queries'])} queries"
        speed = f"median {numbers.ms(found['median'])} ms, p99 {numbers.ms(found['p99'])} ms"
        ends = f"{numbers.ms(found['first_median'])} ms, last tenth {numbers.ms(found['last_median'])} ms"
        yield (
            f"sustained {name}",
            "; ".join(
                [
                    f"{whole}: {speed}",
                    f"first tenth {ends} ({found['slowdown_percent']:+.1f} %)",
                    *_remarks(found),
                ]
            ),
        )


def _remarks(run: Facts) -> list[str]:
    step = run.get("resolution_ms")
    return [latency_words.caution(each) for each in coarse(step, run["median"])] if step else []
