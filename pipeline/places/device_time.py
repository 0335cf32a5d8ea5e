"""Engines timed on a device: raw samples come back, every statistic is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from export.machine import Facts as MachineFacts
from pipeline.core.address import Device
from pipeline.core.files import read_json
from pipeline.devices import results
from pipeline.devices.agent import requests
from pipeline.devices.agent.requests import LoadOptions, TimeRequest
from pipeline.devices.facts import Facts
from pipeline.devices.faults import JobFailed, unfit
from pipeline.devices.messages import Unfit
from pipeline.devices.results import TIME, TimedCase
from pipeline.devices.session import Session
from pipeline.places.device_jobs import (
    device_session,
    engine_specs,
    fetch_array,
    image_groups,
    put_bytes,
    run_job,
    transform,
)
from pipeline.places.latency import Case, Plan, others_at_work, statistics
from pipeline.places.pictures import Pictures
from pipeline.places.place import FACTS_FILE, Context, RunFacts, Timed, TimeTask
from pipeline.places.threads import tried
from pipeline.results.doubts import MAX_OTHER_CORES
from pipeline.results.latency import BenchmarkRow
from pipeline.results.rows.engines import EngineRow

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.engines.protocol import Samples

# What the file of raw samples may have, in bytes.
_MOST_SAMPLES = 1 << 30


def time(device: Device, task: TimeTask, context: Context) -> Timed:
    """See `Place.time`.

    Raises:
        DeviceFault: the device is lost.
    """
    from export.measure import MAX_ROUNDS_PERCENT
    from pipeline.places import telemetry

    if not task.rows:  # the device is not bothered
        facts = read_json(task.built / FACTS_FILE)
        return Timed([], {}, {}, {"device": device.name, "facts": _lasting(facts), "energy": {}})
    plan = task.plan
    cropped = task.images.cropped()
    pictures = task.pictures
    encoded = pictures.encoded if "image_to_class" in plan.boundaries else []
    with device_session(device, context) as (session, facts):
        group = next(image_groups(context, session, cropped, together=True))
        specs = engine_specs(session, context, facts, task.built, task.rows, _load_options(task))
        request: TimeRequest = {
            "engines": list(specs.values()),
            "cases": cases(task.rows, plan),
            "parts": group,
            "image": list(cropped.shape[1:]),
            "transform": transform(task.images),
            "encoded": [put_bytes(session, context.scratch, data) for data in encoded],
            "preprocessing": pictures.preprocessing.to_json(),
            "warmup_s": plan.warmup_s,
            "min_samples": plan.min_samples,
            "min_seconds": plan.min_seconds,
            "max_seconds": plan.max_seconds,
            "rounds": plan.rounds,
            "max_load": MAX_OTHER_CORES,
            "agree": MAX_ROUNDS_PERCENT / 100,
            "sustained_s": task.sustained_s,
            "energy_s": task.energy_s,
            "memory": task.memory,
        }
        modes: list[str | None] = [*task.power_modes] or [None]
        timed, lacking = in_each_mode(context, session, request, modes, pictures, task.target)
        skew = session.skew_s
    first, *others = timed
    machine = {
        "device": session.device.name,
        "facts": _lasting(facts),
        "clock_skew_s": round(skew, 3),
        "power_mode": first.result["power_mode"],
        "missing": [*first.result["missing"], *_not_on_devices(plan), *lacking],
        "golden": None if first.golden is None else asdict(telemetry.golden(first.golden, pictures)),
        **first.summary,
        "modes": {each.mode: each.summary for each in others},
    }
    samples = {name: parts for each in timed for name, parts in each.samples.items()}
    rows = [row for each in timed for row in each.rows]
    memory = first.result.get("memory", {})
    return Timed(rows, samples, _runtime(first.result), machine, memory=memory)


@dataclass(frozen=True)
class InMode:
    """A target's engines timed in one power mode.

    Attributes:
        mode: its name where there are several, else ''.
        result: what the job returned.
        rows: statistics.
        samples: raw samples in ms, by case and part.
        summary: what the readings mean (`telemetry.summary`).
        golden: uint8 [N, H, W, 3], what the device made of the encoded images.
    """

    mode: str
    result: results.TimesOf
    rows: list[BenchmarkRow]
    samples: dict[str, dict[str, npt.NDArray[np.float64]]]
    summary: MachineFacts
    golden: npt.NDArray[Any] | None


def in_each_mode(
    context: Context,
    session: Session,
    request: TimeRequest,
    modes: Sequence[str | None],
    pictures: Pictures,
    target: str,
) -> tuple[list[InMode], list[str]]:
    """Measure in each mode; what lacks, in words. The first mode must be had; each job puts back the one before."""
    timed: list[InMode] = []
    lacking: list[str] = []
    for mode in modes:
        asked: TimeRequest = {**request, "power_mode": mode}
        try:
            timed.append(_in_mode(context, session, asked, pictures, target, mode if len(modes) > 1 else ""))
        except JobFailed as error:
            if not timed or error.kind != "request":
                raise
            lacking.append(f"in {mode}: {error.what}; {error.fix}")
            context.note(lacking[-1])
    return timed, lacking


def _in_mode(
    context: Context,
    session: Session,
    request: TimeRequest,
    pictures: Pictures,
    target: str,
    mode: str | None,
) -> InMode:
    from pipeline.places import telemetry

    done = run_job(context, session, TIME, request, target + (f" in {mode}" if mode else ""))
    result = done.result
    file = session.fetch(done.job, results.SAMPLES, context.scratch / results.SAMPLES, _MOST_SAMPLES)
    raw = file.read_bytes()
    shape = (len(request["encoded"]), *request["image"])
    golden = (
        fetch_array(session, done.job, results.GOLDEN, context.scratch, shape, "uint8")
        if result["golden"]
        else None
    )
    session.release(done.job)
    engines = [spec["id"] for spec in request["engines"]]
    try:
        arrays = results.timed_arrays(raw, result, [case["name"] for case in request["cases"]], engines)
    except Unfit as error:
        raise unfit(session.device, "what it timed", error) from None
    decoded = pictures.facts() if request["encoded"] else None
    summary = telemetry.summary(result, arrays)
    others = others_at_work(summary["during"])
    rows = []
    for case in request["cases"]:
        if case["name"] in result["cases"]:
            found = samples_of(case, arrays[case["name"]], result["cases"][case["name"]])
            name = Case(case["engine"], case["batch"], case["boundary"], power_mode=mode or "")
            rows.append(statistics(name, found, others, decoded))
    renamed = {f"{name}|{mode}" if mode else name: parts for name, parts in arrays.items()}
    return InMode(mode or "", result, rows, renamed, summary, golden)


def _load_options(task: TimeTask) -> LoadOptions:
    return {
        "threads": task.threads,
        "spinning": task.spinning,
        "denormals_as_zero": task.denormals_as_zero,
    }


def _runtime(result: results.TimesOf) -> dict[str, RunFacts]:
    """How each engine ran; with the numbers of threads that were tried, where the device chose one."""
    found = {name: cast("RunFacts", facts) for name, facts in result["facts"].items()}
    for name, threads in result.get("threads", {}).items():
        medians = {int(count): values for count, values in threads["medians"].items()}
        if others := tried(threads["chosen"], medians):
            found[name] = {**found.get(name, {}), "threads_tried": others}
    return found


def _lasting(facts: Facts) -> MachineFacts:
    return {key: value for key, value in facts.items() if key not in ("readings", "clock")}


def cases(rows: Sequence[EngineRow], plan: Plan) -> list[requests.Case]:
    """What is timed of each engine; an image alone only where the engine takes one."""
    found: list[requests.Case] = []
    for boundary in plan.boundaries:
        for batch in [1] if boundary == "image_to_class" else plan.batch_sizes:
            for row in rows:
                if boundary == "image_to_class" and 1 not in row.engine.batch_sizes:
                    continue
                name = f"{row.id}|{batch}|{boundary}"
                found.append({"name": name, "engine": row.id, "batch": batch, "boundary": boundary})
    return found


def _not_on_devices(plan: Plan) -> list[str]:
    found = ["several streams: measured on this machine only"] if set(plan.streams) > {1} else []
    return found + (["a fixed rate: measured on this machine only"] if plan.rate_fps else [])


def samples_of(
    case: requests.Case, arrays: Mapping[str, npt.NDArray[np.float64]], timed: TimedCase
) -> Samples:
    """The samples of a case as statistics are made of them."""
    from export.engines.protocol import Samples

    parts = {name: values for name, values in arrays.items() if name != "at"}
    notes, rounds = tuple(timed["notes"]), tuple(timed["rounds"])
    step = timed.get("resolution_ms", 0.0)
    return Samples(parts, case["batch"], case["boundary"], timed["wall_seconds"], notes, rounds, step)
