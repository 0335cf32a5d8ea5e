"""What a device's raw readings mean: throttling, energy, sustained speed, golden images. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.results.clocks import summarise

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TOTAL_RAILS = ("VDD_IN", "VIN", "POM_5V_IN", "SYS_VIN")
"""Rails that carry the whole board (Orin NX and Nano, Thor; TX2 and Nano)."""
# AGX Orin's memory rail is fed by its 5 V rail: not to be counted twice.
_NOT_SUMMED = re.compile(r"VDDQ_")
_SERIES = 60


def summary(result: Mapping[str, Any], arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Facts of a target's machine from the answer of the job `time`.

    Args:
        result: the answer.
        arrays: raw samples by case and part.

    Returns:
        `before`, `after` (readings), `temperatures_c` (zone -> [before, highest, after]), `throttled` (what slowed the
        device down, in words), `energy` and `sustained` by engine (see `energy_per_image`, `sustained`),
        `clocks` (see `pipeline.results.clocks.Clocks`, or None).
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
        "energy": {name: energy_per_image(run) for name, run in result["energy"].items()},
        "sustained": {
            name: sustained(arrays[f"sustained|{name}"], words) for name, words in result["sustained"].items()
        },
    }


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


def energy_per_image(run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Energy of one image: the trapezoid over the run, without what the idle board takes in that time.

    Args:
        run: `images`, `seconds`, and `idle` and `load` as [seconds, watts by rail] pairs.

    Returns:
        `mj_per_image` (above idle), `mj_per_image_total`, `idle_w`, `load_w`, `n` (readings), `rails` (those that were
        added up) and `total_rail` (whether one rail carries the board; else the sum is an approximation).
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
    return {
        "mj_per_image": 1e3 * (load.joules - idle.watts * load.seconds) / images,
        "mj_per_image_total": 1e3 * load.joules / images,
        "idle_w": idle.watts,
        "load_w": load.watts,
        "n": load.readings,
        "rails": total or [name for name in names if not _NOT_SUMMED.match(name)],
        "total_rail": bool(total),
    }


def sustained(arrays: Mapping[str, npt.NDArray[np.float64]], words: Mapping[str, Any]) -> dict[str, Any]:
    """Minutes of one engine: whether it keeps its speed.

    Args:
        arrays: `latency` (ms) and `at` (s since the start).
        words: `wall_seconds`, `queries`, `notes` of the run, and `resolution_ms` of its clock.

    Returns:
        `seconds`, `queries`, `n` (samples kept), `median`, `p99`, `max` (ms), `first_median` and `last_median` of the
        first and last tenth, `slowdown_percent` between them, `series`: up to 60 pairs of seconds and median;
        `resolution_ms` (0 where it does not count), and the run's `notes`.
    """
    import numpy as np

    from export.measure import latency_stats

    latency, at = arrays["latency"], arrays["at"]
    stats = latency_stats(latency, batch=1, wall_seconds=words["wall_seconds"])
    tenth = max(1, len(latency) // 10)
    first, last = float(np.median(latency[:tenth])), float(np.median(latency[-tenth:]))
    cuts = [cut for cut in np.array_split(np.arange(len(latency)), min(_SERIES, len(latency))) if len(cut)]
    return {
        "seconds": float(words["wall_seconds"]),
        "queries": int(words["queries"]),
        "n": stats["n"],
        "median": stats["median"],
        "p99": stats["p99"],
        "max": stats["max"],
        "first_median": first,
        "last_median": last,
        "slowdown_percent": 100 * (last / first - 1) if first > 0 else 0.0,
        "series": [[float(at[cut[-1]]), float(np.median(latency[cut]))] for cut in cuts],
        "resolution_ms": float(words.get("resolution_ms", 0.0)),
        "notes": [*words["notes"]],
    }


def golden(
    found: npt.NDArray[np.uint8], encoded: Sequence[bytes], store_size: int, image_size: int
) -> dict[str, Any]:
    """How far the device's own decoding and resizing is from this machine's.

    Args:
        found: uint8 [N, H, W, 3], what the device made of the images.
        encoded: the same images' files.
        store_size: see `export.runtime.image.evaluation_view`.
        image_size: likewise.

    Returns:
        `n`, `max_abs` (grey levels), `differing_percent` (of the pixels' channels).
    """
    import numpy as np

    from export.runtime.image import decode, evaluation_view

    ours = np.stack([evaluation_view(decode(data, store_size), store_size, image_size) for data in encoded])
    apart = np.abs(ours.astype(np.int16) - found.astype(np.int16))
    return {
        "n": len(ours),
        "max_abs": int(apart.max()),
        "differing_percent": float(100 * (apart > 0).mean()),
    }
