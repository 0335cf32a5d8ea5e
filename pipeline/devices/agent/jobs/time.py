"""`time`: how long inference takes on the device, raw; the host computes every statistic.

Engines take turns. Temperatures, clocks and power are read before, between and after the turns, never while
something is timed. Energy has a run of its own, which is not timed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Sequence, Tuple

import numpy as np

from export.runtime import onnx_session
from export.runtime.bundle.decode import decoder_facts
from export.runtime.bundle.preprocess import Preprocessing, from_json
from export.runtime.bundle.timing import BOUNDARY, image_to_class, readable
from export.runtime.cpu import usable_cores
from export.runtime.memory import added_by
from export.runtime.readings import RailSampler, rails, snapshot
from export.runtime.sampling import Limits, Samples, Step, sample
from export.runtime.threads import CHOOSING_S, fastest_threads
from export.runtime.turns import Rounds, in_rounds
from export.runtime.warmup import warm_until_steady

from .. import power_mode
from ..batches import graph_inputs, stored
from ..blobs import blob
from ..engines import Engine, in_process, open_engine
from ..requests import Answer, Case, Emit, EngineSpec, TimeRequest
from ..trtexec_engine import TrtexecEngine

SAMPLES = "samples.f64"
# A sustained run keeps about this many samples of an engine; 8 bytes each, twice.
_KEEP = 500_000
_WINDOW_S = 1.0


@dataclass
class _Work:
    """What is measured, with what, and what was read meanwhile."""

    request: TimeRequest
    folder: str
    images: Any
    """As the graph takes them."""
    emit: Emit
    engines: dict[str, Engine] = field(default_factory=dict)
    readings: list[Answer] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What was asked for and cannot be had here, in words."""

    def look(self, when: str) -> None:
        """Read temperatures, clocks and power."""
        self.readings.append(dict(snapshot(), when=when))

    def says(self, done: int, total: int, note: str) -> None:
        """Report progress."""
        self.emit({"progress": [done, total, note]})

    def batch(self, engine: Engine | None = None) -> Any:
        """A batch that an engine accepts; without one, of the first case's size."""
        sizes = engine.batch_sizes if engine is not None else ()
        return self.sized(sizes[0] if sizes else self.request["cases"][0]["batch"])

    def sized(self, size: int) -> Any:
        """A batch of that size."""
        return np.ascontiguousarray(np.resize(self.images, (size, *self.images.shape[1:])))


def run(request: TimeRequest, folder: str, emit: Emit) -> Answer:
    """Time engines.

    Args:
        request: what is asked.
        folder: work folder.
        emit: receives progress.

    Returns:
        `samples` (name of a file of little-endian doubles) and `index` (case -> part -> [first, count]);
        `cases`: name -> `wall_seconds`, `queries`, `rounds` (samples of each turn), `notes`,
        `resolution_ms`;
        `sustained`: engine -> the same, its samples under `sustained|<engine>`;
        `energy`: engine -> `images`, `seconds`, `idle` and `load` ([seconds, watts by rail] pairs);
        `readings`: snapshots with `when` (`before`, `between`, `after`, `sustained`);
        `load`: who used the CPUs in each round that counts (`export.runtime.load.load_between`), where that is known;
        `repeated_rounds`: how many were taken again because others were at work;
        `further_rounds`: how many were taken of cases whose rounds disagreed;
        `warm_up`: engine -> `seconds`, `mhz` (the GPU's clock after each window), `steady`; those on a GPU only;
        `memory`: engine -> bytes that loading it and one inference add to a process; ONNX Runtime's, if asked for;
        `threads`: engine -> `chosen` (a number of threads) and `medians` (number -> median of each round, ms), where
        the number was chosen here;
        `golden`: name of an .npy file, or None; `facts` by engine; `power_mode`;
        `missing`: what was asked for and cannot be had here, in words.

    Raises:
        JobError: an engine cannot be loaded or fails, or the power mode cannot be had.
    """
    with power_mode.held(request.get("power_mode"), folder) as mode:
        idle = _idle(request["energy_s"]) if request.get("energy_s") and rails() else []
        work = _Work(request, folder, _images(request, folder), emit)
        work.look("before")
        memory = _memory(work) if request.get("memory") else {}
        try:
            threads = _open(work)
            warm = _warm_up(work)
            cases, rounds = _timed(work)
            work.look("after")
            lasting = _sustained(work)
            energy = _energy(work, idle)
            golden = _golden(request, folder)
        finally:
            for engine in work.engines.values():
                engine.close()
    timed = {case["name"]: samples for case, samples in zip(cases, rounds.samples())}
    arrays = {name: samples.arrays for name, samples in timed.items()}
    arrays.update({f"sustained|{name}": samples.arrays for name, samples in lasting.items()})
    return {
        "samples": SAMPLES,
        "index": _write(SAMPLES, arrays),
        "cases": {name: _facts(found) for name, found in timed.items()},
        "sustained": {name: _facts(found) for name, found in lasting.items()},
        "energy": energy,
        "readings": work.readings,
        "load": [each.load for each in rounds.kept if each.load],
        "repeated_rounds": rounds.repeated,
        "further_rounds": rounds.further,
        "warm_up": warm,
        "memory": memory,
        "threads": threads,
        "golden": golden,
        "facts": {name: engine.facts for name, engine in work.engines.items()},
        "power_mode": mode,
        "missing": work.missing,
    }


def _open(work: _Work) -> Answer:
    """Load the engines. Where the config leaves the threads of ONNX Runtime open, one and all cores take turns, and
    the faster is kept; returns for these engines which was, and the medians of both."""
    tried: dict[str, object] = {}
    for done, spec in enumerate(work.request["engines"]):
        name = spec["id"]
        work.says(done, len(work.request["engines"]), f"loading {name}")
        if spec["access"] != "onnxruntime" or spec.get("threads") or usable_cores() < 2:
            work.engines[name] = open_engine(work.folder, spec)
            continue
        work.says(done, len(work.request["engines"]), f"threads of {name}")
        seconds = min(CHOOSING_S, work.request["min_seconds"])
        chosen = fastest_threads(_loader(work.folder, spec), (1, usable_cores()), work.batch(), seconds)
        work.engines[name] = chosen.engine
        medians = {str(count): list(each) for count, each in chosen.medians.items()}
        tried[name] = {"chosen": chosen.threads, "medians": medians}
    return tried


def _memory(work: _Work) -> Answer:
    """What each engine of ONNX Runtime adds to a process that has the library; before any is loaded in this one."""
    specs = [spec for spec in work.request["engines"] if spec["access"] == "onnxruntime"]
    if specs:
        onnx_session.library()
    found: dict[str, object] = {}
    for done, spec in enumerate(specs):
        work.says(done, len(specs), f"memory of {spec['id']}")

        def use(spec: EngineSpec = spec) -> None:
            engine = open_engine(work.folder, spec)
            engine.run(work.batch(engine))

        added = added_by(use)
        if added is not None:
            found[spec["id"]] = added
    return found


def _loader(folder: str, spec: EngineSpec) -> Callable[[int], Engine]:
    def load(threads: int) -> Engine:
        given = spec.copy()
        given["threads"] = threads
        return open_engine(folder, given)

    return load


def _warm_up(work: _Work) -> Answer:
    """Bring the GPU to working clocks with each engine, beside the warm-up of each case."""
    found: dict[str, object] = {}
    for spec in work.request["engines"]:
        if spec["access"] == "onnxruntime":  # on the CPU here
            continue
        work.says(0, 1, f"warming up with {spec['id']}")
        opened = work.engines[spec["id"]]
        batch = work.batch(opened)
        if isinstance(opened, TrtexecEngine):
            warm = opened.warm(batch)
        else:
            engine = in_process(opened)
            warm = warm_until_steady(engine.queries(batch)[0]) if engine is not None else None
        if warm is not None:
            found[spec["id"]] = warm.facts()
    return found


def _timed(work: _Work) -> Tuple[Sequence[Case], Rounds]:
    """The cases that can be timed here, in rounds; those that others disturbed are taken again."""
    request = work.request
    limits = Limits(
        request["warmup_s"], request["min_samples"], request["min_seconds"], request["max_seconds"]
    )
    steps = _steps(work)
    cases = [case for case in request["cases"] if case["boundary"] != BOUNDARY or case["name"] in steps]
    if not cases:
        return [], Rounds([])

    def measure(case: Case, share: Limits) -> Samples:
        if case["boundary"] == BOUNDARY:
            return sample(steps[case["name"]], share, batch=1, boundary=BOUNDARY)
        batch = work.sized(case["batch"])
        return work.engines[case["engine"]].time(batch, share, boundary=case["boundary"])

    def between(done: int, total: int, case: Case, again: str) -> None:
        work.look("between")
        work.says(done, total, case["name"] + again)

    found = in_rounds(
        cases, measure, limits, request["rounds"], between, request["max_load"], request["agree"]
    )
    return cases, found


def _steps(work: _Work) -> Dict[str, Step]:
    """From an image file to a class, by case; empty where this device cannot do it, which is said."""
    request = work.request
    whole = [case for case in request["cases"] if case["boundary"] == BOUNDARY]
    if whole and not _pillow():
        work.missing.append("image_to_class: there is no Pillow on the device (sudo apt install python3-pil)")
        return {}
    engines = {case["name"]: in_process(work.engines[case["engine"]]) for case in whole}
    if any(engine is None for engine in engines.values()):
        work.missing.append("image_to_class: trtexec cannot be given one image after the other")
        return {}
    spec = _preprocessing(request)
    encoded, reason = readable(_encoded(request, work.folder), spec) if whole else ([], "")
    if reason:
        lost = len(request["encoded"]) - len(encoded)
        work.missing.append("image_to_class: %d images cannot be decoded on the device: %s" % (lost, reason))
    return {name: image_to_class(engine, encoded, spec) for name, engine in engines.items() if encoded}


def _sustained(work: _Work) -> dict[str, Samples]:
    seconds = float(work.request.get("sustained_s") or 0)
    found: dict[str, Samples] = {}
    for name, engine in work.engines.items() if seconds else ():

        def between(passed: float, name: str = name) -> None:
            work.look("sustained")
            work.says(int(min(passed, seconds)), int(seconds), f"{name} sustained")

        batch = work.batch(engine)
        found[name] = engine.sustain(batch, seconds, window_s=_WINDOW_S, keep=_KEEP, between=between)
    return found


def _energy(work: _Work, idle: list[Any]) -> Answer:
    found: dict[str, object] = {}
    for name, opened in work.engines.items() if idle else ():
        engine = in_process(opened)
        if engine is None:
            continue  # power would be that of the start of the process too
        work.says(len(found), len(work.engines), f"power of {name}")
        batch = work.batch()
        (once,) = engine.queries(batch)
        count, end = 0, time.monotonic() + 0.5
        while time.monotonic() < end:  # up to working clocks and temperature
            once()
        with RailSampler() as sampler:
            begin = time.monotonic()
            while time.monotonic() - begin < work.request["energy_s"]:
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


def _golden(request: TimeRequest, folder: str) -> str | None:
    """What this device's decoder makes of the encoded images, for the host to compare."""
    if not request.get("encoded") or not _pillow():
        return None
    spec, given = _preprocessing(request), _encoded(request, folder)
    encoded, _ = readable(given, spec)
    if len(encoded) < len(given):
        return None
    np.save("golden.npy", np.stack([spec.view(data) for data in encoded]))
    return "golden.npy"


def _encoded(request: TimeRequest, folder: str) -> list[bytes]:
    return [_content(blob(folder, digest)) for digest in request.get("encoded", ())]


def _preprocessing(request: TimeRequest) -> Preprocessing:
    return from_json(request["preprocessing"], "the request")


def _pillow() -> bool:
    return bool(decoder_facts()["pillow"])


def _images(request: TimeRequest, folder: str) -> Any:
    """The images that are shown, as the graph takes them."""
    return graph_inputs(stored(folder, request["parts"][0], request["image"])[:], request["transform"])


def _facts(timed: Samples) -> Answer:
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
