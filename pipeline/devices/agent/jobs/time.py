"""`time`: how long inference takes on the device, raw; the host computes every statistic.

Engines take turns. Temperatures, clocks and power are read before, between and after the turns, never while
something is timed. Energy has a run of its own, which is not timed.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict
from typing import Any, Callable, Mapping

import numpy as np

from export.runtime import image
from export.runtime.errors import BackendMissing
from export.runtime.readings import RailSampler, rails, snapshot
from export.runtime.sampling import Limits, Samples, sample
from export.runtime.turns import in_turns
from export.runtime.warmup import warm_until_steady

from .. import power_mode
from ..batches import graph_inputs, stored
from ..blobs import blob
from ..engines import open_engine

SAMPLES = "samples.f64"
# A sustained run keeps about this many samples of an engine; 8 bytes each, twice.
_KEEP = 500_000
_WINDOW_S = 1.0
# For each of two numbers of threads, where the faster is chosen; more threads must win by the margin.
_CHOOSING_S, _CHOOSING_ROUNDS, _MARGIN = 0.5, 6, 0.02


def run(request: dict[str, Any], folder: str, emit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Time engines.

    Args:
        request: `engines` (list, see `engines.open_engine`), `cases` (`name`, `engine` (its id), `batch`, `boundary`),
            `parts`, `image`, `transform` (see job `infer`; the images that are shown), `encoded` (digests of JPEG
            files, for `image_to_class`), `store_size`, `image_size`, `warmup_s`, `min_samples`, `min_seconds`,
            `max_seconds`, `rounds`, `sustained_s`, `energy_s`, `power_mode`.
        folder: work folder.
        emit: receives progress.

    Returns:
        `samples` (name of a file of little-endian doubles) and `index` (case -> part -> [first, count]);
        `cases`: name -> `wall_seconds`, `queries`, `rounds` (samples of each turn), `notes`,
        `resolution_ms`;
        `sustained`: engine -> the same, its samples under `sustained|<engine>`;
        `energy`: engine -> `images`, `seconds`, `idle` and `load` ([seconds, watts by rail] pairs);
        `readings`: snapshots with `when` (`before`, `between`, `after`, `sustained`);
        `warm_up`: engine -> `seconds`, `mhz` (the GPU's clock after each window), `steady`; those on a GPU only;
        `golden`: name of an .npy file, or None; `facts` by engine; `power_mode`;
        `missing`: what was asked for and cannot be had here, in words.

    Raises:
        JobError: an engine cannot be loaded or fails, or the power mode cannot be had.
    """
    opened: dict[str, Any] = {}
    readings: list[dict[str, Any]] = []

    def look(when: str) -> None:
        readings.append(dict(snapshot(), when=when))

    with power_mode.held(request.get("power_mode"), folder) as mode:
        idle = _idle(request["energy_s"]) if request.get("energy_s") and rails() else []
        look("before")
        try:
            for spec in request["engines"]:
                emit({"progress": [len(opened), len(request["engines"]), f"loading {spec['id']}"]})
                opened[spec["id"]] = open_engine(folder, spec)
            images = _images(request, folder)
            chosen = _fastest_threads(request, folder, opened, images, emit)
            warm = _warm_up(request, opened, images, emit)
            missing: list[str] = []
            timed = _timed(request, folder, opened, images, emit, look, missing)
            look("after")
            lasting = _sustained(request, opened, images, emit, look)
            energy = _energy(request, opened, images, idle, emit)
            golden = _golden(request, folder)
        finally:
            for engine in opened.values():
                engine.close()
    arrays = {name: found.arrays for name, found in timed.items()}
    arrays.update({f"sustained|{name}": found.arrays for name, found in lasting.items()})
    return {
        "samples": SAMPLES,
        "index": _write(SAMPLES, arrays),
        "cases": {name: _words(found) for name, found in timed.items()},
        "sustained": {name: _words(found) for name, found in lasting.items()},
        "energy": energy,
        "readings": readings,
        "warm_up": warm,
        "golden": golden,
        "facts": {name: dict(engine.facts, **chosen.get(name, {})) for name, engine in opened.items()},
        "power_mode": mode,
        "missing": missing,
    }


def _fastest_threads(
    request: dict[str, Any],
    folder: str,
    opened: dict[str, Any],
    images: Any,
    emit: Callable[[dict[str, Any]], None],
) -> dict[str, dict[str, Any]]:
    """Where the config leaves the threads of ONNX Runtime open: one against all cores, in turns; keeps the faster.

    As `pipeline.places.threads` on this machine's side. Returns what was tried, by engine.
    """
    chosen: dict[str, dict[str, Any]] = {}
    seconds = min(_CHOOSING_S, request["min_seconds"])
    limits = Limits(seconds / 5, _CHOOSING_ROUNDS, seconds, max(2 * seconds, 0.01))
    batch = _batch(images, request["cases"][0]["batch"])

    def measure(engine: Any, share: Limits) -> Samples:
        result: Samples = engine.time(batch, **asdict(share))
        return result

    for spec in request["engines"]:
        every = opened[spec["id"]]
        if spec["road"] != "onnxruntime" or spec.get("threads") or every.threads < 2:
            continue
        emit({"progress": [0, 1, f"threads of {spec['id']}"]})
        engines = [open_engine(folder, dict(spec, threads=1)), every]
        timed = in_turns(engines, measure, limits, _CHOOSING_ROUNDS, lambda *_: None)
        medians = [statistics.median(found.latency) for found in timed]
        best = 1 if medians[0] > medians[1] * (1 + _MARGIN) else 0
        opened[spec["id"]] = engines[best]
        engines[1 - best].close()
        other = [1, every.threads][1 - best]
        times = medians[1 - best] / medians[best]
        ratio = {"ratio": times, "low": times, "high": times, "n": 1}
        chosen[spec["id"]] = {"threads_tried": [{"threads": other, "times": ratio}]}
    return chosen


def _warm_up(
    request: dict[str, Any], opened: dict[str, Any], images: Any, emit: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Bring the GPU to working clocks with each engine, beside the warm-up of each case."""
    found: dict[str, Any] = {}
    for spec in request["engines"]:
        engine = opened[spec["id"]]
        # trtexec warms up by itself, in a process that cannot be looked into; ONNX Runtime works on the CPU here.
        if spec["road"] == "onnxruntime" or getattr(engine, "starts_a_process", False):
            continue
        emit({"progress": [0, 1, f"warming up with {spec['id']}"]})
        batch = _batch(images, engine.batch_sizes[0] if engine.batch_sizes else request["cases"][0]["batch"])
        warm = warm_until_steady(engine.queries(batch)[0])
        if warm is not None:
            found[spec["id"]] = warm.facts()
    return found


def _timed(
    request: dict[str, Any],
    folder: str,
    opened: dict[str, Any],
    images: Any,
    emit: Callable[[dict[str, Any]], None],
    look: Callable[[str], None],
    missing: list[str],
) -> dict[str, Samples]:
    limits = Limits(*(request[key] for key in ("warmup_s", "min_samples", "min_seconds", "max_seconds")))
    turns = [case for case in request["cases"] if case["boundary"] != "image_to_class"]

    def measure(case: dict[str, Any], share: Limits) -> Samples:
        batch = _batch(images, case["batch"])
        result: Samples = opened[case["engine"]].time(batch, boundary=case["boundary"], **asdict(share))
        return result

    def between(done: int, total: int, case: dict[str, Any]) -> None:
        look("between")
        emit({"progress": [done, total, case["name"]]})

    timed = dict(
        zip(
            (case["name"] for case in turns),
            in_turns(turns, measure, limits, request["rounds"], between) if turns else (),
        )
    )
    whole = [case for case in request["cases"] if case["boundary"] == "image_to_class"]
    if whole and not _pillow():
        missing.append("image_to_class: there is no Pillow on the device (sudo apt install python3-pil)")
        return timed
    encoded = [_content(blob(folder, digest)) for digest in request.get("encoded", ())]
    for case in whole:
        engine = opened[case["engine"]]
        if getattr(engine, "starts_a_process", False):
            missing.append("image_to_class: trtexec cannot be given one image after the other")
            break
        step = image.image_to_class(
            engine, encoded, request["store_size"], request["image_size"], **(request["transform"] or {})
        )
        timed[case["name"]] = sample(step, limits, batch=1, boundary="image_to_class")
        look("between")
        emit({"progress": [1, 1, case["name"]]})
    return timed


def _sustained(
    request: dict[str, Any],
    opened: dict[str, Any],
    images: Any,
    emit: Callable[[dict[str, Any]], None],
    look: Callable[[str], None],
) -> dict[str, Samples]:
    seconds = float(request.get("sustained_s") or 0)
    found: dict[str, Samples] = {}
    for name, engine in opened.items() if seconds else ():

        def between(passed: float, name: str = name) -> None:
            look("sustained")
            emit({"progress": [int(min(passed, seconds)), int(seconds), f"{name} sustained"]})

        batch = _batch(images, engine.batch_sizes[0] if engine.batch_sizes else request["cases"][0]["batch"])
        found[name] = engine.sustain(batch, seconds, window_s=_WINDOW_S, keep=_KEEP, between=between)
    return found


def _energy(
    request: dict[str, Any],
    opened: dict[str, Any],
    images: Any,
    idle: list[Any],
    emit: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, engine in opened.items() if idle else ():
        if getattr(engine, "starts_a_process", False):
            continue  # power would be that of the start of the process too
        emit({"progress": [len(found), len(opened), f"power of {name}"]})
        batch = _batch(images, request["cases"][0]["batch"])
        (once,) = engine.queries(batch)
        count, end = 0, time.monotonic() + 0.5
        while time.monotonic() < end:  # up to working clocks and temperature
            once()
        with RailSampler() as sampler:
            begin = time.monotonic()
            while time.monotonic() - begin < request["energy_s"]:
                once()
                count += 1
            seconds = time.monotonic() - begin
        load = [[at - begin, watts] for at, watts in sampler.samples]
        found[name] = {"images": count * len(batch), "seconds": seconds, "idle": idle, "load": load}
    return found


def _idle(seconds: float) -> list[Any]:
    """Power before anything is loaded."""
    begin = time.monotonic()
    with RailSampler() as sampler:
        time.sleep(seconds)
    return [[at - begin, watts] for at, watts in sampler.samples]


def _golden(request: dict[str, Any], folder: str) -> str | None:
    """What this device's decoder makes of the encoded images, for the host to compare."""
    if not request.get("encoded") or not _pillow():
        return None
    encoded = [_content(blob(folder, digest)) for digest in request["encoded"]]
    sizes = request["store_size"], request["image_size"]
    views = [image.evaluation_view(image.decode(data, sizes[0]), *sizes) for data in encoded]
    np.save("golden.npy", np.stack(views))
    return "golden.npy"


def _pillow() -> bool:
    try:
        image.pillow()
    except BackendMissing:
        return False
    return True


def _images(request: dict[str, Any], folder: str) -> Any:
    """The images that are shown, as the graph takes them."""
    return graph_inputs(stored(folder, request["parts"][0], request["image"])[:], request["transform"])


def _batch(images: Any, size: int) -> Any:
    return np.ascontiguousarray(np.resize(images, (size, *images.shape[1:])))


def _words(timed: Samples) -> dict[str, Any]:
    return {
        "wall_seconds": timed.wall_seconds,
        "queries": timed.queries,
        "rounds": list(timed.rounds),
        "notes": list(timed.notes),
        "resolution_ms": timed.resolution_ms,
    }


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, cases: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Write arrays of doubles one after the other, little endian, so that the host can compute every statistic again.

    Returns:
        case -> part -> [first value, how many], counted in values.
    """
    index: dict[str, dict[str, list[int]]] = {}
    at = 0
    with open(path, "wb") as file:
        for case, parts in cases.items():
            index[case] = {}
            for part, values in parts.items():
                file.write(np.asarray(values, "<f8").tobytes())
                index[case][part] = [at, len(values)]
                at += len(values)
    return index
