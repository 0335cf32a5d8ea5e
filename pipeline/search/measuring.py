"""One candidate on one target: built, timed, and put into rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from export.errors import ExportError
from pipeline.core.files import read_json
from pipeline.devices.faults import JobFailed
from pipeline.places.latency import Plan
from pipeline.places.pictures import pictures_of
from pipeline.places.place import Context, Place, Timed, TimeTask
from pipeline.results.doubts import load_of
from pipeline.results.rows.engines import EngineRow, read_engines
from pipeline.results.rows.scouted import Candidate, ScoutRow
from pipeline.search.untrained import Untrained
from pipeline.stages import build
from pipeline.stages.base import Arguments, Work


@dataclass(frozen=True)
class Job:
    """What is measured where.

    Attributes:
        candidate: the network.
        target: name in the config.
        building: arguments of the stage `build`.
        timing: arguments of the stage `benchmark`, with `scout`'s durations.
        memory: measure it, too.
        calibration: what sets the INT8 ranges.
        place: of the target.
    """

    candidate: Candidate
    target: str
    building: Arguments
    timing: Arguments
    memory: bool
    calibration: Literal["data", "synthetic"]
    place: Place


def measure(job: Job, made: Untrained, folder: Path, context: Context, caches: Path) -> list[ScoutRow]:
    """Build the candidate's engines for a target and time them there.

    Args:
        job: what and where.
        made: the candidate's files.
        folder: empty; engines go there.
        context: of the work.
        caches: a folder that all runs share.

    Raises:
        PipelineError: the place cannot be worked at.
    """
    work = Work(
        job.building, made.inputs, {}, folder, context.scratch, context.progress, place=job.place, note=context.note,
        caches=caches,
    )  # fmt: skip
    build.STAGE.run(work)
    rows = read_engines(folder)
    timed, broken = _timed(job, made, folder, rows, context)
    seconds: dict[str, float] = read_json(folder / "timing.json")
    return [
        _row(job, made, row, timed, broken).model_copy(update={"build_seconds": seconds.get(row.id)})
        for row in rows
    ]


def failed(job: Job, reason: str, fix: str, made: Untrained | None = None) -> list[ScoutRow]:
    """Rows that say why nothing was measured, one for each engine that the target would have."""
    return [
        ScoutRow(
            candidate=job.candidate, target=job.target, backend=job.building["engine"], precision=precision,
            compute_capability=capability, state="failed", reason=reason, fix=fix,
            parameters=made.parameters if made else None, onnx_bytes=made.onnx_bytes if made else None,
        )
        for precision, capability in _engines(job.building)
    ]  # fmt: skip


def _engines(building: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for precision in building["precisions"]:
        for capability in building.get("compute_capabilities", [""]):
            yield precision, capability


def _timed(
    job: Job, made: Untrained, folder: Path, rows: Sequence[EngineRow], context: Context
) -> tuple[list[Timed], dict[str, ExportError | JobFailed]]:
    """Measurements of the engines that run, side by side; one after the other where that fails, and why some do."""
    runs = [row for row in rows if row.runs]
    arguments = job.timing
    task = TimeTask(
        target=job.target,
        rows=runs,
        built=folder,
        images=made.images,
        pictures=pictures_of(made.images, [], {}),
        plan=Plan.of(arguments),
        threads=arguments["threads"],
        spinning=arguments["spinning"],
        denormals_as_zero=arguments["denormals_as_zero"],
        energy_s=arguments["energy_s"],
        memory=job.memory,
    )
    if not runs:
        return [], {}
    try:
        return [job.place.time(task, context)], {}
    except (ExportError, JobFailed) as error:
        if len(runs) == 1:
            return [], {runs[0].id: error}
    found: list[Timed] = []
    broken: dict[str, ExportError | JobFailed] = {}
    for row in runs:
        try:
            found.append(job.place.time(replace(task, rows=[row]), context))
        except (ExportError, JobFailed) as error:
            broken[row.id] = error
    return found, broken


def _row(
    job: Job,
    made: Untrained,
    row: EngineRow,
    timed: Sequence[Timed],
    broken: Mapping[str, ExportError | JobFailed],
) -> ScoutRow:
    facts: dict[str, Any] = {
        "candidate": job.candidate, "target": job.target, "backend": row.backend, "precision": row.precision,
        "compute_capability": row.compute_capability, "device": row.device, "parameters": made.parameters,
        "onnx_bytes": made.onnx_bytes, "engine_bytes": row.made.bytes if row.made else None,
        "calibration": job.calibration if row.precision == "int8" else "",
    }  # fmt: skip
    if error := broken.get(row.id):
        return ScoutRow(**facts, state="failed", reason=error.what, fix=error.fix)
    for each in timed:
        for latency in each.rows:
            if latency.id == row.id and latency.plain and latency.boundary == "engine":
                load = load_of(each.machine)
                energy = each.machine.get("energy", {}).get(row.id)
                return ScoutRow(
                    **facts, state="timed", batch=latency.batch, n=latency.n, p50_ms=latency.median,
                    p50_interval=latency.intervals.get("median"), p99_ms=latency.p99,
                    p99_interval=latency.intervals.get("p99") if latency.p99 is not None else None,
                    throughput=latency.throughput, energy_mj=energy["mj_per_image"] if energy else None,
                    memory_bytes=each.memory.get(row.id), disturbed=load is not None and load.disturbed,
                )  # fmt: skip
    state = "built" if row.state == "built" else row.state
    return ScoutRow(**facts, state=state, reason=row.detail or "it was not timed", fix=row.fix)
