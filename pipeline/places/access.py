"""How a back end is used on a device, from what the device said of itself: pure functions.

An access method is `onnxruntime`, `python` (the Python API of TensorRT or TensorRT-RTX) or `trtexec`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from export.engine_kinds import ENGINE_KINDS
from export.engines import trtexec
from export.engines.trt_refusals import Place, newer
from export.engines.trt_versions import Dialect, dialect
from export.errors import BackendMissing
from export.nvidia import driver_lacks
from pipeline.devices.agent.requests import BuildOptions, BuildRequest, DialectFlags, EngineSpec, LoadOptions
from pipeline.results.rows.engines import EngineRow, Tensor

Facts = Mapping[str, Any]
_DRIVER = (
    "update the driver there and restart (Ubuntu: sudo ubuntu-drivers install nvidia:580), or install TensorRT and "
    "the CUDA runtime for an earlier CUDA"
)


@dataclass(frozen=True)
class AccessMethod:
    """Whether and how a back end can be used on a device; mirrors `export.engines.Availability`."""

    name: str
    built: bool
    run: bool
    detail: str
    fix: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def access_of(facts: Facts, backend: str) -> AccessMethod:
    """The access method for a back end on a device that said `facts` (job `facts`)."""
    found = _ACCESS.get(backend)
    if found is None:
        detail = f"{ENGINE_KINDS[backend].label} engines are built and run on this machine only"
        return AccessMethod("none", False, False, detail, "set targets.NAME.device to local")
    return found(facts, facts.get("packages", {}))


def _onnxruntime(facts: Facts, packages: Mapping[str, str]) -> AccessMethod:
    found = packages.get("onnxruntime")
    if found:
        return AccessMethod(
            "onnxruntime", True, True, f"onnxruntime {found}, CPU", "", {"onnxruntime": found}
        )
    python = facts.get("executable", "python3")
    return AccessMethod(
        "onnxruntime",
        False,
        False,
        f"onnxruntime is not installed for the device's Python {facts.get('python', '')} ({python})",
        "on the device: python3 -m venv ~/figkd && ~/figkd/bin/pip install onnxruntime (JetPack 6: "
        "onnxruntime==1.23.2), and set targets.NAME.remote.python to ~/figkd/bin/python",
    )


def _tensorrt_rtx(facts: Facts, packages: Mapping[str, str]) -> AccessMethod:
    found = packages.get("tensorrt_rtx")
    if not found:
        fix = "on the device: pip install tensorrt_rtx_cu13 nvidia-cuda-runtime numpy (x86-64 Linux)"
        return AccessMethod(
            "python", False, False, "tensorrt_rtx is not installed for the device's Python", fix
        )
    versions = {"tensorrt_rtx": found}
    try:
        dialect("tensorrt_rtx", found)
    except BackendMissing as error:
        return AccessMethod("python", False, False, f"{error.what} on the device", error.fix, versions)
    if not facts.get("gpu"):
        fix = "run engines on a device with an NVIDIA RTX GPU and its driver"
        return AccessMethod(
            "python", True, False, f"tensorrt_rtx {found}; no NVIDIA GPU on the device", fix, versions
        )
    if lacks := _driver_lacks(facts, "cuda_runtime"):
        return AccessMethod(
            "python", False, False, f"tensorrt_rtx {found} on the device: {lacks}", _DRIVER, versions
        )
    return AccessMethod("python", True, True, f"tensorrt_rtx {found}", "", versions)


def _tensorrt(facts: Facts, _packages: Mapping[str, str]) -> AccessMethod:
    trt: Mapping[str, str] = facts.get("tensorrt", {})
    module, program = trt.get("python", ""), trt.get("trtexec_version", "")
    too_old = ""
    for name, version in (("python", module), ("trtexec", program)):
        if not version:
            continue
        try:
            dialect("tensorrt", version) if name == "python" else trtexec.flags(version)
        except BackendMissing as error:  # trtexec serves where the Python API is too old
            too_old = too_old or error.what
            continue
        return _tensorrt_through(facts, name, version)
    if too_old:
        fix = newer(_place(facts, "tensorrt", "python", ""))
        return AccessMethod("python", False, False, f"{too_old} on the device", fix)
    there = ": its library is there, but neither its Python module nor trtexec" if trt.get("library") else ""
    return AccessMethod(
        "python",
        False,
        False,
        f"TensorRT is not installed on the device{there}",
        "on a Jetson: sudo apt install nvidia-jetpack (python3-libnvinfer and libnvinfer-bin are its parts)",
    )


def _tensorrt_through(facts: Facts, name: str, version: str) -> AccessMethod:
    versions = {"tensorrt": version}
    if not facts.get("gpu"):
        fix = "run on a device with an NVIDIA GPU and its driver"
        return AccessMethod(
            name, False, False, f"TensorRT {version}; no NVIDIA GPU on the device", fix, versions
        )
    # The Python API runs engines with the runtime that the loader finds, trtexec with that of the system's CUDA.
    if lacks := _driver_lacks(facts, "cuda" if name == "trtexec" else "cuda_runtime"):
        return AccessMethod(
            name, False, False, f"TensorRT {version} on the device: {lacks}", _DRIVER, versions
        )
    if not facts.get("packages", {}).get("numpy"):
        detail = f"TensorRT {version}, but there is no numpy for the device's Python"
        return AccessMethod(
            name, True, False, detail, "on the device: sudo apt install python3-numpy", versions
        )
    return AccessMethod(
        name, True, True, f"TensorRT {version} through {'Python' if name == 'python' else name}", "", versions
    )


def _driver_lacks(facts: Facts, runtime: str) -> str:
    """Why a desktop's driver cannot run its CUDA; a Jetson's driver comes with its JetPack, and has no version here.

    Args:
        facts: of the device.
        runtime: the fact that has the version of CUDA.
    """
    return driver_lacks(facts.get("driver") or "", facts.get(runtime) or "")


_ACCESS: Mapping[str, Callable[[Facts, Mapping[str, str]], AccessMethod]] = {
    "onnxruntime": _onnxruntime,
    "tensorrt": _tensorrt,
    "tensorrt_rtx": _tensorrt_rtx,
}
"""Back end to how it is used on a device; one that is not here runs on this machine only."""


def place_of(facts: Facts, backend: str) -> Place:
    """The device, as far as it decides which engines of TensorRT or TensorRT-RTX can be built there.

    Only for a back end whose access method is `built`.
    """
    method = access_of(facts, backend)
    return _place(facts, backend, method.name, method.versions[backend])


def _place(facts: Facts, backend: str, method: str, version: str) -> Place:
    return Place(
        backend,
        version,
        "trtexec" if method == "trtexec" else "python",
        jetson=bool(facts.get("l4t")),
        gpu=bool(facts.get("gpu")),
        capability=facts.get("compute_capability") or "",
    )


def environment_of(facts: Facts, backend: str) -> dict[str, str]:
    """What makes an engine of this device useless elsewhere: it goes into the key of what is built there."""
    return {
        backend: next(iter(access_of(facts, backend).versions.values()), "none"),
        "gpu": facts.get("gpu") or "none",
        "compute_capability": facts.get("compute_capability") or "none",
        "l4t": facts.get("l4t") or "none",
        "board": facts.get("board") or "none",
        "architecture": facts.get("machine") or "unknown",
    }


def build_request(
    facts: Facts,
    backend: str,
    *,
    name: str,
    engine_file: str,
    onnx: str,
    source: Tensor,
    precision: str,
    batch_sizes: Sequence[int],
    options: BuildOptions,
    weak_flags: Sequence[str] = (),
    fp32_layers: Sequence[str] = (),
) -> BuildRequest:
    """Request of the job `build`.

    Args:
        facts: of the device.
        backend: as in the config.
        name: id of the engine.
        engine_file: file name to give it.
        onnx: digest of the uploaded ONNX file.
        source: the graph's input, with the batch.
        precision: `fp32`, `fp16` or `int8`; counts where TensorRT is too old for strong typing.
        batch_sizes: sizes that it accepts; one makes a static engine, and the file has it already.
        options: keys of the target that the job takes by the same names, where given.
        weak_flags: the builder flags of the file's precisions, for a build without strong typing.
        fp32_layers: layers whose results such a build must leave FP32 (`trt_fit.Fitted`).

    `export.engines.trt_refusals` has let it through.
    """
    method = access_of(facts, backend)
    fields: BuildRequest = {
        "id": name,
        "backend": backend,
        "access": method.name,
        "onnx": onnx,
        "name": engine_file,
        "batch_sizes": list(batch_sizes),
    }
    request = cast("BuildRequest", {**fields, **options})
    version = next(iter(method.versions.values()), "")
    if method.name == "python":
        request["dialect"] = _flags(
            place_of(facts, backend).dialect, options.get("strong_typing", True), weak_flags, fp32_layers
        )
    if method.name == "trtexec":
        table = trtexec.flags(version)
        shapes = (
            []
            if len(batch_sizes) == 1
            else trtexec.shape_flags(source.name, [int(size) for size in source.shape[1:]], batch_sizes)
        )
        request["trtexec"] = {
            "path": facts["tensorrt"]["trtexec"],
            "build": trtexec.build_arguments(
                table,
                precision=precision,
                strong_typing=options.get("strong_typing", True),
                workspace_mb=options.get("workspace_mb"),
                optimization_level=options.get("optimization_level"),
                fp32_layers=fp32_layers,
                shapes=shapes,
            ),
        }
    if ENGINE_KINDS[backend].one_gpu:
        request["timing_cache"] = timing_cache(facts, version)
    return request


def engine_spec(facts: Facts, row: EngineRow, file: str, options: LoadOptions) -> EngineSpec:
    """How the agent loads an engine (`engines.open_engine`).

    Args:
        facts: of the device.
        row: of the engine.
        file: digest of the engine file.
        options: of ONNX Runtime, where given.
    """
    method, source = access_of(facts, row.backend), row.engine.inputs[0]
    batch, *image = source.shape
    fields: EngineSpec = {
        "id": row.id,
        "backend": row.backend,
        "access": method.name,
        "file": file,
        "batch_sizes": [batch] if isinstance(batch, int) else list(row.engine.batch_sizes),
        "input": {"name": source.name, "dtype": source.dtype, "shape": image},
    }
    spec = cast("EngineSpec", {**fields, **options})
    if method.name == "trtexec":
        table = trtexec.flags(next(iter(method.versions.values())))
        spec["trtexec"] = {
            "path": facts["tensorrt"]["trtexec"],
            "infer": list(table.infer),
            "time": {boundary: list(flags) for boundary, flags in table.time.items()},
        }
    return spec


def _flags(
    chosen: Dialect, strong_typing: bool, weak_flags: Sequence[str], fp32_layers: Sequence[str]
) -> DialectFlags:
    """What the agent needs of a version's dialect."""
    return {
        "strong_typing": strong_typing and chosen.strong_typing,
        "tactic_dram": chosen.tactic_dram,
        "progress_monitor": chosen.progress_monitor,
        "timing_cache": chosen.timing_cache,
        "optimization_level": chosen.optimization_level,
        "compute_capabilities": chosen.compute_capabilities,
        "weak_flags": list(weak_flags),
        "fp32_layers": list(fp32_layers),
    }


def timing_cache(facts: Facts, version: str) -> str:
    """File name of the timing cache: TensorRT's timings hold for one GPU and one version."""
    parts = (facts.get("soc") or facts.get("gpu") or "gpu", facts.get("compute_capability", ""), version)
    plain = "-".join(
        "".join(c if c.isalnum() or c == "." else "_" for c in str(part)) for part in parts if part
    )
    return f"tensorrt-{plain}.timing"


def describe(facts: Facts) -> str:
    """A device in few words: board, JetPack, TensorRT or the CPU."""
    board = facts.get("board") or facts.get("cpu") or facts.get("machine", "")
    jetpack = facts.get("jetpack")
    l4t = facts.get("l4t")
    parts = [board, f"JetPack {jetpack} (L4T {l4t})" if jetpack else l4t and f"L4T {l4t}", facts.get("os")]
    gpu = facts.get("gpu")
    return ", ".join(
        str(part) for part in [*parts[:2], gpu if not facts.get("soc") else None, parts[2]] if part
    )
