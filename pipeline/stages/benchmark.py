"""`benchmark`: the latency of each engine of a target that runs here, with the raw samples kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.config.modes import measured_modes
from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json, write_json
from pipeline.places import environment, pictures
from pipeline.places.images import Images
from pipeline.places.place import TimeTask
from pipeline.results.engine import Int8Share
from pipeline.results.rows.engines import EngineRow, read_engines
from pipeline.results.rows.graphs import write_graphs
from pipeline.results.rows.latency import read_latency, write_latency
from pipeline.results.rows.samples import save_samples
from pipeline.stages import build
from pipeline.stages.base import Arguments, Facts, Stage, Work
from pipeline.stages.engines import onnx_path
from pipeline.stages.precision import images_of
from pipeline.stages.validate import where

# Images that a benchmark cycles through; decoding differs a little between images.
IMAGES = 32


def _arguments(config: DeployConfig, target: str) -> Arguments:
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
    from pipeline.places.latency import Plan

    arguments = work.arguments
    built = work.inputs[f"build@{arguments['target']}"]
    rows = read_engines(built)
    images = images_of(work, open_split(work.inputs["data"], "test").images[:IMAGES])
    given = pictures_of(images, work.inputs["data"], arguments["boundaries"])
    if given.refused:
        work.context.note(f"some test images are of a kind that a bundle does not read: {given.refused}")
    task = TimeTask(
        target=arguments["target"],
        rows=[row for row in rows if row.runs],
        built=built,
        images=images,
        pictures=given,
        plan=Plan.of(arguments),
        threads=arguments["threads"],
        spinning=arguments["spinning"],
        denormals_as_zero=arguments["denormals_as_zero"],
        energy_s=arguments["energy_s"],
        sustained_s=arguments["sustained_s"],
        power_modes=arguments.get("power_modes", []),
    )
    found = work.place.time(task, work.context)
    write_graphs(work.out, int8_graphs(rows, work.inputs, found.operators))
    save_samples(work.out, found.samples)
    write_latency(work.out, found.rows)
    write_json(work.out / "machine.json", found.machine)
    write_json(work.out / "runtime.json", found.runtime)


def pictures_of(images: Images, data: Path, boundaries: Sequence[str]) -> pictures.Pictures:
    """What `image_to_class` decodes, if it is among the boundaries: files that the artifact of `data` kept, or prepared
    images as JPEGs where it has none."""
    from figkd.data.levels import as_json, from_json
    from figkd.data.originals import read_originals

    levels = as_json(from_json(read_json(data / "data.json").get("decoding", {}).get("levels", {})))
    originals = read_originals(data) if "image_to_class" in boundaries else []
    return pictures.pictures_of(
        images, originals, {kind: (low, high) for kind, (low, high) in levels.items()}
    )


def int8_graphs(
    rows: Sequence[EngineRow], inputs: Mapping[str, Path], operators: Mapping[str, Mapping[str, int]]
) -> dict[str, Int8Share]:
    """What of each INT8 engine's ONNX file is INT8, and what ONNX Runtime makes of it; by engine id.

    Args:
        rows: of all engines.
        inputs: artifacts, in which `engines.onnx_path` finds the ONNX files.
        operators: by engine, counts of what ONNX Runtime really runs (`Timed.operators`).
    """
    from export.quantised import quantised_share

    found: dict[str, Int8Share] = {}
    for row in (row for row in rows if row.precision == "int8"):
        path = onnx_path(inputs, row.onnx)
        if path.is_file():
            share = asdict(quantised_share(path)) | {"operators": operators.get(row.id, {})}
            found[row.id] = Int8Share.model_validate(share)
    return found


def _summary(out: Path) -> str:
    rows = [row for row in read_latency(out) if row.boundary == "engine" and row.plain]
    if not rows:
        return "no engine runs here"
    first = rows[0].batch
    parts = (
        f"{row.id.split('/', 1)[1]} {row.median:.3f} ms (n={row.n})" for row in rows if row.batch == first
    )
    return f"median at batch {first}, engine alone: " + ", ".join(parts)


STAGE = Stage(
    name="benchmark",
    does="latency with named boundaries, engines taking turns",
    leaves="statistics and raw samples",
    version=9,
    inputs=("data", "distill", "precision", "qad", "build"),
    arguments=_arguments,
    run=_run,
    summary=_summary,
    environment=_environment,
    device_environment=_device_environment,
    per_target=True,
)
