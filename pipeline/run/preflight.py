"""What must be true before anything runs: data, disk, models, back ends, devices. All faults in one go."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from figkd.data.content import FileDigests
from figkd.data.view_kinds import view_count
from figkd.errors import FigkdError
from pipeline.config.schema import DeployConfig, Network
from pipeline.core.errors import ConfigError, DeviceFault, EnvironmentFault, PipelineError
from pipeline.core.faults import unwritable_name
from pipeline.core.files import read_json
from pipeline.devices.known import KnownDevices
from pipeline.places.int8_layouts import undecided
from pipeline.run import foreseen
from pipeline.run.accelerator import idle_gpu
from pipeline.run.back_ends import Graph, judge, unknown_graph
from pipeline.run.data_check import DataFindings, Listed, ask_publisher, look_at_data
from pipeline.run.own_networks import own_network_faults
from pipeline.run.planning import Planned
from pipeline.run.rehearsal import graph_of, student
from pipeline.stages import data as data_stage
from pipeline.stages import start
from pipeline.stages.logits import is_cached
from pipeline.stages.training import views_arguments

# Stages that use a GPU through PyTorch.
_TRAINING = frozenset({"teacher", "logits", "distill", "qad"})
# What a run needs beside its data: checkpoints, ONNX files, engines.
_SPARE_BYTES = 1_000_000_000

# Showing each of a few views this often is worth a warning: a rule of thumb (docs/caching.md).
_REPEATS_WORTH_A_WARNING = 5


def preflight(
    config: DeployConfig,
    planned: Sequence[Planned],
    note: Callable[[str], None],
    known: KnownDevices | None = None,
    digests: FileDigests | None = None,
    before: Path | None = None,
) -> None:
    """Check what the steps that are going to run will need.

    Args:
        config: the deploy config.
        planned: the plan; steps that are cached need nothing.
        note: told about what is missing and not required.
        known: the run's devices; without, they are not looked at.
        digests: gives the sha256 of the data's files.
        before: the prepared data of the run before.

    Raises:
        PipelineError: every fault; the exit code is that of the gravest (config, then device, then environment).
    """
    running = {p.step.stage.name for p in planned if p.state == "run"}
    targets = {p.step.target for p in planned if p.state == "run" and p.step.target}
    if known and "precision" in running:
        targets |= undecided(config, known)  # nothing can be made for a CPU that nobody knows
    judged = judge(
        config, targets, known, building="build" in running, graph=_student(config, planned, running)
    )
    for text in judged.notes:
        note(text)
    faults = list(judged.faults)
    faults += _packages(config, running)
    faults += _accelerator(config, running)
    data = look_at_data(config, digests, before) if "data" in running else DataFindings()
    found = [*data.faults, *(ask_publisher(config) if "data" in running and not data.faults else ())]
    faults += found
    for change in data.changes:
        note(f"data: {change}")
    listed = data.listed or (None if found else foreseen.prepared(planned))
    if listed:
        faults += foreseen.faults(config, listed) if running & {"teacher", "distill"} else []
        if running & {"precision", "build"}:
            for lack in foreseen.unmakeable(config, listed):
                note(f"{lack.head}; its rows will say so ({lack.fix})")
    cost = cache_cost(config, planned)
    if not found and running & {"data", "logits"}:
        faults += _disk(config, packed=listed.images if listed and "data" in running else 0, cache=cost)
    if cost is not None:
        note(f"logits: {cost}")
    if "distill" in running and (warning := few_views(config)):
        note(warning)
    if running & {"teacher", "logits", "distill"}:
        class_names = (lambda: None) if found else partial(class_names_of, config, listed)
        faults += network_faults(config, class_names, fetch=not faults)
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
    for key, folder in (("store", config.store.folder), ("output", config.output)):
        try:
            os.fsencode(folder)
        except UnicodeEncodeError as error:
            raise unwritable_name(error, key) from error
        parent = existing_parent(folder)
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise EnvironmentFault(
                f"{folder} cannot be written", where=key, fix="name a folder that you may write to"
            )


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


def _accelerator(config: DeployConfig, running: Set[str]) -> Iterator[PipelineError]:
    """A GPU that training would leave idle."""
    if running & _TRAINING and not config.allow_cpu and (idle := idle_gpu()) is not None:
        yield EnvironmentFault(idle.what, fix=idle.fix)


def _disk(config: DeployConfig, *, packed: int, cache: CacheCost | None) -> Iterator[PipelineError]:
    needed = _SPARE_BYTES + (cache.bytes if cache else 0)
    if config.data.decode == "ahead":
        side = data_stage.STAGE.arguments(config, "")["store_size"]
        needed += 3 * side * side * packed
    folder = existing_parent(config.store.folder)
    free = shutil.disk_usage(folder).free
    if free < needed:
        yield EnvironmentFault(
            f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free on the disk of {folder}",
            where="store",
            fix="free some space, or set store: to a folder on another disk; smaller are data.store_size, "
            "data.decode: on_the_fly, distill.views.count and distill.teacher_logits: online",
        )


def network_faults(
    config: DeployConfig, class_names: Callable[[], list[str] | None], *, fetch: bool
) -> Iterator[PipelineError]:
    """What keeps the config's networks from being built, and weights of the user's own from being loaded.

    Args:
        config: the deploy config; its own networks are run.
        class_names: gives the data's classes by label; None if they are not known yet.
        fetch: get published weights that are not here.
    """
    # Fetching weights can take minutes (and many retries without a network): not where the run cannot start anyway.
    from figkd.errors import CheckpointError, LabelError
    from figkd.models import build_model

    size = config.data.image_size
    networks: tuple[tuple[str, Network, bool], ...] = (
        ("teacher", config.teacher, config.teacher.epochs > 0),
        ("student", config.student, True),
    )
    broken = False
    for key, network, trains in networks:
        as_published = network.pretrained and not trains
        names = class_names() if network.checkpoint is not None or as_published else None
        try:
            if names and (fetch or not network.pretrained):
                start.begin(start.start_in(config, network, trains=trains), names)
            else:
                name = start.start_in(config, network, trains=trains).model
                build_model(name, 2, image_size=size, pretrained=network.pretrained and fetch)
        except (CheckpointError, LabelError) as error:
            where = f"{key}.checkpoint" if network.checkpoint is not None else f"{key}.epochs"
            yield ConfigError(error.what, where=where, fix=error.fix)
        except FigkdError as error:
            kind = EnvironmentFault if network.pretrained and "weights" in error.what else ConfigError
            yield kind(error.what, where=f"{key}.model", fix=error.fix)
            broken = True
    if not broken:
        yield from own_network_faults(config)


def class_names_of(config: DeployConfig, listed: Listed | None) -> list[str] | None:
    """The data's classes by label; None if they are not known yet."""
    from figkd.data import unlisted_classes

    if listed:
        return list(listed.classes)
    return unlisted_classes(config.data.dataset, config.data.root, dict(config.data.options))


def _student(config: DeployConfig, planned: Sequence[Planned], running: Collection[str]) -> Graph:
    """The student's graph: as it was exported, or, before it is trained, with random weights, which takes seconds.

    Its operators are the same, and a network that a target cannot read is known before hours of training. Where nothing
    is trained any more, the build itself says it as soon.
    """
    exported = next((p.artifact for p in planned if p.step.id == "export" and p.state == "cached"), None)
    if exported is not None:
        return partial(graph_of, exported.path / "student.onnx")
    return student(config) if "distill" in running else unknown_graph


def existing_parent(path: Path) -> Path:
    """The nearest folder on the way to `path` that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
