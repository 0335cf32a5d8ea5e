"""`figkd-pipeline doctor`: what this machine has, what a config needs, and how to get what is missing."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from functools import partial

from export.nvidia import present
from pipeline.config.schema import DeployConfig
from pipeline.core.address import LOCAL
from pipeline.core.errors import PipelineError
from pipeline.places import environment
from pipeline.run.accelerator import idle_gpu
from pipeline.run.back_ends import Graph
from pipeline.run.data_check import DataFindings, look_at_data
from pipeline.run.device_check import device_findings, lack_findings
from pipeline.run.findings import Finding
from pipeline.run.foreseen import lacks
from pipeline.run.own_networks import own_network_faults
from pipeline.run.preflight import class_names_of, existing_parent, network_faults
from pipeline.run.rehearsal import student
from pipeline.run.sharing import remote_finding

# Without these no network can be built; the packages' own findings say so.
_BUILD_NETWORKS = ("torch", "torchvision", "timm")


def examine(config: DeployConfig | None = None) -> list[Finding]:
    """Look at the machine and, if a config is given, at what it needs, here and on its devices."""
    here = [*_machine(allow_cpu=config is not None and config.allow_cpu), *_packages(), *_back_ends(config)]
    if config is None:
        return here
    graph = student(config)
    return [*here, *_targets(config, graph), *_config(config), *device_findings(config, graph)]


def _machine(*, allow_cpu: bool) -> Iterator[Finding]:
    import psutil

    python = sys.version_info
    yield Finding(
        "Python",
        "ok" if python >= (3, 11) else "fault",
        platform.python_version(),
        "" if python >= (3, 11) else "Python 3.11 or later",
    )
    yield Finding("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield Finding("CPU", "ok", f"{environment.cpu_model()}, {environment.cores()} cores")
    memory = psutil.virtual_memory()
    low = memory.available < 3e9
    yield Finding(
        "memory",
        "absent" if low else "ok",
        f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
        "training wants 3 GB or more" if low else "",
    )
    gpu = present()
    if gpu is None:
        fix = "none needed: TensorRT engines are then built where possible, and not run"
        yield Finding("NVIDIA GPU", "absent", "none", fix)
        return
    yield Finding("NVIDIA GPU", "ok", gpu.name + (f", driver {gpu.driver}" if gpu.driver else ""))
    if (idle := idle_gpu()) is None:
        yield Finding("training", "ok", "on the GPU")
    else:
        yield Finding("training", "absent" if allow_cpu else "fault", idle.what, idle.fix)


def _packages() -> Iterator[Finding]:
    for name in ("torch", "torchvision", "timm", "onnx", "onnxruntime", "PyWavelets"):
        version = environment.version_of(name)
        missing = version == "none"
        yield Finding(
            name, "fault" if missing else "ok", version, "pip install figkd-pipeline" if missing else ""
        )


def _back_ends(config: DeployConfig | None) -> Iterator[Finding]:
    from export.engines import BACKENDS

    demanded = (
        {t.engine for t in config.targets.values() if t.required and t.device == "local"} if config else set()
    )
    for name, backend in BACKENDS.items():
        found = backend.availability()
        if not found.built:
            yield Finding(
                f"back end {name}", "fault" if name in demanded else "absent", found.detail, found.fix
            )
        else:
            versions = ", ".join(f"{k} {v}" for k, v in found.versions.items())
            can = "builds and runs" if found.run else f"builds; cannot run: {found.detail}"
            yield Finding(f"back end {name}", "ok", f"{versions}: {can}")


def _targets(config: DeployConfig, graph: Graph) -> Iterator[Finding]:
    """What back ends that are here cannot build of what is asked for."""
    from export.engines import BACKENDS

    for name, target in config.targets.items():
        if target.device == LOCAL and BACKENDS[target.engine].availability().built:
            yield from lack_findings(config, name, None, graph)


def _config(config: DeployConfig) -> Iterator[Finding]:
    # First: where the working folder is gone, torch ends the process.
    folder = existing_parent(config.store.folder)
    data = look_at_data(config)
    for fault in data.faults:
        yield Finding(fault.where, "fault", fault.what, fault.fix)
    if not data.faults:
        yield Finding(
            "data", "ok", f"{config.data.dataset}" + (f" in {config.data.root}" if config.data.root else "")
        )
    for remark in data.left_out:
        what, _, fix = remark.partition("; ")
        yield Finding("data", "absent", what, fix)
    if data.listed:
        for lack in lacks(config, data.listed):
            yield Finding(lack.where, "fault", lack.what, lack.fix)
    for fault in _networks(config, data):
        yield Finding(fault.where, "fault", fault.what, fault.fix)
    yield from remote_finding(config)
    free = shutil.disk_usage(folder).free
    yield Finding(
        "disk", "ok" if free > 2e9 else "fault", f"{free / 1e9:.1f} GB free for {config.store.folder}",
        "" if free > 2e9 else "free some space, or set store: to another disk",
    )  # fmt: skip


def _networks(config: DeployConfig, data: DataFindings) -> Iterator[PipelineError]:
    """What does not fit of weights and networks of the user's own."""
    given = config.teacher.checkpoint or config.student.checkpoint
    if given is None or any(environment.version_of(name) == "none" for name in _BUILD_NETWORKS):
        return own_network_faults(config)
    class_names = (lambda: None) if data.faults else partial(class_names_of, config, data.listed)
    return network_faults(config, class_names, fetch=False)
