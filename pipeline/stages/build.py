"""`build`: engines of one target, each from the ONNX file that says its precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import environment
from pipeline.config.schema import DeployConfig
from pipeline.errors import EnvironmentFault
from pipeline.files import read_json, write_json
from pipeline.stages.base import Stage, Work
from pipeline.stages.precision import onnx_file

DEFAULT_COMPUTE_CAPABILITIES = ("SM86", "SM89", "SM120")
_RETRY = "once the cause is gone, run again with --force build"
PRECISIONS = ("fp32", "fp16", "int8")
_ELSEWHERE = "run the same config on a machine with a GPU that the engine was built for"
_SUFFIX = {"onnxruntime": "onnx", "tensorrt": "engine", "tensorrt_rtx": "engine"}


def _arguments(config: DeployConfig, target: str) -> dict[str, Any]:
    section = config.targets[target]
    arguments: dict[str, Any] = {
        "target": target,
        "engine": section.engine,
        "device": section.device,
        "precisions": section.precisions or [p for p in PRECISIONS if p in {"fp32", *config.precision.modes}],
        "batch_sizes": section.batch_sizes,
        "required": section.required,
    }  # fmt: skip
    if section.engine == "onnxruntime":
        arguments["threads"] = section.threads
    else:
        arguments["workspace_mb"] = section.workspace_mb
    if section.engine == "tensorrt":
        arguments["optimization_level"] = section.optimization_level
    if section.engine == "tensorrt_rtx":
        arguments["compute_capabilities"] = section.compute_capabilities or list(DEFAULT_COMPUTE_CAPABILITIES)
    return arguments


def _environment(arguments: Mapping[str, Any]) -> dict[str, str]:
    engine = arguments["engine"]
    return {engine: environment.version_of(engine), "gpu": environment.gpu_name()}


def _run(work: Work) -> None:
    from export.engines import BACKENDS
    from export.errors import ExportError

    arguments = work.arguments
    backend = BACKENDS[arguments["engine"]]
    can = backend.availability()
    rows, seconds = [], {}
    wanted = list(_rows(arguments))
    for done, (precision, capability) in enumerate(wanted):
        name = "-".join(filter(None, (precision, capability)))
        source = work.inputs["precision"] / onnx_file(arguments["engine"], precision)
        row: dict[str, Any] = {
            "id": f"{arguments['target']}/{name}",
            "target": arguments["target"],
            "backend": arguments["engine"],
            "precision": precision,
            "compute_capability": capability,
            "onnx": source.name,
            "onnx_bytes": source.stat().st_size,
        }
        work.progress(done, len(wanted), name)
        if not can.built:
            if arguments["required"]:
                raise EnvironmentFault(can.detail, where=f"targets.{arguments['target']}.engine", fix=can.fix)
            rows.append(row | {"state": "missing", "runs": False, "detail": can.detail, "fix": can.fix})
            continue
        file = work.out / f"{name}.{_SUFFIX[arguments['engine']]}"
        known = ("workspace_mb", "optimization_level", "threads")
        options = {key: arguments[key] for key in known if arguments.get(key) is not None}
        if capability:
            options["compute_capabilities"] = [capability]
        try:
            info = backend.build(source, file, batch_sizes=arguments["batch_sizes"], **options)
        except ExportError as error:
            rows.append(
                row | {"state": "failed", "runs": False, "detail": error.what, "fix": error.fix or _RETRY}
            )
            continue
        seconds[row["id"]] = info.build_seconds
        rows.append(
            row
            | {
                "state": "built",
                "runs": can.run,
                "detail": "" if can.run else f"built, not run: {can.detail}",
                "fix": "" if can.run else _ELSEWHERE,
                "file": file.name,
                "bytes": file.stat().st_size,
                "layers": info.layers,
                "inputs": list(info.inputs),
                "outputs": list(info.outputs),
            }
        )
    write_json(work.out / "engines.json", rows)
    write_json(work.out / "timing.json", seconds)
    work.progress(len(wanted), len(wanted), "done")


def _rows(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for precision in arguments["precisions"]:
        for capability in arguments.get("compute_capabilities", [""]):
            yield precision, capability


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
    version=1,
    inputs=("precision",),
    arguments=_arguments,
    run=_run,
    summary=_summary,
    environment=_environment,
    volatile=frozenset({"timing.json"}),
    per_target=True,
)
