"""What decides a measurement of a candidate on a target: its recipe in the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.metrics import METRICS
from pipeline.config.schema import DeployConfig, goals_of
from pipeline.config.targets import Benchmark
from pipeline.core.errors import DeviceFault
from pipeline.core.store import Recipe, Store
from pipeline.devices.known import KnownDevices, device_of
from pipeline.places.device import OnDevice
from pipeline.places.here import HERE
from pipeline.places.int8_layouts import Layouts
from pipeline.results.rows.scouted import Candidate
from pipeline.run.planning import source_digest
from pipeline.search.measuring import Job
from pipeline.search.untrained import SEED, Making
from pipeline.stages import benchmark, build, export, precision
from pipeline.stages.base import Arguments
from pipeline.stages.networks import network_sources

VERSION = 1
"""Raised when the same recipe would be measured in another way."""
# What of a run's arguments concerns training or choice, and no latency.
_NOT_OF_GRAPHS = ("seed", "student", "image_size")


@dataclass(frozen=True)
class Recipes:
    """Of one candidate: how it is made, and its jobs by target with what each is found by."""

    making: Making
    made_of: Recipe
    jobs: Mapping[str, tuple[Job, Recipe]]


def targets_of(config: DeployConfig) -> list[str]:
    """The targets that are scouted, in the config's order."""
    wanted = config.scout.targets
    return [name for name in config.targets if wanted is None or name in wanted]


def with_candidate(config: DeployConfig, candidate: Candidate) -> DeployConfig:
    """The config with the candidate as its student, which starts at random, and scouting's way to measure."""
    scout = config.scout
    student = type(config.student)(model=candidate.model, code=candidate.code)
    judged = any(metric.name == METRICS["energy_mj_per_image"].name for metric, _ in goals_of(config.budgets))
    usual = config.benchmark.energy_s if judged else 0.0
    timing = Benchmark(
        boundaries=["engine"], warmup_ms=scout.warmup_ms, min_samples=scout.min_samples, min_seconds=scout.min_seconds,
        max_seconds=scout.max_seconds, rounds=scout.rounds,
        energy_s=usual if scout.energy_s is None else scout.energy_s,
    )  # fmt: skip
    changes = {
        "student": student,
        "data": config.data.model_copy(update={"image_size": candidate.image_size}),
        "benchmark": timing,
        "precision": config.precision.model_copy(
            update={
                "calibration_images": scout.calibration_images,
                "calibration_method": "minmax",
                "mixed": "never",
            }
        ),
    }
    return config.model_copy(update=changes)


def recipes(
    config: DeployConfig,
    candidate: Candidate,
    classes: int,
    layouts: Layouts,
    known: KnownDevices,
    store: Store,
    *,
    real: bool,
    without: Collection[str] = (),
) -> Recipes:
    """What a candidate's measurements are found by; targets whose device was never reached are left out.

    Args:
        config: of the user.
        candidate: the network.
        classes: of the data.
        layouts: of INT8, by target.
        known: facts of the devices.
        store: remembers digests of files.
        real: INT8 ranges come from the data.
        without: targets that cannot be worked with now. Facts that are known from before are enough.

    Raises:
        EnvironmentFault: the file of a network of the user's own cannot be read.
    """
    mine = with_candidate(config, candidate)
    sources = {
        f"source:{name}": source_digest(source, config, store, candidate.id)
        for name, source in network_sources(mine.student).items()
    }
    targets = [name for name in targets_of(config) if name in layouts or not _reads_int8(config, name)]
    # One set of files for all targets; each target's recipe names what it reads of them.
    making = Making(candidate, mine.export, precisions_of(mine, targets, layouts))
    common = {
        "candidate": candidate.model,
        "image_size": candidate.image_size,
        "classes": classes,
        "images": "data" if real else "synthetic",
        "seed": SEED,
        "export": _of_graphs(export.STAGE.arguments(mine, "")),
        "versions": {
            each.name: each.version for each in (export.STAGE, precision.STAGE, build.STAGE, benchmark.STAGE)
        },
    }
    makers = {**export.STAGE.environment({}), **precision.STAGE.environment({})}
    jobs = {}
    for name in targets:
        building = build.STAGE.arguments(mine, name) | {"required": False}
        if name in layouts:
            building["int8_layout"] = layouts[name]
        timing = benchmark.STAGE.arguments(mine, name)
        device = device_of(config.targets[name])
        try:
            facts = None if device is None else known.facts(device)
        except DeviceFault:
            if name not in without:
                raise
            continue
        if facts is None:
            machine = {**build.STAGE.environment(building), **benchmark.STAGE.environment(timing)}
        else:
            machine = {
                **build.STAGE.device_environment(facts, building),
                **benchmark.STAGE.device_environment(facts, timing),
            }
        job = Job(
            candidate, name, building, timing, config.scout.memory, "data" if real else "synthetic",
            HERE if device is None else OnDevice(device),
        )  # fmt: skip
        arguments = {
            **common,
            "precision": _of_graphs(precisions_of(mine, [name], layouts)),
            "build": {key: value for key, value in building.items() if key != "target"},
            "benchmark": {key: value for key, value in _of_graphs(timing).items() if key != "target"},
            "memory": config.scout.memory,
        }
        jobs[name] = job, Recipe(f"scout@{name}", VERSION, arguments, sources, {**makers, **machine})
    made_of = Recipe(
        "scout", VERSION, {**common, "precision": _of_graphs(making.precisions)}, sources, makers
    )
    return Recipes(making, made_of, jobs)


def _of_graphs(arguments: Arguments) -> Arguments:
    return {key: value for key, value in arguments.items() if key not in _NOT_OF_GRAPHS}


def precisions_of(config: DeployConfig, targets: Sequence[str], layouts: Layouts) -> Arguments:
    """Arguments of the stage `precision` for what these targets read."""
    read = {each for name in targets for each in build.STAGE.arguments(config, name)["precisions"]}
    modes = [mode for mode in config.precision.modes if mode in read]
    narrowed = config.precision.model_copy(update={"modes": modes or ["fp32"]})
    arguments = precision.STAGE.arguments(config.model_copy(update={"precision": narrowed}), "")
    found = {name: layout for name, layout in layouts.items() if name in targets}
    return arguments | {"layouts": sorted(set(found.values()))}


def _reads_int8(config: DeployConfig, target: str) -> bool:
    return "int8" in build.STAGE.arguments(config, target)["precisions"]
