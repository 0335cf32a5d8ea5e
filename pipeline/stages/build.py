"""`build`: engines of one target, each from the ONNX file that says its precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from export.engine_kinds import ENGINE_KINDS
from export.machine import architecture
from export.runtime.readings import l4t_release
from pipeline.config.modes import judged_mode
from pipeline.config.schema import DeployConfig
from pipeline.core.files import write_json
from pipeline.places import environment
from pipeline.places.builder import BUILDER_KEYS, tensorrt_options
from pipeline.places.int8_layouts import TENSORRT, Layouts
from pipeline.places.kept import NOTHING, Engines
from pipeline.places.place import FACTS_FILE, BuildTask
from pipeline.results.rows.engines import Wanted, read_engines, read_not_made, write_engines
from pipeline.stages.base import Arguments, Facts, Stage, Work
from pipeline.stages.engines import onnx_path
from pipeline.stages.precision import onnx_file

DEFAULT_COMPUTE_CAPABILITIES = ("SM86", "SM89", "SM120")


def _arguments(config: DeployConfig, target: str) -> Arguments:
    section = config.targets[target]
    arguments: Arguments = {
        "target": target,
        "engine": section.engine,
        "device": section.device,
        "precisions": section.precisions or _default_precisions(config, section.engine),
        "batch_sizes": section.batch_sizes,
        "required": section.required,
    }  # fmt: skip
    options = ENGINE_KINDS[section.engine].options
    if "threads" in options:
        arguments["threads"] = section.threads
    arguments |= {name: getattr(section, name) for name in BUILDER_KEYS[section.engine]}
    if mode := judged_mode(section):
        arguments["power_mode"] = mode
    if "compute_capabilities" in options:
        arguments["compute_capabilities"] = section.compute_capabilities or list(DEFAULT_COMPUTE_CAPABILITIES)
    return arguments


def _layout_arguments(_config: DeployConfig, target: str, layouts: Layouts) -> Arguments:
    return {"int8_layout": layouts[target]} if target in layouts else {}


def _default_precisions(config: DeployConfig, engine: str) -> list[str]:
    made = {"fp32", *config.precision.modes}
    return [precision for precision in ENGINE_KINDS[engine].precisions if precision in made]


def _environment(arguments: Mapping[str, Any]) -> dict[str, str]:
    engine = arguments["engine"]
    facts = {engine: environment.version_of(engine), "gpu": environment.gpu_name()}
    if ENGINE_KINDS[engine].gpu:  # what binds an engine to its machine
        facts |= {
            "compute_capability": environment.gpu_compute_capability(),
            "architecture": architecture(),
            "l4t": l4t_release() or "none",
        }
    return facts


def device_environment(facts: Facts, arguments: Mapping[str, Any]) -> dict[str, str]:
    """What makes an engine of a device useless elsewhere."""
    from pipeline.places.access import environment_of

    return environment_of(facts, arguments["engine"])


def _run(work: Work) -> None:
    wanted = list(wanted_engines(work))
    found = work.place.build(_task(work, wanted), work.context)
    write_engines(work.out, found.rows)
    write_json(work.out / "timing.json", found.seconds)
    write_json(work.out / "notes.json", found.notes)
    if found.facts is not None:
        write_json(work.out / FACTS_FILE, found.facts)


def _task(work: Work, wanted: Sequence[Wanted]) -> BuildTask:
    arguments = work.arguments
    return BuildTask(
        target=arguments["target"],
        backend=arguments["engine"],
        wanted=wanted,
        onnx={each.onnx: onnx_path(work.inputs, each.onnx) for each in wanted},
        not_made=read_not_made(work.inputs["precision"]),
        batch_sizes=arguments["batch_sizes"],
        threads=arguments.get("threads"),
        tensorrt=tensorrt_options(arguments),
        builder_keys=BUILDER_KEYS[arguments["engine"]],
        power_mode=arguments.get("power_mode"),
        required=arguments["required"],
        out=work.out,
        timing_caches=work.caches / "timing",
        kept=Engines(work.caches / "engines", work.since) if work.caches != Path() else NOTHING,
    )


def wanted_engines(work: Work) -> Iterator[Wanted]:
    """The engines of a target: one for each precision and kind of GPU."""
    arguments = work.arguments
    not_made = read_not_made(work.inputs["precision"])
    for precision in arguments["precisions"]:
        name = onnx_file(precision, arguments.get("int8_layout", TENSORRT))
        source = onnx_path(work.inputs, name)
        for capability in arguments.get("compute_capabilities", [""]):
            engine = "-".join(filter(None, (precision, capability)))
            yield Wanted(
                id=f"{arguments['target']}/{engine}",
                target=arguments["target"],
                backend=arguments["engine"],
                precision=precision,
                compute_capability=capability,
                onnx=name,
                onnx_bytes=None if name in not_made else source.stat().st_size,
            )


def _summary(out: Path) -> str:
    rows = read_engines(out)
    parts = []
    for state in ("built", "missing", "failed"):
        members = [row for row in rows if row.state == state]
        if members:
            parts.append(f"{len(members)} {state}" + (f" ({members[0].detail})" if members[0].detail else ""))
    return ", ".join(parts)


STAGE = Stage(
    name="build",
    does="engines: ONNX Runtime, TensorRT, TensorRT-RTX",
    leaves="plain engine files with sidecars",
    version=6,
    inputs=("precision", "qad"),
    arguments=_arguments,
    layout_arguments=_layout_arguments,
    run=_run,
    summary=_summary,
    environment=_environment,
    device_environment=device_environment,
    volatile=frozenset({"timing.json", "notes.json", "device.json", "build.log"}),
    per_target=True,
)
