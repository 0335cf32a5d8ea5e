"""What a device's raw readings mean: throttling, energy, sustained speed, golden images. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from export.machine import Facts
from export.runtime.load import load_together
from pipeline.devices.results import Energy, TimedCase, TimesOf
from pipeline.results.clocks import summarise

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pipeline.places.pictures import Pictures

TOTAL_RAILS = ("VDD_IN", "VIN", "POM_5V_IN", "SYS_VIN")
"""Rails that carry the whole board (Orin NX and Nano, Thor; TX2 and Nano)."""
# AGX Orin's memory rail is fed by its 5 V rail: not to be counted twice.
_NOT_SUMMED = re.compile(r"VDDQ_")
_SERIES = 60


def summary(result: TimesOf, arrays: Mapping[str, Mapping[str, npt.NDArray[np.float64]]]) -> Facts:
    """Facts of a target's machine from the answer of the job `time`.

    Args:
        result: the answer.
        arrays: raw samples by case and part.

    Returns:
        `before`, `after` (readings), `temperatures_c` (zone -> [before, highest, after]), `throttled` (what slowed the
        device down, in words), `energy` and `sustained` by engine (see `energy_per_image`, `sustained`),
        `clocks` (see `pipeline.results.clocks.Clocks`, or None); `during` (see `load`).
    """
    readings: list[Mapping[str, Any]] = list(result["readings"])
    clocks = summarise(readings, result.get("warm_up", {}))
    ends = {when: next((r for r in readings if r["when"] == when), {}) for when in ("before", "after")}
    plain = {
        when: {key: value for key, value in reading.items() if key not in ("at", "when")}
        for when, reading in ends.items()
    }
    return {
        **plain,
        "temperatures_c": temperatures(readings),
        "throttled": throttled(readings),
        "clocks": clocks.model_dump() if clocks else None,
        "during": load(result),
        "energy": {name: _plain(energy_per_image(run)) for name, run in result["energy"].items()},
        "sustained": {
            name: asdict(sustained(arrays[f"sustained|{name}"], timed))
            for name, timed in result["sustained"].items()
        },
    }


def load(result: TimesOf) -> Facts:
    """Who else was at work on the device while engines took turns: `load_together` of the rounds that count, how many
    `rounds` these are, and how many were repeated or taken further; empty where it does not tell."""
    rounds = result.get("load", [])
    found = load_together(cast("Sequence[Mapping[str, float]]", rounds))
    counts = {"rounds": len(rounds)} | {
        key: result.get(key, 0) for key in ("repeated_rounds", "further_rounds")
    }
    return found | counts if found else {}


def temperatures(readings: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Zone -> [first, highest, last] in degrees Celsius."""
    found: dict[str, list[float]] = {}
    for reading in readings:
        for zone, value in reading.get("temperatures", {}).items():
            found.setdefault(zone, []).append(float(value))
    return {zone: [values[0], max(values), values[-1]] for zone, values in found.items()}


def throttled(readings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What slowed the device down between the first reading and the last: counters that grew, states that were on."""
    series: dict[str, list[float]] = {}
    for reading in readings:
        for name, value in reading.get("throttling", {}).items():
            series.setdefault(name, []).append(float(value))
    found = []
    for name, values in series.items():
        kind, _, what = name.partition(" ")
        if kind == "count" and max(values) > values[0]:
            found.append(f"{what}: {max(values) - values[0]:.0f} times")
        elif kind == "state" and any(values):
            found.append(f"{what}: in {sum(value > 0 for value in values)} of {len(values)} readings")
    return found


def board_power(watts: Mapping[str, float]) -> float | None:
    """Watts of the board from its rails: the rail that carries all, else the sum of those that do not overlap."""
    for name in TOTAL_RAILS:
        if name in watts:
            return watts[name]
    summed = [value for name, value in watts.items() if not _NOT_SUMMED.match(name)]
    return sum(summed) if summed else None


@dataclass(frozen=True)
class BoardEnergy:
    """Energy of one engine on a board.

    Attributes:
        mj_per_image: above what the idle board takes in that time, mJ.
        mj_per_image_total: with that, mJ.
        idle_w: of the idle board, W.
        load_w: while the engine ran, W.
        n: readings.
        rails: those that were added up.
        total_rail: one rail carries the board; else the sum is an approximation.
    """

    mj_per_image: float
    mj_per_image_total: float
    idle_w: float
    load_w: float
    n: int
    rails: list[str]
    total_rail: bool


def _plain(energy: BoardEnergy | None) -> Facts | None:
    return None if energy is None else asdict(energy)


def energy_per_image(run: Energy) -> BoardEnergy | None:
    """Energy of one image: the trapezoid over the run, without what the idle board takes in that time.

    Args:
        run: what the job `time` says of it; `idle` and `load` are pairs of seconds and watts by rail.

    Returns:
        None if power was read fewer than three times.
    """
    from export.power import Unavailable, trapezoid

    def series(pairs: Sequence[Sequence[Any]]) -> list[tuple[float, float]]:
        power = [(float(at), board_power(watts)) for at, watts in pairs]
        return [(at, value) for at, value in power if value is not None]

    try:
        idle, load = trapezoid(series(run["idle"])), trapezoid(series(run["load"]))
    except Unavailable:
        return None
    images = run["images"] * load.seconds / run["seconds"]
    names = list(run["load"][0][1])
    total = [name for name in TOTAL_RAILS if name in names][:1]
    return BoardEnergy(
        mj_per_image=1e3 * (load.joules - idle.watts * load.seconds) / images,
        mj_per_image_total=1e3 * load.joules / images,
        idle_w=idle.watts,
        load_w=load.watts,
        n=load.readings,
        rails=total or [name for name in names if not _NOT_SUMMED.match(name)],
        total_rail=bool(total),
    )


@dataclass(frozen=True)
class Sustained:
    """Minutes of one engine: whether it keeps its speed; times in ms unless they say s.

    Attributes:
        seconds: length of the run, s.
        queries: that were run.
        n: samples kept.
        median: of them.
        p99: of them; None below 1,000.
        max: of them.
        first_median: of the first tenth.
        last_median: of the last tenth.
        slowdown_percent: between these two.
        series: up to 60 pairs of seconds and median.
        resolution_ms: the steps of the clock; 0 where they do not count.
        notes: of the run.
    """

    seconds: float
    queries: int
    n: int
    median: float
    p99: float | None
    max: float
    first_median: float
    last_median: float
    slowdown_percent: float
    series: list[list[float]]
    resolution_ms: float
    notes: list[str]


def sustained(arrays: Mapping[str, npt.NDArray[np.float64]], timed: TimedCase) -> Sustained:
    """Whether an engine keeps its speed.

    Args:
        arrays: `latency` (ms) and `at` (s since the start).
        timed: the run.
    """
    import numpy as np

    from export.measure import latency_stats

    latency, at = arrays["latency"], arrays["at"]
    stats = latency_stats(latency, batch=1, wall_seconds=timed["wall_seconds"])
    tenth = max(1, len(latency) // 10)
    first, last = float(np.median(latency[:tenth])), float(np.median(latency[-tenth:]))
    cuts = [cut for cut in np.array_split(np.arange(len(latency)), min(_SERIES, len(latency))) if len(cut)]
    return Sustained(
        seconds=float(timed["wall_seconds"]),
        queries=int(timed["queries"]),
        n=stats.n,
        median=stats.median,
        p99=stats.p99,
        max=stats.max,
        first_median=first,
        last_median=last,
        slowdown_percent=100 * (last / first - 1) if first > 0 else 0.0,
        series=[[float(at[cut[-1]]), float(np.median(latency[cut]))] for cut in cuts],
        resolution_ms=float(timed.get("resolution_ms", 0.0)),
        notes=[*timed["notes"]],
    )


@dataclass(frozen=True)
class Golden:
    """How far a device's decoding is from this machine's.

    Attributes:
        n: images.
        max_abs: the largest difference, grey levels.
        differing_percent: of the pixels' channels.
    """

    n: int
    max_abs: int
    differing_percent: float


def golden(found: npt.NDArray[np.uint8], pictures: Pictures) -> Golden:
    """How far the device's own decoding and resizing is from this machine's.

    Args:
        found: uint8 [N, H, W, 3], what the device made of the images.
        pictures: the same images' files.
    """
    import numpy as np

    ours = np.stack([pictures.preprocessing.view(data) for data in pictures.encoded])
    apart = np.abs(ours.astype(np.int16) - found.astype(np.int16))
    return Golden(len(ours), int(apart.max()), float(100 * (apart > 0).mean()))
