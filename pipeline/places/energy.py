"""Energy of one image on this machine: idle first, then each engine at work, in runs that are not timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from export.engine_kinds import ENGINE_KINDS
from export.power import Counter, Sampled, Unavailable, nvml, rapl
from export.runtime.readings import TOTALS, rails
from pipeline.places.telemetry import board_power
from pipeline.results.engine import Energy

if TYPE_CHECKING:
    from export.engines.protocol import Engine, Query

Meter = Counter | Sampled
SETTLE_S = 1.0
"""Rest before idle power is read, and work before an engine's is."""


def meter_for(gpu: bool, root: str = "/") -> Meter:
    """What tells the energy of an engine: a board's power sensors, else the GPU or the CPU itself.

    Raises:
        Unavailable: nothing does; with the reason.
    """
    watts = rails(root)
    if board_power(watts) is not None:
        total = [name for name in TOTALS if name in watts][:1]
        names = total or sorted(watts)
        covers = "the board" if total else "the board (a sum of rails: approximate)"
        return Sampled(f"INA sensor {' + '.join(names)}", covers, lambda: board_power(rails(root)) or 0.0)
    return nvml() if gpu else rapl(root)


def measure_energy(
    engines: Mapping[str, Engine],
    queries: Mapping[str, Query],
    *,
    batch: int,
    seconds: float,
    progress: Callable[[int, int, str], None],
    find: Callable[[bool], Meter] = meter_for,
) -> tuple[dict[str, Energy], str]:
    """Energy of one image of each engine.

    Args:
        engines: by id.
        queries: one of each, of `batch` images.
        batch: images a query.
        seconds: length of each run.
        progress: called as progress(done, total, note).
        find: gives the meter for an engine on a GPU (True) or a CPU.

    Returns:
        By id, and why an engine has none; empty if all do.
    """
    found: dict[str, Energy] = {}
    idle: dict[str, float] = {}
    reasons: list[str] = []
    for done, (name, engine) in enumerate(engines.items()):
        try:
            meter = find(_on_gpu(engine))
            progress(done, len(engines), f"energy of {name}")
            if meter.source not in idle:
                time.sleep(SETTLE_S)
                idle[meter.source] = meter.measure(lambda: time.sleep(seconds)).watts
            found[name] = _one(meter, queries[name], batch, seconds, idle[meter.source])
        except Unavailable as error:
            reasons.append(str(error))
    return found, "; ".join(dict.fromkeys(reasons))


def _one(meter: Meter, query: Query, batch: int, seconds: float, idle_w: float) -> Energy:
    def run_for(span: float) -> int:
        count, end = 0, time.perf_counter() + span
        while time.perf_counter() < end:
            query()
            count += 1
        return count

    run_for(SETTLE_S)
    counted: list[int] = []
    energy = meter.measure(lambda: counted.append(run_for(seconds)))
    images = counted[0] * batch
    return Energy(
        source=meter.source,
        covers=meter.covers,
        mj_per_image=1e3 * (energy.joules - idle_w * energy.seconds) / images,
        mj_per_image_total=1e3 * energy.joules / images,
        idle_w=idle_w,
        load_w=energy.watts,
        images=images,
        seconds=energy.seconds,
        n=energy.readings,
    )


def _on_gpu(engine: Engine) -> bool:
    return ENGINE_KINDS[engine.backend].gpu or "CUDAExecutionProvider" in engine.facts.get("providers", ())
