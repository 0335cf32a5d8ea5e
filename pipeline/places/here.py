"""This machine as a place of work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.engine_kinds import ENGINE_KINDS
from figkd.progress import Progress
from pipeline.core.errors import EnvironmentFault
from pipeline.places import environment
from pipeline.places.alone import timing_alone
from pipeline.places.builder import engine_file
from pipeline.places.place import Answers, BuildTask, Built, Context, RunFacts, ScoreTask, Timed, TimeTask
from pipeline.places.threads import Tried, tried
from pipeline.results.composition import Composition
from pipeline.results.engine import Energy, SkippedTactics
from pipeline.results.rows.engines import EngineRow, Made, Tensor, Wanted, built

if TYPE_CHECKING:
    import numpy.typing as npt

    from export.engines.protocol import Availability, Engine, EngineInfo

# Copies of one image that must get the same logits.
_COPIES = 4
_RETRY = "once the cause is gone, run again with --force build"
_ELSEWHERE = "run the same config on a machine with a GPU that the engine was built for"


@dataclass(frozen=True)
class HostMachine:
    """This machine."""

    def build(self, task: BuildTask, context: Context) -> Built:
        """See `Place.build`."""
        from export.engines import BACKENDS
        from export.errors import ExportError

        can = BACKENDS[task.backend].availability()
        found = Built()
        for done, wanted in enumerate(task.wanted):
            if lack := task.not_made.get(wanted.onnx):
                found.rows.append(wanted.failed(lack.detail, lack.fix))
                continue
            progress = _part(context.progress, done, len(task.wanted), wanted.id.split("/", 1)[1])
            progress(0, 1, "")
            if not can.built:
                if task.required:
                    raise EnvironmentFault(can.detail, where=f"targets.{task.target}.engine", fix=can.fix)
                found.rows.append(wanted.missing(can.detail, can.fix))
                continue
            file = task.out / engine_file(wanted)
            try:
                info = BACKENDS[task.backend].build(
                    task.onnx[wanted.onnx],
                    file,
                    batch_sizes=task.batch_sizes,
                    compute_capabilities=[wanted.compute_capability] if wanted.compute_capability else [],
                    threads=task.threads,
                    tensorrt=replace(task.tensorrt, timing_caches=task.timing_caches),
                    progress=progress,
                )
            except ExportError as error:
                found.rows.append(wanted.failed(error.what, error.fix or _RETRY))
                continue
            found.seconds[wanted.id] = info.build_seconds
            if info.notes:
                found.notes[wanted.id] = list(info.notes)
            found.rows.append(_row(wanted, info, file, _why_not(can, wanted.compute_capability)))
        context.progress(100 * len(task.wanted), 100 * len(task.wanted), "done")
        return found

    def score(self, task: ScoreTask, context: Context) -> Iterator[Answers]:
        """See `Place.score`."""
        from export.accuracy import identical_rows
        from export.engines import BACKENDS

        images = task.images.inputs() if task.rows else None
        for done, row in enumerate(task.rows):
            context.progress(done, len(task.rows), row.id)
            # No time is taken here: threads that wait leave the CPU to others.
            engine = BACKENDS[row.backend].load(
                task.built / row.engine.file, threads=task.threads, spinning=False
            )
            try:
                assert images is not None  # there is a row
                logits = engine.infer(images)
                same = identical_rows(engine, images[0], max((_COPIES, *engine.batch_sizes)))
            finally:
                engine.close()
            yield Answers(row.id, logits, same)
        context.progress(len(task.rows), len(task.rows), "done")

    def time(self, task: TimeTask, context: Context) -> Timed:
        """See `Place.time`."""
        with timing_alone(context.note):
            return _timed(task, context)


HERE = HostMachine()


def _timed(task: TimeTask, context: Context) -> Timed:
    from pipeline.places.latency import measure_engines

    inputs = task.images.inputs()
    engines: dict[str, Engine] = {}
    runtime: dict[str, RunFacts] = {}
    try:
        for done, row in enumerate(task.rows):
            context.progress(done, len(task.rows), f"loading {row.id}")
            engines[row.id], others = load_tuned(row, inputs, task)
            runtime[row.id] = {**engines[row.id].facts, **({"threads_tried": others} if others else {})}
        found = measure_engines(
            engines,
            task.pictures,
            dict.fromkeys(engines, inputs),
            plan=task.plan,
            progress=context.progress,
        )
        energy, reason = _energy(engines, inputs, task, context.progress)
    finally:
        for engine in engines.values():
            engine.close()
    power = {"energy": {name: read.model_dump() for name, read in energy.items()}} | (
        {"energy_not_available": reason} if reason else {}
    )
    operators = {row.id: _operators(task.built / row.engine.file) for row in task.rows if _fused_here(row)}
    memory = _memory(task, runtime) if task.memory else {}
    return Timed(found.statistics, found.samples, runtime, found.machine | power, operators, memory)


def _row(wanted: Wanted, info: EngineInfo, file: Path, why_not: str) -> EngineRow:
    skipped = SkippedTactics(**asdict(info.skipped_tactics)) if info.skipped_tactics else None
    made = Made(
        file=file.name,
        bytes=file.stat().st_size,
        layers=info.layers,
        inputs=tuple(Tensor(**asdict(tensor)) for tensor in info.inputs),
        outputs=tuple(Tensor(**asdict(tensor)) for tensor in info.outputs),
        composition=Composition.model_validate(info.composition),
        skipped_tactics=skipped,
    )
    detail = f"built, not run: {why_not}" if why_not else info.remark
    return built(wanted, made, runs=not why_not, detail=detail, fix=_ELSEWHERE if why_not else "")


def _why_not(can: Availability, capability: str) -> str:
    """Why an engine that was just built does not run here; empty if it does."""
    if not can.run:
        return can.detail
    if capability and can.compute_capability not in ("", capability):
        return f"it is for {capability}, the GPU here is {can.compute_capability}"
    return ""


def _part(progress: Progress, index: int, count: int, name: str) -> Progress:
    """Progress of one engine among several, in hundredths."""

    def report(done: int, total: int, note: str) -> None:
        share = min(100 * done // max(total, 1), 100)
        progress(100 * index + share, 100 * count, f"{name}: {note}" if note else name)

    return report


def load_tuned(row: EngineRow, inputs: npt.NDArray[Any], task: TimeTask) -> tuple[Engine, list[Tried]]:
    """Load an engine as its target says; where that leaves the threads open, with the fastest number of them.

    Returns:
        The engine, and the other numbers of threads that were tried.
    """
    from export.engines import BACKENDS
    from export.runtime.threads import CHOOSING_S, fastest_threads
    from pipeline.places.latency import one_batch

    load = partial(
        BACKENDS[row.backend].load,
        task.built / row.engine.file,
        spinning=task.spinning,
        denormals_as_zero=task.denormals_as_zero,
    )
    if task.threads is not None or "threads" not in ENGINE_KINDS[row.backend].options:
        return load(threads=task.threads), []
    images = one_batch(inputs, task.plan.batch_sizes[0])
    seconds = min(CHOOSING_S, task.plan.min_seconds)
    found = fastest_threads(lambda threads: load(threads=threads), (1, environment.cores()), images, seconds)
    return found.engine, tried(found.threads, found.medians)


def _energy(
    engines: dict[str, Engine], inputs: npt.NDArray[Any], task: TimeTask, progress: Progress
) -> tuple[dict[str, Energy], str]:
    """Energy of each engine at the first batch size, or why it is not known."""
    from pipeline.places.energy import measure_energy
    from pipeline.places.latency import one_batch

    if not task.energy_s:
        return {}, "benchmark.energy_s is 0"
    batch = task.plan.batch_sizes[0]
    queries = {name: engine.queries(one_batch(inputs, batch))[0] for name, engine in engines.items()}
    return measure_energy(engines, queries, batch=batch, seconds=task.energy_s, progress=progress)


def _memory(task: TimeTask, runtime: Mapping[str, RunFacts]) -> dict[str, int]:
    """Memory of the engines of ONNX Runtime, each with the threads that it was timed with."""
    from export.memory import engine_memory

    rows = [row for row in task.rows if ENGINE_KINDS[row.backend].onnx]
    threads = [runtime[row.id].get("threads") for row in rows]
    found = engine_memory([task.built / row.engine.file for row in rows], threads)
    return {row.id: count for row, count in zip(rows, found, strict=True) if count is not None}


def _fused_here(row: EngineRow) -> bool:
    """ONNX Runtime fuses when it loads a file; what is left can be counted here."""
    return row.precision == "int8" and ENGINE_KINDS[row.backend].onnx


def _operators(file: Path) -> dict[str, int]:
    from export.engines.onnxruntime import optimised_operators

    return optimised_operators(file)
