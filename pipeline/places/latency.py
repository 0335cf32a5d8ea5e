"""Timing several engines side by side: the benchmark stage's and the `benchmark` command's common core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from export.cautions import Caution
from export.engine_kinds import ENGINE_KINDS
from export.machine import Facts
from export.runtime.load import Load, load_together
from export.runtime.sampling import Limits
from pipeline.results.doubts import MAX_OTHER_CORES, coarse
from pipeline.results.latency import BenchmarkRow, Decoded, Warned

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.engines.protocol import Engine, Samples
    from export.measure import Timer
    from pipeline.places.pictures import Pictures

RATE_ARRIVALS = 1000
"""Arrivals of a fixed-rate measurement whose length is not given: the fewest that have a p99."""


@dataclass(frozen=True)
class Plan:
    """What is measured of each engine, and for how long: the `benchmark` section and a target's batch sizes."""

    batch_sizes: Sequence[int] = (1,)
    """Images in an inference; the first one is what streams and rates are measured at."""
    boundaries: Sequence[str] = ("engine", "engine+copies", "image_to_class")
    streams: Sequence[int] = (1,)
    """Inferences at once; 1 is always measured."""
    rate_fps: float | None = None
    """Arrivals a second of the fixed-rate measurement; None leaves it out."""
    rate_seconds: float | None = None
    """Its length; None: 1,000 arrivals."""
    warmup_s: float = 0.2
    min_samples: int = 1000
    min_seconds: float = 3.0
    max_seconds: float = 10.0
    rounds: int = 10

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Plan:
        """Of a target: its batch sizes and the keys of the `benchmark` section."""
        names = {field.name for field in fields(cls)}
        known = {key: value for key, value in arguments.items() if key in names}
        return cls(warmup_s=arguments["warmup_ms"] / 1000, **known)

    @property
    def limits(self) -> Limits:
        """How long a case is measured."""
        return Limits(self.warmup_s, self.min_samples, self.min_seconds, self.max_seconds)

    @property
    def rate_limits(self) -> Limits:
        """How long a fixed rate is measured; its arrivals cannot be hurried."""
        assert self.rate_fps is not None
        arrivals = max(1, round(self.rate_fps * self.rate_seconds)) if self.rate_seconds else RATE_ARRIVALS
        # A device that does not keep the rate needs longer for the same arrivals, up to twice.
        return Limits(self.warmup_s, arrivals, 0.0, 2 * arrivals / self.rate_fps)


@dataclass(frozen=True)
class Case:
    """One row of the statistics."""

    engine: str
    batch: int
    boundary: str
    streams: int = 1
    rate_fps: float | None = None
    power_mode: str = ""
    """Of a device that was measured in several."""

    @property
    def name(self) -> str:
        """Name of its raw samples."""
        extra = f"|{self.streams} streams" if self.streams > 1 else ""
        extra += f"|{self.rate_fps:g} fps" if self.rate_fps else ""
        extra += f"|{self.power_mode}" if self.power_mode else ""
        return f"{self.engine}|{self.batch}|{self.boundary}{extra}"


@dataclass(frozen=True)
class Measured:
    """Statistics, the raw samples behind them in ms, and facts about the machine."""

    statistics: list[BenchmarkRow]
    samples: dict[str, dict[str, np.ndarray]]
    machine: Facts


def measure_engines(
    engines: Mapping[str, Engine],
    pictures: Pictures,
    inputs: Mapping[str, npt.NDArray[Any]],
    *,
    plan: Plan,
    progress: Callable[[int, int, str], None],
) -> Measured:
    """Time every engine in every way that the plan asks for, taking turns.

    Args:
        engines: by id.
        pictures: what `image_to_class` decodes.
        inputs: prepared images as each engine takes them, [N, ...], by id.
        plan: what to measure.
        progress: called as progress(done, total, note).
    """
    from export.machine import machine_facts
    from export.measure import MAX_ROUNDS_PERCENT, measure_rounds
    from export.runtime.readings import clocks as read_clocks
    from pipeline.results.clocks import summarise

    closed = list(_closed(engines, pictures, inputs, plan))
    paced = list(_paced(engines, pictures, inputs, plan))
    before, readings = machine_facts(), [read_clocks()]
    warm_up = _warm_up(engines, inputs, plan)
    readings.append(read_clocks())
    samples: dict[str, Samples] = {}
    loads: list[Load] = []
    repeated = further = done = 0
    for cases, limits in ((closed, plan.limits), (paced, plan.rate_limits if paced else plan.limits)):
        if not cases:
            continue
        after = plan.rounds * len(paced) if cases is closed else 0
        found = measure_rounds(
            [(case.name, timer) for case, timer in cases],
            limits,
            rounds=plan.rounds,
            max_load=MAX_OTHER_CORES,
            agree=MAX_ROUNDS_PERCENT / 100 if cases is closed else None,  # arrivals cannot be hurried
            progress=lambda now, of, note, done=done, after=after: progress(
                done + now, done + of + after, note
            ),  # type: ignore[misc]
        )
        samples |= found.samples()
        loads += [each.load for each in found.kept]
        repeated += found.repeated
        further += found.further
        done += found.turns
    counts = {"rounds": len(loads), "repeated_rounds": repeated, "further_rounds": further}
    during = load_together(loads) | counts
    others = others_at_work(during)
    decoded = pictures.facts() if "image_to_class" in plan.boundaries else None
    rows = [statistics(case, samples[case.name], others, decoded) for case, _ in (*closed, *paced)]
    raw = {name: dict(found.arrays) for name, found in samples.items()}
    readings.append(read_clocks())
    clocks = summarise(readings, warm_up)
    machine = {"before": before, "during": during, "after": machine_facts()}
    return Measured(rows, raw, machine | {"clocks": clocks.model_dump() if clocks else None})


def _warm_up(
    engines: Mapping[str, Engine], inputs: Mapping[str, npt.NDArray[Any]], plan: Plan
) -> dict[str, Facts]:
    """Bring the GPU to working clocks with each engine on it, beside the warm-up of each case."""
    from export.runtime.warmup import gpu_mhz, warm_until_steady

    found: dict[str, Facts] = {}
    for name, engine in engines.items() if gpu_mhz() is not None else ():
        if not ENGINE_KINDS[engine.backend].gpu:
            continue
        query = engine.queries(one_batch(inputs[name], plan.batch_sizes[0]))[0]
        if warm := warm_until_steady(query):
            found[name] = warm.facts()
    return found


def others_at_work(during: Mapping[str, float]) -> list[Caution]:
    """Who else was at work, if it was more than a system's own housekeeping."""
    others, stolen = during.get("other_cores", 0.0), during.get("steal_cores", 0.0)
    if max(others, stolen) <= MAX_OTHER_CORES:
        return []
    return [Caution("others_at_work", {"others": others, "stolen": stolen})]


def _closed(
    engines: Mapping[str, Engine],
    pictures: Pictures,
    inputs: Mapping[str, npt.NDArray[Any]],
    plan: Plan,
) -> Iterator[tuple[Case, Timer]]:
    """One query after the other, alone or in several streams."""
    from export.load import closed_loop
    from export.runtime.sampling import sample

    for boundary in plan.boundaries:
        if boundary == "image_to_class":
            for name, step in _steps(engines, pictures).items():
                yield Case(name, 1, boundary), partial(sample, step, batch=1, boundary=boundary)
            continue
        for batch in plan.batch_sizes:
            images = {name: one_batch(inputs[name], batch) for name in engines}
            for name, engine in engines.items():
                timer = partial(engine.time, images[name], boundary=boundary)
                yield Case(name, batch, boundary), timer
            # Streams at the first batch size: each number of them is one more case an engine.
            for streams in (n for n in plan.streams if n > 1 and batch == plan.batch_sizes[0]):
                for name, engine in engines.items():
                    queries = engine.queries(images[name], boundary=boundary, streams=streams)
                    together = partial(closed_loop, queries, batch=batch, boundary=boundary)
                    yield Case(name, batch, boundary, streams=streams), together


def _paced(
    engines: Mapping[str, Engine],
    pictures: Pictures,
    inputs: Mapping[str, npt.NDArray[Any]],
    plan: Plan,
) -> Iterator[tuple[Case, Timer]]:
    """Queries that come at a fixed rate: of one image, because a camera does not send batches."""
    from export.load import fixed_rate

    if plan.rate_fps is None:
        return
    queries: dict[str, Mapping[str, Callable[[], object]]] = {}
    batch = min(plan.batch_sizes)
    if "engine" in plan.boundaries:
        queries["engine"] = {
            name: engine.queries(one_batch(inputs[name], batch))[0] for name, engine in engines.items()
        }
    if "image_to_class" in plan.boundaries:
        queries["image_to_class"] = _steps(engines, pictures)
    for boundary, members in queries.items():
        images_a_query = batch if boundary == "engine" else 1
        for name, query in members.items():
            timer = partial(fixed_rate, query, rate=plan.rate_fps, batch=images_a_query, boundary=boundary)
            yield Case(name, images_a_query, boundary, rate_fps=plan.rate_fps), timer


def _steps(engines: Mapping[str, Engine], pictures: Pictures) -> dict[str, Callable[[], dict[str, float]]]:
    from export.errors import ExportError
    from export.runtime.bundle.timing import image_to_class

    found = {}
    for name, engine in engines.items():
        spec = pictures.preprocessing
        if spec.dtype == "uint8":  # files that are given by path may take smaller images than the data's
            spec = replace(spec, size=engine.input_shape[0])
        if spec.size > spec.side:
            raise ExportError(f"image size {spec.size} does not fit into store size {spec.side}")
        found[name] = image_to_class(engine, pictures.encoded, spec)
    return found


def one_batch(inputs: npt.NDArray[Any], batch: int) -> npt.NDArray[Any]:
    """So many images, repeated where there are fewer."""
    import numpy as np

    return np.ascontiguousarray(np.resize(inputs, (batch, *inputs.shape[1:])))


def statistics(
    case: Case, found: Samples, others: Sequence[Caution] = (), decoded: Decoded | None = None
) -> BenchmarkRow:
    """The statistics of a case's samples.

    Args:
        case: what was timed.
        found: its samples.
        others: cautions that hold for all cases alike.
        decoded: what was decoded, of cases that decode.
    """
    import numpy as np

    from export.load import rate_figures
    from export.measure import latency_stats

    stats = latency_stats(
        found.latency, batch=case.batch, wall_seconds=found.wall_seconds, rounds=found.rounds
    )
    paced = rate_figures(found, case.rate_fps) if case.rate_fps else None
    coarse_clock = coarse(found.resolution_ms, stats.median) if found.resolution_ms else []
    cautions = [*(paced.cautions if paced else ()), *stats.cautions, *coarse_clock, *others]
    return BenchmarkRow(
        id=case.engine,
        batch=case.batch,
        boundary=cast("Literal['engine', 'engine+copies', 'image_to_class']", case.boundary),
        streams=case.streams,
        power_mode=case.power_mode,
        samples=case.name,
        notes=list(found.notes),
        n=stats.n,
        min=stats.min,
        mean=stats.mean,
        median=stats.median,
        max=stats.max,
        p90=stats.p90,
        p95=stats.p95,
        p99=stats.p99,
        std=stats.std,
        cv_percent=stats.cv_percent,
        throughput=stats.throughput_images_per_s,
        drift_percent=stats.drift_percent,
        outlier_percent=stats.outlier_percent,
        intervals=stats.intervals,
        round_medians=stats.round_medians,
        rate_fps=case.rate_fps,
        deadline_misses=paced.deadline_misses if paced else None,
        deadline_miss_percent=paced.deadline_miss_percent if paced else None,
        keeps_rate=paced.keeps_rate if paced else None,
        resolution_ms=found.resolution_ms,
        warnings=[Warned(code=caution.code, values=caution.values) for caution in cautions],
        decoded=decoded if case.boundary == "image_to_class" else None,
        median_of_parts_ms={k: float(np.median(v)) for k, v in found.arrays.items() if k != "latency"},
    )
