"""`benchmark`: the latency of each engine of a target that runs here, with the raw samples kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figkd.progress import Progress
from pipeline.config.modes import measured_modes
from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json, write_json
from pipeline.places import environment
from pipeline.stages import build
from pipeline.stages.base import Facts, Stage, Work
from pipeline.stages.engines import onnx_path
from pipeline.stages.validate import where

if TYPE_CHECKING:
    import numpy.typing as npt

    from export.engines.protocol import Engine

# Images that a benchmark cycles through; decoding differs a little between images.
IMAGES = 32
# Sampling time of each number of threads, where the fastest is chosen.
CHOOSING_S = 0.5


def _arguments(config: DeployConfig, target: str) -> dict[str, Any]:
    section = config.targets[target]
    return {
        "target": target,
        "engine": section.engine,
        "threads": section.threads,
        "spinning": section.spinning,
        "denormals_as_zero": section.denormals_as_zero,
        "batch_sizes": section.batch_sizes,
        "image_size": config.data.image_size,
        "input": config.export.input,
        **config.benchmark.model_dump(mode="json"),
        **where(section),
        **({"power_modes": modes} if (modes := measured_modes(section)) else {}),
    }


def _environment(arguments: Mapping[str, Any]) -> dict[str, str]:
    machine = {"cpu": environment.cpu_model(), "cores": str(environment.cores())}
    return machine | dict(build.STAGE.environment(arguments))


def _device_environment(facts: Facts, arguments: Mapping[str, Any]) -> dict[str, str]:
    mode = facts.get("power_mode", {}).get("name", "none")
    machine = {"cpu": str(facts.get("cpu")), "cores": str(facts.get("cores")), "power_mode": mode}
    return machine | build.device_environment(facts, arguments)


def _run(work: Work) -> None:
    from figkd.data import open_split
    from pipeline.places.latency import Plan, measure_engines, save_samples
    from pipeline.stages.precision import inputs_of

    arguments = work.arguments
    built = work.inputs[f"build@{arguments['target']}"]
    rows = read_json(built / "engines.json")
    runnable = [row for row in rows if row["runs"]]
    graphs = int8_graphs(rows, work.inputs, here=work.device is None)
    write_json(work.out / "graphs.json", graphs)
    if work.device is not None:
        from pipeline.places import device as remote

        remote.benchmark(work, runnable, IMAGES)
        return
    stored = open_split(work.inputs["data"], "test").images[:IMAGES]
    inputs = inputs_of(work, stored)
    engines: dict[str, Engine] = {}
    told: dict[str, Any] = {}
    try:
        for done, row in enumerate(runnable):
            work.progress(done, len(runnable), f"loading {row['id']}")
            engines[row["id"]], tried = load_tuned(row["backend"], built / row["file"], inputs, arguments)
            told[row["id"]] = engines[row["id"]].facts | ({"threads_tried": tried} if tried else {})
        found = measure_engines(
            engines,
            stored,
            dict.fromkeys(engines, inputs),
            plan=Plan.of(arguments),
            progress=work.progress,
        )
        energy, reason = _energy(engines, inputs, arguments, work.progress)
    finally:
        for engine in engines.values():
            engine.close()
    save_samples(work.out / "samples.npz", found.samples)
    write_json(work.out / "latency.json", found.statistics)
    power = {"energy": energy} | ({"energy_not_available": reason} if reason else {})
    write_json(work.out / "machine.json", found.machine | power)
    write_json(work.out / "runtime.json", told)


def load_tuned(
    backend: str, path: Path, inputs: npt.NDArray[Any], arguments: Mapping[str, Any]
) -> tuple[Engine, list[dict[str, Any]]]:
    """Load an engine as its target says; where that leaves the threads open, with the fastest number of them.

    Returns:
        The engine, and the other numbers of threads that were tried (`threads.fastest_threads`).
    """
    from export.engines import BACKENDS
    from pipeline.places.latency import one_batch
    from pipeline.places.threads import fastest_threads

    def load(threads: int | None) -> Engine:
        return BACKENDS[backend].load(
            path,
            threads=threads,
            spinning=arguments["spinning"],
            denormals_as_zero=arguments["denormals_as_zero"],
        )

    if arguments["threads"] is not None or backend != "onnxruntime":
        return load(arguments["threads"]), []
    images = one_batch(inputs, arguments["batch_sizes"][0])
    seconds = min(CHOOSING_S, arguments["min_seconds"])
    return fastest_threads(load, (1, environment.cores()), images, seconds)


def _energy(
    engines: Mapping[str, Engine], inputs: npt.NDArray[Any], arguments: Mapping[str, Any], progress: Progress
) -> tuple[dict[str, Any], str]:
    """Energy of each engine at the first batch size, or why it is not known."""
    from pipeline.places.energy import measure_energy
    from pipeline.places.latency import one_batch

    if not arguments["energy_s"]:
        return {}, "benchmark.energy_s is 0"
    batch = arguments["batch_sizes"][0]
    queries = {name: engine.queries(one_batch(inputs, batch))[0] for name, engine in engines.items()}
    return measure_energy(engines, queries, batch=batch, seconds=arguments["energy_s"], progress=progress)


def int8_graphs(
    rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, Path], *, here: bool
) -> dict[str, Any]:
    """What of each INT8 engine's ONNX file is INT8, and what ONNX Runtime makes of it; by engine id.

    Args:
        rows: of `engines.json`.
        inputs: artifacts, in which `engines.onnx_path` finds the ONNX files.
        here: the engines run on this machine, so that its ONNX Runtime fuses as theirs does.
    """
    from export.engines.onnxruntime import optimised_operators
    from export.quantised import quantised_share

    found: dict[str, Any] = {}
    for row in (row for row in rows if row["precision"] == "int8"):
        path = onnx_path(inputs, row["onnx"])
        if not path.is_file():
            continue
        operators = optimised_operators(path) if here and row["backend"] == "onnxruntime" else {}
        found[row["id"]] = quantised_share(path) | {"operators": operators}
    return found


def _summary(out: Path) -> str:
    rows = [
        row
        for row in read_json(out / "latency.json")
        if row["boundary"] == "engine" and row["streams"] == 1 and "rate_fps" not in row
    ]
    if not rows:
        return "no engine runs here"
    first = rows[0]["batch"]
    parts = (
        f"{row['id'].split('/', 1)[1]} {row['median']:.3f} ms (n={row['n']})"
        for row in rows
        if row["batch"] == first
    )
    return f"median at batch {first}, engine alone: " + ", ".join(parts)


STAGE = Stage(
    name="benchmark",
    does="latency with named boundaries, engines taking turns",
    leaves="statistics and raw samples",
    version=6,
    inputs=("data", "distill", "precision", "qad", "build"),
    arguments=_arguments,
    run=_run,
    summary=_summary,
    environment=_environment,
    device_environment=_device_environment,
    per_target=True,
)
