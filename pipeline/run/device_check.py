"""What a config's devices have, and what they lack: a look at each, all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pipeline.config.schema import DeployConfig
from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault
from pipeline.devices.archive import OLDEST_PYTHON
from pipeline.devices.known import device_of
from pipeline.devices.session import connect
from pipeline.run.back_ends import Graph, lacks, unknown_graph
from pipeline.run.findings import Finding, State

Facts = Mapping[str, Any]

_MIN_FREE_BYTES = 1_000_000_000
_MIN_FREE_MIB = 1000
_MAX_SKEW_S = 60.0
_WARM_C = 75.0


@dataclass(frozen=True)
class Look:
    """What a session saw of a device beside its facts."""

    latency_s: float
    skew_s: float
    folder: str
    free: int
    holder: str


def device_findings(config: DeployConfig, graph: Graph = unknown_graph) -> Iterator[Finding]:
    """Look at every device of a config; what is found of one comes together."""
    targets: dict[Device, list[str]] = {}
    for name, target in config.targets.items():
        if device := device_of(target):
            targets.setdefault(device, []).append(name)
    look = partial(_examine, config=config, graph=graph)
    if targets:
        with ThreadPoolExecutor(len(targets)) as pool:
            for findings in pool.map(look, targets, targets.values()):
                yield from findings


def _examine(device: Device, targets: Sequence[str], config: DeployConfig, graph: Graph) -> list[Finding]:
    try:
        with connect(device) as session:
            facts = session.facts()
            holder = session.hello.holder
            look = Look(
                session.latency_s,
                session.skew_s,
                session.hello.folder,
                session.hello.free,
                holder.words([]) if holder else "",
            )
    except DeviceFault as fault:
        what = fault.what.removeprefix(f"{device.name}: ")
        found = [Finding("connection", "fault", what, fault.fix, wanted="ssh without questions")]
    else:
        found = [*_connection(look, facts), *judge(facts), *_back_ends(facts, config, targets, graph)]
    return [replace(finding, device=device.name) for finding in found]


def _connection(look: Look, facts: Facts) -> Iterator[Finding]:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    yield Finding("connection", "ok", f"ssh, {1000 * look.latency_s:.0f} ms round trip")
    yield Finding(
        "Python", "ok", f"{facts.get('python')} ({facts.get('executable', '')})", wanted=f"{oldest} or later"
    )
    yield _finding(
        "work folder",
        look.free >= _MIN_FREE_BYTES,
        f"{look.folder}, {look.free / 1e9:.1f} GB free",
        "free some space there, or set the target's remote.folder to another disk",
        f"{_MIN_FREE_BYTES / 1e9:.0f} GB free",
        otherwise="fault",
    )
    yield _finding("lock", not look.holder, look.holder or "free", "a run waits until it is done", "free")
    yield _finding(
        "clock",
        abs(look.skew_s) <= _MAX_SKEW_S,
        f"{look.skew_s:+.1f} s from this machine's",
        "results do not depend on it; logs do: sudo timedatectl set-ntp true",
        f"within {_MAX_SKEW_S:.0f} s",
    )


def judge(facts: Facts) -> Iterator[Finding]:
    """What the facts of a device (job `facts`) mean; what a device does not have is not listed."""
    board = facts.get("board") or facts.get("machine", "")
    yield Finding("system", "ok", ", ".join(filter(None, (board, facts.get("os"), facts.get("release")))))
    if facts.get("l4t"):
        jetpack = facts.get("jetpack") or "of unknown version"
        yield Finding("JetPack", "ok", f"{jetpack}, L4T {facts['l4t']}")
    yield Finding("CPU", "ok", f"{facts.get('cpu', 'unknown')}, {facts.get('cores')} cores")
    if facts.get("gpu"):
        parts = (
            facts["gpu"],
            facts.get("compute_capability"),
            facts.get("driver") and f"driver {facts['driver']}",
        )
        yield Finding("GPU", "ok", ", ".join(filter(None, parts)))
    if facts.get("cuda"):
        yield Finding("CUDA", "ok", str(facts["cuda"]))
    memory = facts.get("memory_free_mb", {})
    if (free := memory.get("available")) is not None:
        swap, total = memory.get("swap_free", 0), facts.get("memory_mb", 0)
        yield _finding(
            "memory",
            free + swap >= _MIN_FREE_MIB,
            f"{free:,} of {total:,} MiB free, {swap:,} MiB of swap on disk",
            "close programs there (on a Jetson the desktop: sudo systemctl isolate multi-user.target), or add swap",
            f"{_MIN_FREE_MIB:,} MiB free",
        )
    if mode := facts.get("power_mode"):
        others = ", ".join(mode.get("available", []))
        yield Finding(
            "power mode", "ok", mode.get("name", "unknown"), wanted=f"one of {others}" if others else ""
        )
    yield from _readings(facts)
    if (users := facts.get("gpu_users")) is not None and facts.get("gpu"):
        yield _finding(
            "GPU users",
            not users,
            ", ".join(users) or "none",
            "close them: they disturb what is timed",
            "none",
        )


def _readings(facts: Facts) -> Iterator[Finding]:
    for part, clock in (facts.get("clocks") or {}).items():
        now, top = clock.get("mhz"), clock.get("max_mhz")
        if now is None:
            continue
        text = f"{now} MHz" + (f" of {top} MHz" if top else "")
        governor = clock.get("governor")
        yield Finding(f"{part.upper()} clock", "ok", text + (f", governor {governor}" if governor else ""))
    readings = facts.get("readings") or {}
    if temperatures := readings.get("temperatures"):
        name, value = max(temperatures.items(), key=lambda item: item[1])
        yield _finding(
            "temperature",
            value <= _WARM_C,
            f"{value:.0f} °C ({name}, the warmest of {len(temperatures)})",
            "let it cool down, or cool it better: a hot device throttles",
            f"at most {_WARM_C:.0f} °C",
        )
    slow = [name.partition(" ")[2] for name, value in (readings.get("throttling") or {}).items()
            if value and name.startswith("state")]  # fmt: skip
    if slow:
        yield Finding(
            "throttling",
            "absent",
            ", ".join(slow),
            "cool it, or give it a better power supply",
            wanted="none",
        )


def _back_ends(
    facts: Facts, config: DeployConfig, targets: Iterable[str], graph: Graph = unknown_graph
) -> Iterator[Finding]:
    from pipeline.places.access import access_of

    for name in targets:
        target = config.targets[name]
        found = list(lack_findings(config, name, facts, graph))
        if all(finding.state != "fault" for finding in found):
            method = access_of(facts, target.engine)
            program = (facts.get("tensorrt") or {}).get("trtexec")
            detail = method.detail + (
                f"; trtexec at {program}" if target.engine == "tensorrt" and program else ""
            )
            state: State = "ok" if method.run else "absent"
            if method.built:
                yield Finding(f"{target.engine} for {name}", state, detail, _of(name, method.fix))
        yield from found


def lack_findings(
    config: DeployConfig, name: str, facts: Facts | None, graph: Graph = unknown_graph
) -> Iterator[Finding]:
    """What keeps engines of a target from being built; a fault where it would stop a run."""
    target = config.targets[name]
    for lack in lacks(config, name, facts, graph):
        stops = target.required and not lack.partial
        yield Finding(
            f"{target.engine} for {name}", "fault" if stops else "absent", str(lack), _of(name, lack.fix)
        )


def _of(target: str, fix: str) -> str:
    return fix.replace("targets.NAME", f"targets.{target}")


def _finding(
    what: str, good: bool, found: str, fix: str, wanted: str, *, otherwise: State = "absent"
) -> Finding:
    return Finding(what, "ok" if good else otherwise, found, "" if good else fix, wanted)
