"""`build`: engines of one target, each from the ONNX file that says its precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.machine import architecture, l4t_release
from figkd.progress import Progress
from pipeline.config.modes import judged_mode
from pipeline.config.schema import DeployConfig
from pipeline.core.errors import EnvironmentFault
from pipeline.core.files import read_json, write_json
from pipeline.places import environment
from pipeline.places.int8_layouts import TENSORRT, Layouts
from pipeline.stages.base import Facts, Stage, Work
from pipeline.stages.engines import BUILDER_KEYS, engine_file, onnx_path, tensorrt_options
from pipeline.stages.precision import NOT_MADE, onnx_file

if TYPE_CHECKING:
    from export.engines.protocol import Availability

DEFAULT_COMPUTE_CAPABILITIES = ("SM86", "SM89", "SM120")
_RETRY = "once the cause is gone, run again with --force build"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_ELSEWHERE = "run the same config on a machine with a GPU that the engine was built for"


def _arguments(config: DeployConfig, target: str) -> dict[str, Any]:
    section = config.targets[target]
    arguments: dict[str, Any] = {
        "target": target,
        "engine": section.engine,
        "device": section.device,
        "precisions": section.precisions or _default_precisions(config, section.engine),
        "batch_sizes": section.batch_sizes,
        "required": section.required,
    }  # fmt: skip
    if section.engine == "onnxruntime":
        arguments["threads"] = section.threads
    else:
        arguments |= {name: getattr(section, name) for name in BUILDER_KEYS[section.engine]}
    if mode := judged_mode(section):
        arguments["power_mode"] = mode
    if section.engine == "tensorrt_rtx":
        arguments["compute_capabilities"] = section.compute_capabilities or list(DEFAULT_COMPUTE_CAPABILITIES)
    return arguments


def _layout_arguments(_config: DeployConfig, target: str, layouts: Layouts) -> dict[str, Any]:
    return {"int8_layout": layouts[target]} if target in layouts else {}


def _default_precisions(config: DeployConfig, engine: str) -> list[str]:
    made = {"fp32", *config.precision.modes}
    # ONNX Runtime's CPU has no BF16 kernels for convolutions and products.
    return [p for p in PRECISIONS if p in made and not (p == "bf16" and engine == "onnxruntime")]


def _environment(arguments: Mapping[str, Any]) -> dict[str, str]:
    engine = arguments["engine"]
    facts = {engine: environment.version_of(engine), "gpu": environment.gpu_name()}
    if engine != "onnxruntime":  # what binds an engine to its machine
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
    from export.engines import BACKENDS
    from export.errors import ExportError

    arguments = work.arguments
    wanted = list(_rows(work))
    if work.device is not None:
        from pipeline.places import device as remote

        remote.build(work, wanted)
        return
    backend = BACKENDS[arguments["engine"]]
    can = backend.availability()
    rows, seconds, notes = [], {}, {}
    options = _options(arguments, work.caches / "timing")
    for done, row in enumerate(wanted):
        if "state" in row:
            rows.append(row)
            continue
        source, capability = onnx_path(work.inputs, row["onnx"]), row["compute_capability"]
        progress = _part(work.progress, done, len(wanted), row["id"].split("/", 1)[1])
        progress(0, 1, "")
        if not can.built:
            if arguments["required"]:
                raise EnvironmentFault(can.detail, where=f"targets.{arguments['target']}.engine", fix=can.fix)
            rows.append(row | {"state": "missing", "runs": False, "detail": can.detail, "fix": can.fix})
            continue
        file = work.out / engine_file(row)
        if capability:
            options["compute_capabilities"] = [capability]
        try:
            info = backend.build(
                source, file, batch_sizes=arguments["batch_sizes"], progress=progress, **options
            )
        except ExportError as error:
            rows.append(
                row | {"state": "failed", "runs": False, "detail": error.what, "fix": error.fix or _RETRY}
            )
            continue
        seconds[row["id"]] = info.build_seconds
        if info.notes:
            notes[row["id"]] = list(info.notes)
        why = _why_not(can, capability)
        rows.append(
            row
            | {
                "state": "built",
                "runs": not why,
                "detail": f"built, not run: {why}" if why else info.remark,
                "fix": _ELSEWHERE if why else "",
                "file": file.name,
                "bytes": file.stat().st_size,
                "layers": info.layers,
                "composition": info.composition,
                **({"skipped_tactics": asdict(info.skipped_tactics)} if info.skipped_tactics else {}),
                "inputs": list(info.inputs),
                "outputs": list(info.outputs),
            }
        )
    write_json(work.out / "engines.json", rows)
    write_json(work.out / "timing.json", seconds)
    write_json(work.out / "notes.json", notes)
    work.progress(100 * len(wanted), 100 * len(wanted), "done")


def _options(arguments: Mapping[str, Any], timing_caches: Path) -> dict[str, Any]:
    if arguments["engine"] == "onnxruntime":
        return {"threads": arguments["threads"]}
    return {"tensorrt": replace(tensorrt_options(arguments), timing_caches=timing_caches)}


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


def _rows(work: Work) -> Iterator[dict[str, Any]]:
    """Rows of `engines.json`, as far as they are known beforehand; complete where the ONNX file was not made."""
    arguments = work.arguments
    not_made = read_json(work.inputs["precision"] / NOT_MADE)
    for precision in arguments["precisions"]:
        name = onnx_file(precision, arguments.get("int8_layout", TENSORRT))
        lack = not_made.get(name)
        source = onnx_path(work.inputs, name)
        for capability in arguments.get("compute_capabilities", [""]):
            engine = "-".join(filter(None, (precision, capability)))
            yield {
                "id": f"{arguments['target']}/{engine}",
                "target": arguments["target"],
                "backend": arguments["engine"],
                "precision": precision,
                "compute_capability": capability,
                "onnx": name,
                "onnx_bytes": None if lack else source.stat().st_size,
                **({"state": "failed", "runs": False} | lack if lack else {}),
            }


def _summary(out: Path) -> str:
    rows = read_json(out / "engines.json")
    parts = []
    for state in ("built", "missing", "failed"):
        members = [row for row in rows if row["state"] == state]
        if members:
            parts.append(
                f"{len(members)} {state}" + (f" ({members[0]['detail']})" if members[0]["detail"] else "")
            )
    return ", ".join(parts)


STAGE = Stage(
    name="build",
    does="engines: ONNX Runtime, TensorRT, TensorRT-RTX",
    leaves="plain engine files with sidecars",
    version=5,
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
