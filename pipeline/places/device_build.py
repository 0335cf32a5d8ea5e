"""Engines built on a device: the same files as on this machine, and the same rows."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from export.engine_kinds import ENGINE_KINDS
from export.runtime.files import sha256
from export.runtime.remedies import Skipped, skipped_tactics
from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault, StageFailed
from pipeline.core.files import write_json
from pipeline.devices import results
from pipeline.devices.agent.requests import BuildOptions
from pipeline.devices.facts import Facts
from pipeline.devices.faults import JobFailed
from pipeline.devices.job_run import Done
from pipeline.devices.results import BUILD
from pipeline.devices.session import Session
from pipeline.places import access
from pipeline.places.builder import engine_file
from pipeline.places.device_jobs import amount_of, device_session, run_job
from pipeline.places.kept import key_of
from pipeline.places.place import BuildTask, Built, Context
from pipeline.results.composition import BuiltEngine, Composition
from pipeline.results.engine import SkippedTactics
from pipeline.results.rows.engines import EngineRow, Made, Tensor, Wanted, built

if TYPE_CHECKING:
    from export.engines.protocol import Option
    from export.engines.trt_built import Summary

# Failures of a job that are this engine's own: the other engines of the target go on.
_OWN_KINDS = frozenset({"failed", "memory", "killed", "request", "missing"})
# What a file of a job may have, in bytes: a builder's log, its list of layers; an engine, next to its ONNX file.
_MOST_LAYERS, _MOST_LOG, _ENGINE_BASE, _ENGINE_TIMES = 16 << 20, 64 << 20, 256 << 20, 4
# Options of TensorRT's builder that the job `build` takes.
_JOB_KEYS = ("workspace_mb", "tactic_dram_mb", "optimization_level", "strong_typing")


def build(device: Device, task: BuildTask, context: Context) -> Built:
    """See `Place.build`.

    Raises:
        DeviceFault: the device is lost, or lacks the back end, and the config demands it.
    """
    from export.errors import ExportError

    with device_session(device, context) as (session, facts):
        method = access.access_of(facts, task.backend)
        if not method.built and task.required:
            where = f"targets.{task.target}.engine on {session.device.name}"
            raise DeviceFault(method.detail, where=where, fix=method.fix)
        name = f"{session.device.name}: {access.describe(facts)}"
        found = Built(facts=facts)
        for done, wanted in enumerate(task.wanted):
            context.progress(done, len(task.wanted), wanted.id)
            if lack := task.not_made.get(wanted.onnx):
                found.rows.append(wanted.failed(lack.detail, lack.fix, name))
                continue
            if not method.built:
                found.rows.append(wanted.missing(method.detail, method.fix, name))
                continue
            try:
                row, seconds = _build_one(task, context, session, facts, wanted, name)
            except (JobFailed, ExportError) as error:
                if isinstance(error, JobFailed) and error.kind not in _OWN_KINDS:
                    raise
                found.rows.append(wanted.failed(error.what, error.fix, name))
                continue
            found.rows.append(row)
            found.seconds[wanted.id] = seconds
    return found


def _build_one(
    task: BuildTask, context: Context, session: Session, facts: Facts, wanted: Wanted, name: str
) -> tuple[EngineRow, float]:
    """Build an engine and fetch it; its row, and how long the build took in s."""
    from export import graph
    from export.engines import trt_build, trt_fit, trt_refusals

    kind = ENGINE_KINDS[task.backend]
    onnx, file = task.onnx[wanted.onnx], task.out / engine_file(wanted)
    sizes = sorted(task.batch_sizes)
    prepared = context.scratch / wanted.onnx
    inputs, outputs = _prepare(onnx, sizes, prepared)
    model = graph.load_model(prepared)
    method = access.access_of(facts, task.backend)
    fitted = trt_fit.Fitted(model)
    options = _options(task, wanted)
    kept = options.copy()
    if kind.tensorrt:
        place = access.place_of(facts, task.backend)
        trt_refusals.require(place, task.tensorrt, trt_build.onnx_file(model, onnx.name))
        fitted = trt_fit.fit(f"{task.backend} {place.version}", place.dialect, model)
        if fitted.model is not model:
            graph.save_model(fitted.model, prepared)
        kept["strong_typing"] = place.dialect.strong_typing and task.tensorrt.strong_typing
    request = access.build_request(
        facts,
        task.backend,
        name=wanted.id,
        engine_file=file.name,
        onnx=sha256(prepared),
        source=inputs[0],
        precision=wanted.precision,
        batch_sizes=sizes,
        options=options,
        weak_flags=fitted.flags,
        fp32_layers=fitted.fp32_layers,
    )
    key = key_of(request, access.environment_of(facts, task.backend))
    waits = partial(context.note, f"{wanted.id}: another device of this kind builds it; waiting for it")
    with task.kept.building(key, waits):
        taken = task.kept.take(key, task.out)
        if taken is None:
            session.put(prepared, amount_of(context, f"sending {wanted.onnx}"))
            done = run_job(context, session, BUILD, request, wanted.id)
            layers, skipped = _fetched(done, task, context, session, wanted.id, prepared, file)
            # What goes in and out is what the ONNX file says, whatever the device makes of it.
            made = Made(
                file=file.name,
                bytes=file.stat().st_size,
                layers=done.result.get("layers") or len(model.graph.node),
                inputs=inputs,
                outputs=outputs,
                batch_sizes=tuple(sizes),
                composition=Composition(engine=layers),
                skipped_tactics=SkippedTactics(**asdict(skipped)) if skipped else None,
            )
            seconds = done.result["seconds"]
            _write_sidecar(file, facts, wanted, made, seconds, onnx, kept)
            task.kept.keep(key, made, seconds, session.device.name, _files_of(file))
        else:
            made, seconds = taken.made, taken.seconds
    prepared.unlink()
    detail = fitted.note if method.run else f"built, not run: {method.detail}"
    if taken is not None and taken.device != session.device.name:
        context.note(f"{wanted.id}: taken from {taken.device}, a device of equal facts")
        detail = "; ".join(filter(None, (detail, f"built on {taken.device}, a device of equal facts")))
    row = built(
        wanted,
        made,
        runs=method.run,
        detail=detail,
        fix="" if method.run else method.fix,
        device=name,
        access=method.name,
    )
    return row, seconds


def _fetched(
    done: Done[results.Built],
    task: BuildTask,
    context: Context,
    session: Session,
    engine: str,
    prepared: Path,
    file: Path,
) -> tuple[BuiltEngine | None, Skipped | None]:
    """Bring what the job left; the list of layers, and which kernels were skipped."""
    layers = _layers(session, done.job, file, context, engine) if done.result.get("layer_list") else None
    if "file" in done.result:
        session.fetch(done.job, file.name, file, _ENGINE_BASE + _ENGINE_TIMES * prepared.stat().st_size)
    else:  # the engine is the ONNX file
        file.write_bytes(prepared.read_bytes())
    skipped = None
    if done.result.get("log"):
        skipped = append_log(session, done.job, engine, context.scratch, task.out)
    session.release(done.job)
    return layers, skipped


def _files_of(engine: Path) -> list[Path]:
    """An engine, and what lies beside it."""
    from export.engines.sidecar import sidecar_path
    from export.engines.trt_layers import layers_path

    return [path for path in (engine, sidecar_path(engine), layers_path(engine)) if path.is_file()]


def _options(task: BuildTask, wanted: Wanted) -> BuildOptions:
    """Keys of the target that the job takes by the same names, where they say something."""
    options: BuildOptions = {}
    for key in (key for key in _JOB_KEYS if key in task.builder_keys):
        value = getattr(task.tensorrt, key)
        if value is not None:
            options[key] = value  # type: ignore[literal-required]
    if task.threads is not None and "threads" in ENGINE_KINDS[task.backend].options:
        options["threads"] = task.threads
    if task.power_mode:
        options["power_mode"] = task.power_mode
    if wanted.compute_capability:
        options["compute_capabilities"] = [wanted.compute_capability]
    return options


def append_log(session: Session, job: str, engine: str, scratch: Path, out: Path) -> Skipped | None:
    """Keep the log of a build; returns which kernels it says were skipped."""
    fetched = session.fetch(job, results.BUILD_LOG, scratch / results.BUILD_LOG, _MOST_LOG)
    text = fetched.read_text(encoding="utf-8", errors="replace")
    with (out / results.BUILD_LOG).open("a", encoding="utf-8") as log:
        log.write(f"== {engine}\n{text}")
    return skipped_tactics(text.splitlines())


def _write_sidecar(
    file: Path,
    facts: Facts,
    wanted: Wanted,
    made: Made,
    seconds: float,
    onnx: Path,
    options: BuildOptions,
) -> None:
    from export.contract import contract_of
    from export.engines.protocol import EngineInfo
    from export.engines.sidecar import write_sidecar
    from export.model_file import load_model
    from export.runtime.facts import Tensor as EngineTensor

    contract, layers = contract_of(load_model(onnx)), made.composition.engine
    kind = ENGINE_KINDS[wanted.backend]
    bound = kind.gpu  # to the GPU and the system that it was built on
    capability = wanted.compute_capability or facts.get("compute_capability", "")
    info = EngineInfo(
        file=str(file),
        bytes=made.bytes,
        build_seconds=seconds,
        backend=wanted.backend,
        versions=access.access_of(facts, wanted.backend).versions,
        compute_capability=(capability,) if bound else (),
        batch_sizes=made.batch_sizes if bound or len(made.batch_sizes) == 1 else (),
        inputs=tuple(EngineTensor(t.name, t.dtype, t.shape) for t in made.inputs),
        outputs=tuple(EngineTensor(t.name, t.dtype, t.shape) for t in made.outputs),
        layers=made.layers,
        sha256=sha256(file),
        device=str(facts.get("gpu", "")) if kind.one_gpu else "",
        platform=str(facts.get("machine", "")) if bound else "",
        l4t=str(facts.get("l4t", "")) if bound else "",
        source={"file": wanted.onnx, "sha256": sha256(onnx)},
        options={key: cast("Option", value) for key, value in options.items() if key != "threads"},
        composition={
            "network": None,
            "engine": cast("Summary", layers.model_dump(mode="json")) if layers else None,
        },
        classes=contract.classes,
        image=dict(contract.image or {}),
    )
    write_sidecar(info, file)


def _layers(session: Session, job: str, file: Path, context: Context, engine: str) -> BuiltEngine | None:
    """Keep the list of a built engine's layers, and sum it up; None, with a note, where it cannot be read."""
    from export.engines.trt_built import document, read_layers
    from export.engines.trt_layers import layers_path

    path = session.fetch(job, results.LAYERS, context.scratch / results.LAYERS, _MOST_LAYERS)
    try:
        found = document(read_layers(path.read_text(encoding="utf-8", errors="replace")))
    except ValueError as error:
        context.note(f"{engine}: the list of its layers cannot be read: {error}")
        return None
    finally:
        path.unlink()
    write_json(layers_path(file), {"network": None, "engine": found})
    return BuiltEngine.model_validate(found["summary"])


def _prepare(onnx: Path, sizes: list[int], target: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Copy an ONNX file with its batch fixed where there is one size; returns its inputs and outputs."""
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
    inputs, outputs = (
        tuple(Tensor.model_validate(tensor) for tensor in facts[key]) for key in ("inputs", "outputs")
    )
    return inputs, outputs
