"""The stages' work on a device: the same artifacts as on this machine, made there; every statistic computed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from export.runtime.remedies import Skipped, skipped_tactics
from pipeline.core.errors import DeviceFault, StageFailed
from pipeline.core.files import read_json, write_json
from pipeline.devices import results
from pipeline.devices.facts import Facts
from pipeline.devices.faults import JobFailed, unfit
from pipeline.devices.messages import Unfit
from pipeline.devices.results import BUILD, INFER, TIME, TimedCase
from pipeline.devices.session import Session
from pipeline.devices.store import fits, transform_of
from pipeline.places import access
from pipeline.places.device_jobs import (
    amount_of,
    device_session,
    engine_specs,
    fetch_array,
    image_groups,
    put_bytes,
    run_job,
)
from pipeline.stages.base import Work
from pipeline.stages.engines import accuracy_of_file, engine_file, onnx_path, read_logits, tensorrt_options

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.engines.protocol import Samples
    from export.predictions import Predictions
    from pipeline.places.latency import Plan

R = TypeVar("R")

# Failures of a job that are this engine's own: the other engines of the target go on.
_OWN_KINDS = frozenset({"failed", "memory", "killed", "request", "missing"})
# What a file of a job may have, in bytes: a builder's log, its list of layers; raw samples; an engine beside its ONNX
# file.
_MOST_LAYERS = 16 << 20
_MOST_LOG, _MOST_SAMPLES, _ENGINE_BASE, _ENGINE_TIMES = 64 << 20, 1 << 30, 256 << 20, 4
MOST_STARTS = 500
"""Batches that are scored through trtexec, which takes a second or two to start for each."""
FACTS_FILE = "device.json"
"""What the device said of itself, in the artifact of `build`."""


def build(work: Work, rows: list[dict[str, Any]]) -> None:
    """Build a target's engines on its device; writes `engines.json`, `timing.json`, `device.json` and the engines.

    Args:
        work: of the stage `build`.
        rows: of `engines.json`, as far as they are known beforehand.

    Raises:
        DeviceFault: the device is lost, or lacks the back end, and the config demands it.
    """
    from export.errors import ExportError

    arguments = work.arguments
    with device_session(work) as (session, facts):
        road = access.road_of(facts, arguments["engine"])
        if not road.built and arguments["required"]:
            where = f"targets.{arguments['target']}.engine on {session.device.name}"
            raise DeviceFault(road.detail, where=where, fix=road.fix)
        finished: list[dict[str, Any]] = []
        seconds: dict[str, float] = {}
        for done, row in enumerate(rows):
            work.progress(done, len(rows), row["id"])
            known = {"device": f"{session.device.name}: {access.describe(facts)}", "runs": False}
            if "state" in row:
                finished.append(row | known)
                continue
            if not road.built:
                finished.append(row | known | {"state": "missing", "detail": road.detail, "fix": road.fix})
                continue
            try:
                made = _build_one(work, session, facts, row)
            except (JobFailed, ExportError) as error:
                if isinstance(error, JobFailed) and error.kind not in _OWN_KINDS:
                    raise
                finished.append(row | known | {"state": "failed", "detail": error.what, "fix": error.fix})
                continue
            seconds[row["id"]] = made.pop("seconds")
            remark = made.pop("remark")
            detail = remark if road.run else f"built, not run: {road.detail}"
            fix = "" if road.run else road.fix
            finished.append(
                row | known | made | {"state": "built", "runs": road.run, "detail": detail, "fix": fix}
            )
    write_json(work.out / "engines.json", finished)
    write_json(work.out / "timing.json", seconds)
    write_json(work.out / FACTS_FILE, facts)
    write_json(work.out / "notes.json", {})


# Keys of the target that the job `build` takes by the same names.
_BUILD_KEYS = (
    "workspace_mb",
    "tactic_dram_mb",
    "optimization_level",
    "strong_typing",
    "threads",
    "power_mode",
)


def _build_one(work: Work, session: Session, facts: Facts, row: Mapping[str, Any]) -> dict[str, Any]:
    from export import graph
    from export.engines import trt_build, trt_fit, trt_refusals
    from export.engines.trt_layers import layers_path

    arguments = work.arguments
    backend = arguments["engine"]
    onnx, file = onnx_path(work.inputs, row["onnx"]), work.out / engine_file(row)
    sizes = sorted(arguments["batch_sizes"])
    prepared = work.scratch / row["onnx"]
    described = _prepare(onnx, sizes, prepared)
    model = graph.load_model(prepared)
    road = access.road_of(facts, backend)
    fitted = trt_fit.Fitted(model)
    typed = {}
    if backend != "onnxruntime":
        place = access.place_of(facts, backend)
        trt_refusals.require(place, tensorrt_options(arguments), trt_build.onnx_file(model, onnx.name))
        fitted = trt_fit.fit(f"{backend} {place.version}", place.dialect, model)
        if fitted.model is not model:
            graph.save_model(fitted.model, prepared)
        typed = {"strong_typing": place.dialect.strong_typing and arguments.get("strong_typing", True)}
    options = {key: arguments[key] for key in _BUILD_KEYS if arguments.get(key) is not None}
    if row["compute_capability"]:
        options["compute_capabilities"] = [row["compute_capability"]]
    request = access.build_request(
        facts,
        backend,
        name=row["id"],
        engine_file=file.name,
        onnx=session.put(prepared, amount_of(work, f"sending {row['onnx']}")),
        source=described["inputs"][0],
        precision=row["precision"],
        batch_sizes=sizes,
        options=options,
        weak_flags=fitted.flags,
        fp32_layers=fitted.fp32_layers,
    )
    done = run_job(work, session, BUILD, request, row["id"])
    layers = _layers(session, done.job, row["id"], work) if done.result.get("layer_list") else None
    if backend == "onnxruntime":  # its engine is the ONNX file
        file.write_bytes(prepared.read_bytes())
    else:
        most = _ENGINE_BASE + _ENGINE_TIMES * prepared.stat().st_size
        session.fetch(done.job, request["name"], file, most)
    skipped = _append_log(session, done.job, row["id"], work) if done.result.get("log") else None
    session.release(done.job)
    prepared.unlink()
    # What goes in and out is what the ONNX file says, whatever the device makes of it.
    made = described | {
        "seconds": done.result["seconds"],
        "layers": done.result.get("layers") or len(model.graph.node),
        "composition": {"network": None, "engine": layers and layers["summary"]},
    }
    if layers:
        write_json(layers_path(file), {"network": None, "engine": layers})
    _write_sidecar(file, facts, row, sizes, made, onnx, options | typed)
    return made | {
        "remark": fitted.note,
        "file": file.name,
        "bytes": file.stat().st_size,
        "batch_sizes": sizes,
        "road": road.name,
        **({"skipped_tactics": asdict(skipped)} if skipped else {}),
    }


def _append_log(session: Session, job: str, engine: str, work: Work) -> Skipped | None:
    """Keep the log of a build; returns which kernels it says were skipped."""
    fetched = session.fetch(job, results.BUILD_LOG, work.scratch / results.BUILD_LOG, _MOST_LOG)
    text = fetched.read_text(encoding="utf-8", errors="replace")
    with (work.out / results.BUILD_LOG).open("a", encoding="utf-8") as log:
        log.write(f"== {engine}\n{text}")
    return skipped_tactics(text.splitlines())


def _write_sidecar(
    file: Path,
    facts: Facts,
    row: Mapping[str, Any],
    sizes: list[int],
    made: Mapping[str, Any],
    onnx: Path,
    options: Mapping[str, Any],
) -> None:
    from export.contract import contract_of
    from export.engines.protocol import EngineInfo
    from export.engines.sidecar import write_sidecar
    from export.files import sha256
    from export.model_file import load_model

    told = contract_of(load_model(onnx))
    bound = row["backend"] != "onnxruntime"  # to the GPU and the system that it was built on
    capability = row["compute_capability"] or facts.get("compute_capability", "")
    info = EngineInfo(
        file=str(file),
        bytes=file.stat().st_size,
        build_seconds=made["seconds"],
        backend=row["backend"],
        versions=access.road_of(facts, row["backend"]).versions,
        compute_capability=(capability,) if bound else (),
        batch_sizes=tuple(sizes) if bound or len(sizes) == 1 else (),
        inputs=tuple(made["inputs"]),
        outputs=tuple(made["outputs"]),
        layers=made["layers"],
        sha256=sha256(file),
        device=str(facts.get("gpu", "")) if row["backend"] == "tensorrt" else "",
        platform=str(facts.get("machine", "")) if bound else "",
        l4t=str(facts.get("l4t", "")) if bound else "",
        source={"file": row["onnx"], "sha256": sha256(onnx)},
        options={key: value for key, value in options.items() if key != "threads"},
        composition=made["composition"],
        classes=told.classes,
        image=dict(told.image or {}),
    )
    write_sidecar(info, file)


def _layers(session: Session, job: str, engine: str, work: Work) -> dict[str, Any] | None:
    """The layers of a built engine as `trt_built.document`; None, with a note, where the list cannot be read."""
    from export.engines.trt_built import document, read_layers

    path = session.fetch(job, results.LAYERS, work.scratch / results.LAYERS, _MOST_LAYERS)
    try:
        return document(read_layers(path.read_text(encoding="utf-8", errors="replace")))
    except ValueError as error:
        work.note(f"{engine}: the list of its layers cannot be read: {error}")
        return None
    finally:
        path.unlink()


def validate(
    work: Work, rows: list[dict[str, Any]], fallback: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Predictions]]:
    """Score a target's engines on the whole test set, on its device.

    Args:
        work: of the stage `validate`.
        rows: of `engines.json`.
        fallback: accuracy of each ONNX file in ONNX Runtime, for engines that do not run.

    Returns:
        Accuracy by engine id, as `accuracy.json` has it, and what each engine that ran answered.
    """
    import numpy as np

    from export.accuracy import accuracy, rows_agree
    from export.predictions import Predictions
    from figkd.data import class_names, open_split
    from figkd.evaluate import centre_crop
    from pipeline.results.class_order import columns, in_order

    data, arguments = work.inputs["data"], work.arguments
    built = work.inputs[f"build@{arguments['target']}"]
    names, test = class_names(data), open_split(data, "test")
    reference = read_logits(work.inputs["distill"] / "test_logits.npy")
    found: dict[str, Any] = {row["id"]: accuracy_of_file(row, fallback) for row in rows if not row["runs"]}
    running = [row for row in rows if row["runs"]]
    starts = {row["id"]: len(test.labels) / max(row["batch_sizes"]) for row in running}
    for row in [row for row in running if row["road"] == "trtexec" and starts[row["id"]] > MOST_STARTS]:
        running.remove(row)
        found[row["id"]] = accuracy_of_file(row, fallback)
        work.note(
            f"{row['id']}: not scored on the device: trtexec would be started for every batch of {len(test.labels):,} "
            "images; sudo apt install python3-libnvinfer there, then --force validate"
        )
    if not running:
        return found, {}
    images = centre_crop(test.images, arguments["image_size"])
    transform = transform_of(work.inputs["distill"] / "model.pt", arguments["input"])
    logits: dict[str, list[npt.NDArray[np.float32]]] = {row["id"]: [] for row in running}
    agreeing: dict[str, bool] = {}
    with device_session(work) as (session, facts):
        specs = engine_specs(session, work, facts, built, running)
        all_at_once = fits(images, session.hello.free)
        for group in image_groups(work, session, images, together=all_at_once):
            for row in running:
                sizes = row["batch_sizes"]
                repeat = 0 if row["id"] in agreeing else max(4, *sizes)
                request = {
                    "engine": specs[row["id"]],
                    "parts": group,
                    "image": list(images.shape[1:]),
                    "transform": transform,
                    "repeat": repeat,
                    "discard": not all_at_once and row is running[-1],
                }
                done = run_job(work, session, INFER, request, row["id"])
                shape = (sum(part["count"] for part in group), len(names))
                logits[row["id"]].append(fetch_array(session, done.job, results.LOGITS, work.scratch, shape))
                if repeat:
                    again = (repeat, len(names))
                    repeated = fetch_array(session, done.job, results.REPEATED, work.scratch, again)
                    agreeing[row["id"]] = rows_agree(repeated)
                session.release(done.job)
    answers: dict[str, Predictions] = {}
    for row in running:
        said = in_order(np.concatenate(logits.pop(row["id"])), columns(built / row["file"], names))
        found[row["id"]] = {
            "source": "engine",
            **accuracy(said, test.labels, names, reference_logits=reference),
            "identical_rows": agreeing[row["id"]],
        }
        answers[row["id"]] = Predictions.of(said)
    return found, answers


def benchmark(work: Work, rows: list[dict[str, Any]], images: int) -> None:
    """Time a target's engines on its device; writes what the stage `benchmark` writes.

    Args:
        work: of the stage.
        rows: of `engines.json`, those that run.
        images: how many test images are shown.
    """

    from figkd.data import open_split
    from figkd.evaluate import centre_crop
    from pipeline.places import telemetry
    from pipeline.places.latency import Plan, encode, save_samples

    arguments, plan = work.arguments, Plan.of(work.arguments)
    built = work.inputs[f"build@{arguments['target']}"]
    if not rows:
        _nothing_to_time(work, read_json(built / FACTS_FILE))
        return
    stored = open_split(work.inputs["data"], "test").images[:images]
    cropped = centre_crop(stored, arguments["image_size"])
    whole = "image_to_class" in arguments["boundaries"]
    encoded = [encode(image) for image in stored] if whole else []
    with device_session(work) as (session, facts):
        group = next(image_groups(work, session, cropped, together=True))
        ids = engine_specs(session, work, facts, built, rows)
        request = {
            "engines": list(ids.values()),
            "cases": _cases(rows, arguments),
            "parts": group,
            "image": list(cropped.shape[1:]),
            "transform": transform_of(work.inputs["distill"] / "model.pt", arguments["input"]),
            "encoded": [put_bytes(session, work.scratch, data) for data in encoded],
            "store_size": stored.shape[1],
            "image_size": arguments["image_size"],
            **plan.limits,
            "rounds": plan.rounds,
            "sustained_s": arguments["sustained_s"],
            "energy_s": arguments["energy_s"],
        }
        modes: list[str | None] = [*arguments.get("power_modes", [])] or [None]
        timed, lacking = _in_each_mode(work, session, request, modes, encoded)
        skew = session.skew_s
    first, *others = timed
    save_samples(work.out / "samples.npz", {name: a for each in timed for name, a in each.samples.items()})
    write_json(work.out / "latency.json", [row for each in timed for row in each.rows])
    write_json(work.out / "runtime.json", first.result["facts"])
    write_json(
        work.out / "machine.json",
        {
            "device": session.device.name,
            "facts": _lasting(facts),
            "clock_skew_s": round(skew, 3),
            "power_mode": first.result["power_mode"],
            "missing": [*first.result["missing"], *_not_on_devices(plan), *lacking],
            "golden": None
            if first.golden is None
            else telemetry.golden(first.golden, encoded, stored.shape[1], arguments["image_size"]),
            **first.summary,
            "modes": {each.mode: each.summary for each in others},
        },
    )


@dataclass(frozen=True)
class _Timed:
    """A target's engines timed in one power mode."""

    mode: str
    """Its name where there are several, else ''."""
    result: results.TimesOf
    rows: list[dict[str, Any]]
    samples: dict[str, dict[str, npt.NDArray[np.float64]]]
    summary: dict[str, Any]
    golden: npt.NDArray[Any] | None


def _in_each_mode(
    work: Work, session: Session, request: dict[str, Any], modes: list[str | None], encoded: list[bytes]
) -> tuple[list[_Timed], list[str]]:
    """Measure in each mode; what lacks, in words. The first mode must be had; each job puts back the one before."""
    timed: list[_Timed] = []
    lacking: list[str] = []
    for mode in modes:
        try:
            timed.append(
                _timed(work, session, request | {"power_mode": mode}, encoded, several=len(modes) > 1)
            )
        except JobFailed as error:
            if not timed or error.kind != "request":
                raise
            lacking.append(f"in {mode}: {error.what}; {error.fix}")
            work.note(lacking[-1])
    return timed, lacking


def _timed(
    work: Work, session: Session, request: dict[str, Any], encoded: list[bytes], *, several: bool
) -> _Timed:
    from pipeline.places import telemetry
    from pipeline.places.latency import Case, statistics

    mode = request["power_mode"] if several else ""
    what = work.arguments["target"] + (f" in {mode}" if mode else "")
    done = run_job(work, session, TIME, request, what)
    result = done.result
    raw = session.fetch(done.job, results.SAMPLES, work.scratch / results.SAMPLES, _MOST_SAMPLES).read_bytes()
    shape = (len(encoded), *request["image"])
    golden = (
        fetch_array(session, done.job, results.GOLDEN, work.scratch, shape, "uint8")
        if result["golden"]
        else None
    )
    session.release(done.job)
    engines = [spec["id"] for spec in request["engines"]]
    try:
        arrays = results.timed_arrays(raw, result, [case["name"] for case in request["cases"]], engines)
    except Unfit as error:
        raise unfit(session.device, "what it timed", error) from None
    rows = []
    for case in request["cases"]:
        if case["name"] in result["cases"]:
            samples = _samples(case, arrays[case["name"]], result["cases"][case["name"]])
            named = Case(case["engine"], case["batch"], case["boundary"], _timed_elsewhere, power_mode=mode)
            rows.append(statistics(named, samples))
    renamed = {f"{name}|{mode}" if mode else name: parts for name, parts in arrays.items()}
    return _Timed(mode, result, rows, renamed, telemetry.summary(result, arrays), golden)


def _nothing_to_time(work: Work, facts: Facts) -> None:
    """What `benchmark` leaves where no engine runs; the device is not bothered."""
    from pipeline.places.latency import save_samples

    assert work.device is not None  # the stage asked for a device
    save_samples(work.out / "samples.npz", {})
    write_json(work.out / "latency.json", [])
    write_json(work.out / "runtime.json", {})
    write_json(
        work.out / "machine.json", {"device": work.device.name, "facts": _lasting(facts), "energy": {}}
    )


def _lasting(facts: Facts) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key not in ("readings", "clock")}


def _cases(rows: list[dict[str, Any]], arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    cases = []
    for boundary in arguments["boundaries"]:
        for batch in [1] if boundary == "image_to_class" else arguments["batch_sizes"]:
            for row in rows:
                if boundary == "image_to_class" and row["batch_sizes"] != [1] and 1 not in row["batch_sizes"]:
                    continue
                name = f"{row['id']}|{batch}|{boundary}"
                cases.append({"name": name, "engine": row["id"], "batch": batch, "boundary": boundary})
    return cases


def _not_on_devices(plan: Plan) -> list[str]:
    found = ["several streams: measured on this machine only"] if set(plan.streams) > {1} else []
    return found + (["a fixed rate: measured on this machine only"] if plan.rate_fps else [])


def _timed_elsewhere(**_: Any) -> Samples:
    raise AssertionError("the device took these samples")


def _samples(
    case: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[np.float64]], timed: TimedCase
) -> Samples:
    from export.engines.protocol import Samples

    parts = {name: values for name, values in arrays.items() if name != "at"}
    notes, rounds = tuple(timed["notes"]), tuple(timed["rounds"])
    step = timed.get("resolution_ms", 0.0)
    return Samples(parts, case["batch"], case["boundary"], timed["wall_seconds"], notes, rounds, step)


def _prepare(onnx: Path, sizes: list[int], target: Path) -> dict[str, Any]:
    """Copy an ONNX file with its batch fixed where there is one size; returns its `inputs` and `outputs`."""
    from export import graph
    from export.onnx import describe

    model = graph.load_model(onnx)
    if graph.batch_size(model) is None and len(sizes) == 1:
        graph.fix_batch(model, sizes[0])
    elif graph.batch_size(model) is not None and sizes != [graph.batch_size(model)]:
        what = (
            f"{onnx.name} has a fixed batch of {graph.batch_size(model)}, batch sizes {sizes} were asked for"
        )
        raise StageFailed(what, fix="export.dynamic_batch: true")
    target.parent.mkdir(parents=True, exist_ok=True)
    graph.save_model(model, target)
    facts = describe(target)
    return {"inputs": facts["inputs"], "outputs": facts["outputs"]}
