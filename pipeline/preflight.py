"""What must be true before anything runs: data, disk, models, back ends, devices. All faults in one go."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from figkd.data.view_kinds import view_count
from figkd.errors import FigkdError
from pipeline.conductor import Planned
from pipeline.config.schema import DeployConfig
from pipeline.devices.known import KnownDevices, device_of
from pipeline.errors import ConfigError, DeviceFault, EnvironmentFault, PipelineError
from pipeline.files import read_json
from pipeline.stages import data as data_stage
from pipeline.stages.logits import is_cached
from pipeline.stages.training import views_arguments

# What a run needs beside its data: checkpoints, ONNX files, engines.
_SPARE_BYTES = 1_000_000_000

# Showing each of a few views this often is worth a warning: a rule of thumb (docs/caching.md).
_REPEATS_WORTH_A_WARNING = 5


def preflight(
    config: DeployConfig,
    planned: Sequence[Planned],
    note: Callable[[str], None],
    known: KnownDevices | None = None,
) -> None:
    """Check what the steps that are going to run will need.

    Args:
        config: the deploy config.
        planned: the plan; steps that are cached need nothing.
        note: told about what is missing and not required.
        known: the run's devices; without, they are not looked at.

    Raises:
        PipelineError: every fault; the exit code is that of the gravest (config, then device, then environment).
    """
    running = {p.step.stage.name for p in planned if p.state == "run"}
    targets = {p.step.target for p in planned if p.state == "run" and p.step.target}
    building = "build" in running
    faults: list[PipelineError] = []
    if known:
        faults += _devices(config, targets, known, note, building=building)
    if building:
        faults += _back_ends(config, targets, note)
    faults += _packages(config, running)
    found = list(data_faults(config)) if "data" in running else []
    faults += found
    cost = cache_cost(config, planned)
    if not found and running & {"data", "logits"}:
        faults += _disk(config, packing="data" in running, cache=cost)
    if cost is not None:
        note(f"logits: {cost}")
    if "distill" in running and (warning := few_views(config)):
        note(warning)
    if running & {"teacher", "logits", "distill"}:
        faults += _models(config, fetch=not faults)
    if not faults:
        return
    if len(faults) == 1:
        raise faults[0]
    gravest = next(
        f for kind in (ConfigError, DeviceFault, PipelineError) for f in faults if isinstance(f, kind)
    )
    text = "\n".join(f"  {str(f).replace(chr(10), chr(10) + '  ')}" for f in faults)
    raise type(gravest)(f"{len(faults)} things are missing before this can run\n{text}")


def check_places(config: DeployConfig) -> None:
    """Refuse a store or an output folder that cannot be written, before anything looks into them."""
    for key in ("store", "output"):
        folder: Path = getattr(config, key)
        parent = existing_parent(folder)
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise EnvironmentFault(
                f"{folder} cannot be written", where=key, fix="name a folder that you may write to"
            )


def data_faults(config: DeployConfig) -> Iterator[PipelineError]:
    """What is wrong with the data folder (for preflight and doctor)."""
    from figkd.data import check

    for problem in check(config.data.dataset, config.data.root, dict(config.data.options)):
        where = "data.root" if config.data.root else "data"
        what, _, fix = problem.partition("; ")  # the loaders say first what is missing, then how to get it
        yield EnvironmentFault(what, where=where, fix=fix.replace("\n", "\n       "))


@dataclass(frozen=True)
class CacheCost:
    """What the cache of the teacher's logits will take."""

    images: int
    views: int
    classes: int

    @property
    def bytes(self) -> int:
        """On disk; memory only holds what is being read."""
        return 2 * self.images * self.views * self.classes

    def __str__(self) -> str:
        return (
            f"the cache will take {_size(self.bytes)} of disk ({self.images:,} images x {self.views} views x "
            f"{self.classes} classes x 2 bytes); an epoch reads {_size(self.bytes // self.views)} of it"
        )


def cache_cost(config: DeployConfig, planned: Sequence[Planned]) -> CacheCost | None:
    """What `logits` is going to write; None if nothing, or if the data are not prepared yet."""
    steps = {p.step.id: p for p in planned}
    data, logits = steps.get("data"), steps.get("logits")
    if not is_cached(config) or logits is None or logits.state == "cached" or not data or not data.artifact:
        return None
    facts = read_json(data.artifact.path / "data.json")
    views = views_arguments(config.distill)["count"]
    return CacheCost(facts["counts"]["train"], views, facts["classes"])


def few_views(config: DeployConfig) -> str:
    """A warning if the student sees the same few views again and again by the config's choice; else empty."""
    distill = config.distill
    views = distill.views
    kept = views_arguments(distill)["count"]
    possible = view_count(views.kind, views.pad, None, distill.epochs)
    if views.count is None or distill.epochs < _REPEATS_WORTH_A_WARNING * kept or kept >= possible:
        return ""
    return (
        f"distill.views.count = {kept}: in {distill.epochs} epochs each view is seen {distill.epochs / kept:.0f} "
        f"times, and few fixed views overfit; without the key there are {possible}"
    )


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _packages(config: DeployConfig, running: Collection[str]) -> Iterator[PipelineError]:
    for name, section in (("teacher", config.teacher), ("distill", config.distill)):
        if name in running and section.tensorboard and importlib.util.find_spec("tensorboard") is None:
            yield EnvironmentFault(
                "the package tensorboard is not installed",
                where=f"{name}.tensorboard",
                fix="pip install 'figkd-pipeline[tensorboard]', or set it to false",
            )


def _disk(config: DeployConfig, *, packing: bool, cache: CacheCost | None) -> Iterator[PipelineError]:
    from figkd.data import DATASETS, source_files

    data = config.data
    needed = _SPARE_BYTES + (cache.bytes if cache else 0)
    if packing and DATASETS[data.dataset].needs_root and data.decode == "ahead":
        side = data_stage.STAGE.arguments(config, "")["store_size"]
        needed += 3 * side * side * len(source_files(data.dataset, data.root, dict(data.options)))
    folder = existing_parent(config.store)
    free = shutil.disk_usage(folder).free
    if free < needed:
        yield EnvironmentFault(
            f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free on the disk of {folder}",
            where="store",
            fix="free some space, or set store: to a folder on another disk; smaller are data.store_size, "
            "data.decode: on_the_fly, distill.views.count and distill.teacher_logits: online",
        )


def _models(config: DeployConfig, *, fetch: bool) -> Iterator[PipelineError]:
    # Fetching weights can take minutes (and many retries without a network): not where the run cannot start anyway.
    from figkd.models import build_model

    size = config.data.image_size
    for key, name, pretrained in (
        ("teacher", config.teacher.model, config.teacher.pretrained),
        ("student", config.student.model, config.student.pretrained),
    ):
        try:
            build_model(name, 2, image_size=size, pretrained=pretrained and fetch)
        except FigkdError as error:
            kind = EnvironmentFault if pretrained and "weights" in error.what else ConfigError
            yield kind(error.what, where=f"{key}.model", fix=error.fix)


def _back_ends(
    config: DeployConfig, targets: set[str], note: Callable[[str], None]
) -> Iterator[PipelineError]:
    from export.engines import BACKENDS

    for name, target in config.targets.items():
        if name not in targets or target.device != "local":
            continue
        found = BACKENDS[target.engine].availability()
        what, fix = _refusal(config, name) if found.built else (found.detail, found.fix)
        if not what:
            continue
        if target.required:
            yield EnvironmentFault(what, where=f"targets.{name}.engine = {target.engine}", fix=fix)
        else:
            note(f"targets.{name}: {what}; its rows will say so ({fix})")


def _refusal(config: DeployConfig, name: str) -> tuple[str, str]:
    """What this machine's TensorRT does not have of what a target asks for, and the fix; empty if nothing."""
    from export.engines.options import TensorRTOptions
    from export.engines.tensorrt import TensorRTBackend
    from export.errors import ExportError
    from pipeline.stages import build

    asked = build.STAGE.arguments(config, name)
    if asked["engine"] not in build.BUILDER_KEYS:
        return "", ""
    options = TensorRTOptions(**{key: asked[key] for key in build.BUILDER_KEYS[asked["engine"]]})
    try:
        TensorRTBackend(asked["engine"]).check(
            options, opset=config.export.opset, precisions=asked["precisions"]
        )
    except ExportError as error:
        return error.what, error.fix
    return "", ""


def _devices(
    config: DeployConfig,
    targets: set[str],
    known: KnownDevices,
    note: Callable[[str], None],
    *,
    building: bool,
) -> Iterator[PipelineError]:
    """Devices that cannot be reached or lack a back end: faults if no target is left, else their targets fail alone."""
    faults = device_faults(config, targets, known)
    if building:
        faults |= _device_back_ends(config, targets - set(faults), known, note)
    for name, fault in faults.items():
        if set(faults) == set(config.targets):
            yield fault
        else:
            fix = f" ({fault.fix})" if fault.fix else ""
            note(f"targets.{name}: {fault.what}{fix}; the other targets go on")


def _device_back_ends(
    config: DeployConfig, targets: Collection[str], known: KnownDevices, note: Callable[[str], None]
) -> dict[str, DeviceFault]:
    """Targets whose device can be reached but lacks their back end, and what it lacks."""
    from pipeline.devices.roads import road_of

    missing: dict[str, DeviceFault] = {}
    for name in sorted(targets):
        target, device = config.targets[name], device_of(config.targets[name])
        if device is None:
            continue
        road = road_of(known.facts(device), target.engine)
        if road.built:
            continue
        if target.required:
            missing[name] = DeviceFault(road.detail, where=f"targets.{name} on {device.name}", fix=road.fix)
        else:
            note(f"targets.{name}: {road.detail}; its rows will say so ({road.fix})")
    return missing


def device_faults(
    config: DeployConfig, targets: Collection[str], known: KnownDevices
) -> dict[str, DeviceFault]:
    """Targets whose device cannot be worked with now, and why."""
    devices = {name: device for name in sorted(targets) if (device := device_of(config.targets[name]))}
    known.ask(devices.values())
    faults = {name: known.fault(device) for name, device in devices.items()}
    return {
        name: DeviceFault(fault.what, where=f"targets.{name}.device", fix=fault.fix)
        for name, fault in faults.items()
        if fault
    }


def existing_parent(path: Path) -> Path:
    """The nearest folder on the way to `path` that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
