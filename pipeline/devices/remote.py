"""The stages' work on a device: the same artifacts as on this machine, made there; every statistic computed here."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.devices import roads
from pipeline.devices.session import Done, JobFailed, Session, connect
from pipeline.devices.store import Part, fits, parts, transform_of
from pipeline.errors import DeviceFault, StageFailed
from pipeline.files import read_json, write_json
from pipeline.stages.base import Work

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.engines.protocol import Samples
    from pipeline.latency import Plan

# Failures of a job that are this engine's own: the other engines of the target go on.
_OWN_KINDS = frozenset({"failed", "memory", "killed", "request", "missing"})
MOST_STARTS = 500
"""Batches that are scored through trtexec, which takes a second or two to start for each."""
FACTS = "device.json"
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
    with _session(work) as (session, facts):
        road = roads.road_of(facts, arguments["engine"])
        if not road.built and arguments["required"]:
            where = f"targets.{arguments['target']}.engine on {session.device.name}"
            raise DeviceFault(road.detail, where=where, fix=road.fix)
        finished: list[dict[str, Any]] = []
        seconds: dict[str, float] = {}
        for done, row in enumerate(rows):
            work.progress(done, len(rows), row["id"])
            known = {"device": f"{session.device.name}: {roads.describe(facts)}", "runs": False}
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
            detail = "" if road.run else f"built, not run: {road.detail}"
            fix = "" if road.run else road.fix
            finished.append(
                row | known | made | {"state": "built", "runs": road.run, "detail": detail, "fix": fix}
            )
    write_json(work.out / "engines.json", finished)
    write_json(work.out / "timing.json", seconds)
    write_json(work.out / FACTS, facts)
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


def _build_one(
    work: Work, session: Session, facts: Mapping[str, Any], row: Mapping[str, Any]
) -> dict[str, Any]:
    from export import graph
    from export.engines import trt_build
    from pipeline.stages.build import engine_file
    from pipeline.stages.qad import onnx_path

    arguments = work.arguments
    backend = arguments["engine"]
    onnx, file = onnx_path(work.inputs, row["onnx"]), work.out / engine_file(row)
    sizes = sorted(arguments["batch_sizes"])
    prepared = work.scratch / row["onnx"]
    described = _prepare(onnx, sizes, prepared)
    model = graph.load_model(prepared)
    road = roads.road_of(facts, backend)
    if backend != "onnxruntime":
        library = f"{backend} {road.versions[backend]}"
        trt_build.check_model(library, roads.dialect_of(road, backend), model, onnx, sizes)
    options = {key: arguments[key] for key in _BUILD_KEYS if arguments.get(key) is not None}
    if row["compute_capability"]:
        options["compute_capabilities"] = [row["compute_capability"]]
    request = roads.build_request(
        facts,
        backend,
        name=row["id"],
        engine_file=file.name,
        onnx=session.put(prepared, _amount(work, f"sending {row['onnx']}")),
        source=described["inputs"][0],
        precision=row["precision"],
        batch_sizes=sizes,
        options=options,
        weak_flags=lambda chosen: trt_build.precision_flags(model, chosen),
    )
    done = _job(work, session, "build", request, row["id"])
    result = described | {"layers": len(model.graph.node)} | {k: v for k, v in done.result.items() if v}
    if "file" in result:
        session.fetch(done.job, result["file"], file)
    else:  # ONNX Runtime's engine is the ONNX file
        file.write_bytes(prepared.read_bytes())
    if "log" in result:
        _append_log(session, done.job, result["log"], row["id"], work)
    session.release(done.job)
    prepared.unlink()
    _write_sidecar(file, facts, row, sizes, result, onnx, options)
    return {
        "seconds": result["seconds"],
        "file": file.name,
        "bytes": file.stat().st_size,
        "layers": result["layers"],
        "inputs": result["inputs"],
        "outputs": result["outputs"],
        "batch_sizes": sizes,
        "road": road.name,
    }


def _append_log(session: Session, job: str, name: str, engine: str, work: Work) -> None:
    text = session.fetch(job, name, work.scratch / name).read_text(encoding="utf-8", errors="replace")
    with (work.out / "build.log").open("a", encoding="utf-8") as log:
        log.write(f"== {engine}\n{text}")


def _write_sidecar(
    file: Path,
    facts: Mapping[str, Any],
    row: Mapping[str, Any],
    sizes: list[int],
    result: Mapping[str, Any],
    onnx: Path,
    options: Mapping[str, Any],
) -> None:
    from export.engines.protocol import EngineInfo
    from export.engines.sidecar import write_sidecar
    from export.files import sha256

    bound = row["backend"] != "onnxruntime"  # to the GPU and the system that it was built on
    capability = row["compute_capability"] or facts.get("compute_capability", "")
    info = EngineInfo(
        file=str(file),
        bytes=file.stat().st_size,
        build_seconds=result["seconds"],
        backend=row["backend"],
        versions=roads.road_of(facts, row["backend"]).versions,
        compute_capability=(capability,) if bound else (),
        batch_sizes=tuple(sizes) if bound or len(sizes) == 1 else (),
        inputs=tuple(result["inputs"]),
        outputs=tuple(result["outputs"]),
        layers=result["layers"],
        sha256=sha256(file),
        device=str(facts.get("gpu", "")) if row["backend"] == "tensorrt" else "",
        platform=str(facts.get("machine", "")) if bound else "",
        l4t=str(facts.get("l4t", "")) if bound else "",
        source={"file": row["onnx"], "sha256": sha256(onnx)},
        options={key: value for key, value in options.items() if key != "threads"},
    )
    write_sidecar(info, file)


def validate(work: Work, rows: list[dict[str, Any]], fallback: Mapping[str, Any]) -> dict[str, Any]:
    """Score a target's engines on the whole test set, on its device.

    Args:
        work: of the stage `validate`.
        rows: of `engines.json`.
        fallback: accuracy of each ONNX file in ONNX Runtime, for engines that do not run.

    Returns:
        Accuracy by engine id, as `accuracy.json` has it.
    """
    import numpy as np

    from export.accuracy import accuracy, rows_agree
    from figkd.data import class_names, open_split
    from figkd.evaluate import centre_crop
    from pipeline.stages.precision import read_logits
    from pipeline.stages.validate import accuracy_of_file

    data, arguments = work.inputs["data"], work.arguments
    built = work.inputs[f"build@{arguments['target']}"]
    names, test = class_names(data), open_split(data, "test")
    reference = read_logits(work.inputs["distill"] / "test_logits.npy")
    results: dict[str, Any] = {row["id"]: accuracy_of_file(row, fallback) for row in rows if not row["runs"]}
    running = [row for row in rows if row["runs"]]
    starts = {row["id"]: len(test.labels) / max(row["batch_sizes"]) for row in running}
    for row in [row for row in running if row["road"] == "trtexec" and starts[row["id"]] > MOST_STARTS]:
        running.remove(row)
        results[row["id"]] = accuracy_of_file(row, fallback)
        work.note(
            f"{row['id']}: not scored on the device: trtexec would be started for every batch of {len(test.labels):,} "
            "images; sudo apt install python3-libnvinfer there, then --force validate"
        )
    if not running:
        return results
    images = centre_crop(test.images, arguments["image_size"])
    transform = transform_of(work.inputs["distill"] / "model.pt", arguments["input"])
    logits: dict[str, list[npt.NDArray[np.float32]]] = {row["id"]: [] for row in running}
    agreeing: dict[str, bool] = {}
    with _session(work) as (session, facts):
        specs = _specs(session, work, facts, built, running)
        all_at_once = fits(images, int(session.hello["free"]))
        for group in _groups(work, session, images, together=all_at_once):
            for row in running:
                sizes = row["batch_sizes"]
                request = {
                    "engine": specs[row["id"]],
                    "parts": group,
                    "image": list(images.shape[1:]),
                    "transform": transform,
                    "repeat": 0 if row["id"] in agreeing else max(4, *sizes),
                    "discard": not all_at_once and row is running[-1],
                }
                done = _job(work, session, "infer", request, row["id"])
                logits[row["id"]].append(_array(session, done.job, done.result["logits"], work.scratch))
                if "repeated" in done.result:
                    repeated = _array(session, done.job, done.result["repeated"], work.scratch)
                    agreeing[row["id"]] = rows_agree(repeated)
                session.release(done.job)
    for row in running:
        found = np.concatenate(logits[row["id"]])
        if len(found) != len(test.labels):
            raise DeviceFault(f"{len(found)} logits came back for {len(test.labels)} images", fix="run again")
        results[row["id"]] = {
            "source": "engine",
            **accuracy(found, test.labels, names, reference_logits=reference),
            "identical_rows": agreeing[row["id"]],
        }
    return results


def benchmark(work: Work, rows: list[dict[str, Any]], images: int) -> None:
    """Time a target's engines on its device; writes what the stage `benchmark` writes.

    Args:
        work: of the stage.
        rows: of `engines.json`, those that run.
        images: how many test images are shown.
    """
    import numpy as np

    from figkd.data import open_split
    from figkd.evaluate import centre_crop
    from pipeline.devices import telemetry
    from pipeline.latency import Case, encode, save_samples, statistics
    from pipeline.stages.benchmark import plan_of

    arguments, plan = work.arguments, plan_of(work.arguments)
    built = work.inputs[f"build@{arguments['target']}"]
    if not rows:
        _nothing_to_time(work, read_json(built / FACTS))
        return
    stored = open_split(work.inputs["data"], "test").images[:images]
    cropped = centre_crop(stored, arguments["image_size"])
    whole = "image_to_class" in arguments["boundaries"]
    encoded = [encode(image) for image in stored] if whole else []
    with _session(work) as (session, facts):
        group = next(_groups(work, session, cropped, together=True))
        request = {
            "engines": list(_specs(session, work, facts, built, rows).values()),
            "cases": _cases(rows, arguments),
            "parts": group,
            "image": list(cropped.shape[1:]),
            "transform": transform_of(work.inputs["distill"] / "model.pt", arguments["input"]),
            "encoded": [_put_bytes(session, work.scratch, data) for data in encoded],
            "store_size": stored.shape[1],
            "image_size": arguments["image_size"],
            **plan.limits,
            "rounds": plan.rounds,
            "sustained_s": arguments["sustained_s"],
            "energy_s": arguments["energy_s"],
            "power_mode": arguments.get("power_mode"),
        }
        done = _job(work, session, "time", request, arguments["target"])
        result = done.result
        raw = session.fetch(done.job, result["samples"], work.scratch / "samples.f64").read_bytes()
        golden = _array(session, done.job, result["golden"], work.scratch) if result["golden"] else None
        session.release(done.job)
        skew = session.skew_s
    values = np.frombuffer(raw, "<f8")
    arrays = {
        case: {part: values[at : at + count] for part, (at, count) in kinds.items()}
        for case, kinds in result["index"].items()
    }
    rows_of = []
    for name, words in result["cases"].items():
        engine, batch, boundary = name.split("|")
        samples = _samples(int(batch), boundary, arrays[name], words)
        rows_of.append(statistics(Case(engine, int(batch), boundary, _timed_elsewhere), samples))
    save_samples(work.out / "samples.npz", arrays)
    write_json(work.out / "latency.json", rows_of)
    write_json(work.out / "runtime.json", result["facts"])
    write_json(
        work.out / "machine.json",
        {
            "device": session.device.name,
            "facts": _lasting(facts),
            "clock_skew_s": round(skew, 3),
            "power_mode": result["power_mode"],
            "missing": [*result["missing"], *_not_on_devices(plan)],
            "golden": None
            if golden is None
            else telemetry.golden(golden, encoded, stored.shape[1], arguments["image_size"]),
            **telemetry.summary(result, arrays),
        },
    )


def _nothing_to_time(work: Work, facts: Mapping[str, Any]) -> None:
    """What `benchmark` leaves where no engine runs; the device is not bothered."""
    from pipeline.latency import save_samples

    assert work.device is not None  # the stage asked for a device
    save_samples(work.out / "samples.npz", {})
    write_json(work.out / "latency.json", [])
    write_json(work.out / "runtime.json", {})
    write_json(
        work.out / "machine.json", {"device": work.device.name, "facts": _lasting(facts), "energy": {}}
    )


def _lasting(facts: Mapping[str, Any]) -> dict[str, Any]:
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
    batch: int, boundary: str, arrays: Mapping[str, npt.NDArray[np.float64]], words: Mapping[str, Any]
) -> Samples:
    from export.engines.protocol import Samples

    parts = {name: values for name, values in arrays.items() if name != "at"}
    return Samples(
        parts, batch, boundary, words["wall_seconds"], tuple(words["notes"]), tuple(words["rounds"])
    )


@contextlib.contextmanager
def _session(work: Work) -> Iterator[tuple[Session, dict[str, Any]]]:
    assert work.device is not None  # the stage asked for a device
    with connect(work.device, note=work.note) as session:
        yield session, session.run("facts", {}, shared=True).result


def _job(work: Work, session: Session, job: str, request: dict[str, Any], what: str) -> Done:
    """Run a job that outlives the connection; a job of an earlier run that asked for the same is taken."""

    def told(event: dict[str, Any]) -> None:
        if "progress" in event:
            done, total, note = event["progress"]
            work.progress(done, total, f"{what}: {note}")

    done = session.run(job, request, told, detached=True)
    if done.found:
        work.note(f"{what}: the job '{job}' of an earlier run was found on {session.device.name} and taken")
    return done


def _specs(
    session: Session, work: Work, facts: Mapping[str, Any], built: Path, rows: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Engine files sent (those built there are there already), and how they are loaded."""
    specs = {}
    for row in rows:
        digest = session.put(built / row["file"], _amount(work, f"sending {row['file']}"))
        known = ("threads", "spinning", "denormals_as_zero")
        options = {key: work.arguments[key] for key in known if key in work.arguments}
        specs[row["id"]] = roads.engine_spec(facts, row, digest, options)
    return specs


def _groups(
    work: Work, session: Session, images: npt.NDArray[np.uint8], *, together: bool
) -> Iterator[list[dict[str, Any]]]:
    """Parts of the images that are on the device: all of them, or one after the other."""
    group: list[dict[str, Any]] = []
    sent = 0
    for part in parts(images, work.scratch / "images"):
        group.append(_sent(session, part, work, sent, len(images)))
        sent += part.count
        if not together:
            yield group
            group = []
    if group:
        yield group


def _sent(session: Session, part: Part, work: Work, before: int, total: int) -> dict[str, Any]:
    def amount(done: int, size: int) -> None:
        work.progress(before + part.count * done // max(1, size), total, "test images on the device")

    return {"blob": session.put(part.path, amount), "count": part.count}


def _put_bytes(session: Session, folder: Path, content: bytes) -> str:
    path = folder / "encoded.jpg"
    path.write_bytes(content)
    try:
        return session.put(path)
    finally:
        path.unlink()


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


def _array(session: Session, job: str, name: str, folder: Path) -> Any:
    import numpy as np

    path = session.fetch(job, name, folder / name)
    try:
        return np.load(io.BytesIO(path.read_bytes()))
    finally:
        path.unlink()


def _amount(work: Work, what: str) -> Callable[[int, int], None]:
    return lambda done, total: work.progress(done >> 10, max(1, total >> 10), f"{what} (kB)")
