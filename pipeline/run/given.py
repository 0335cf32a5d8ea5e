"""ONNX and engine files given by path: timed and scored on the data of a config."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.engine_kinds import ENGINE_KINDS
from export.sizes import AS_THEY_ARE, Sizes
from pipeline.config.schema import DeployConfig
from pipeline.core.errors import ConfigError, EnvironmentFault
from pipeline.core.store import Store
from pipeline.results.latency import TimedEngine
from pipeline.run.conductor import Interface, run
from pipeline.run.planning import Selection, artifacts_of
from pipeline.stages.base import Work

if TYPE_CHECKING:
    from export.engines.protocol import Engine
    from pipeline.places.latency import Measured


@dataclass(frozen=True)
class FileBenchmarkOptions:
    """How files are timed without a config."""

    batch_sizes: tuple[int, ...] = (1,)
    threads: int | None = None
    streams: tuple[int, ...] = (1,)
    rate_fps: float | None = None
    seconds: float = 3.0
    sizes: Sizes = AS_THEY_ARE
    """Of inputs that the files leave open."""


@dataclass(frozen=True)
class GivenTimes:
    """What was measured of the given files, and what they are."""

    measured: Measured
    engines: list[TimedEngine]


def time_files(config: DeployConfig, files: Sequence[Path], ui: Interface) -> GivenTimes:
    """Latency of the given files, taking turns, by the `benchmark` section of the config."""
    from figkd.data import open_split
    from pipeline.places.latency import Plan, measure_engines
    from pipeline.stages.benchmark import IMAGES, pictures_of
    from pipeline.stages.precision import images_of

    with _opened(config, files, ui) as (work, engines, _):
        images = images_of(work, open_split(work.inputs["data"], "test").images[:IMAGES])
        progress = ui.step_started("benchmark", "")
        sizes = sorted({size for target in config.targets.values() for size in target.batch_sizes})
        measured = measure_engines(
            engines,
            pictures_of(images, work.inputs["data"], config.benchmark.boundaries),
            dict.fromkeys(engines, images.inputs()),
            plan=Plan.of({"batch_sizes": sizes, **config.benchmark.model_dump(mode="json")}),
            progress=progress,
        )
        return GivenTimes(measured, _facts(engines))


def time_files_alone(files: Sequence[Path], how: FileBenchmarkOptions, ui: Interface) -> GivenTimes:
    """Latency of the given files on random images, taking turns; they may take images of different sizes.

    Raises:
        ConfigError: a file is missing, cannot be run, or does not take the batch sizes.
        EnvironmentFault: a back end is absent.
    """
    import numpy as np

    from export.runtime.bundle.preprocess import Preprocessing
    from pipeline.places.latency import Plan, measure_engines
    from pipeline.places.pictures import Pictures, encode

    random = np.random.default_rng(0)
    with _loaded(files, how.threads, how.sizes) as engines, _fitting("the options"):
        inputs = {}
        for name, engine in engines.items():
            noise = random.integers(0, 256, (max(how.batch_sizes), *engine.input_shape), dtype=np.uint8)
            inputs[name] = (
                noise if engine.input_dtype == "uint8" else (noise / 127.5 - 1).astype(engine.input_dtype)
            )
        # Only a graph that normalises inside can be given an image.
        normalise = all(e.input_dtype == "uint8" and e.input_shape[-1:] == (3,) for e in engines.values())
        side = max(engine.input_shape[0] for engine in engines.values())
        boundaries = ("engine", "engine+copies", *(["image_to_class"] if normalise else []))
        plan = Plan(
            batch_sizes=how.batch_sizes, boundaries=boundaries, streams=how.streams, rate_fps=how.rate_fps,
            warmup_s=min(Plan.warmup_s, how.seconds), min_seconds=how.seconds, max_seconds=max(10.0, how.seconds),
        )  # fmt: skip
        noise = random.integers(0, 256, (8, side, side, 3), dtype=np.uint8)
        pictures = Pictures([encode(image) for image in noise], Preprocessing(side, side), "random")
        progress = ui.step_started("benchmark", "")
        measured = measure_engines(engines, pictures, inputs, plan=plan, progress=progress)
        return GivenTimes(measured, _facts(engines))


def _facts(engines: Mapping[str, Engine]) -> list[TimedEngine]:
    return [
        TimedEngine(
            id=path, backend=engine.backend, mb=Path(path).stat().st_size / 1e6, input_shape=list(engine.input_shape),
            input_dtype=engine.input_dtype, runtime=dict(engine.facts),
        )
        for path, engine in engines.items()
    ]  # fmt: skip


def score_files(config: DeployConfig, files: Sequence[Path], ui: Interface) -> list[dict[str, Any]]:
    """Accuracy of the given files on the test images; agreement where the config's student exists."""
    from figkd.data import class_names, open_split
    from pipeline.stages.engines import read_logits
    from pipeline.stages.precision import inputs_of, score

    with _opened(config, files, ui) as (work, engines, orders):
        data = work.inputs["data"]
        test, names = open_split(data, "test"), class_names(data)
        student = work.inputs.get("distill")
        reference = read_logits(student / "test_logits.npy") if student else None
        images = inputs_of(work, test.images)
        scores = {
            name: score(engine, images, test.labels, names, reference, order=orders[name])
            for name, engine in engines.items()
        }
        return [
            {"id": name, **found.model_dump(mode="json", exclude_defaults=True)}
            for name, found in scores.items()
        ]


@contextmanager
def _opened(
    config: DeployConfig, files: Sequence[Path], ui: Interface
) -> Iterator[tuple[Work, dict[str, Engine], dict[str, list[int] | None]]]:
    """Prepare the data if need be, and load every file with the back end that it belongs to; columns by file."""
    store = Store(config.store.folder)
    targets = [t for t in config.targets.values() if "threads" in ENGINE_KINDS[t.engine].options]
    threads = targets[0].threads if targets else None
    with _loaded(files, threads) as engines, _fitting("this config"):
        run(config, store, ui, Selection(until="data"))
        inputs = {step: artifact.path for step, artifact in artifacts_of(config, store).items()}
        arguments = {"image_size": config.data.image_size, "input": config.export.input}
        orders = {str(path): _columns(path, inputs["data"], ui) for path in files}
        yield Work(arguments, inputs, {}, Path(), Path(), lambda done, total, note: None), engines, orders


def _columns(path: Path, data: Path, ui: Interface) -> list[int] | None:
    """The order of a file's columns against the data's classes.

    Raises:
        ConfigError: the file is of other classes.
    """
    from figkd.data import class_names
    from figkd.errors import LabelError
    from pipeline.results.class_order import columns, told_classes

    if not told_classes(path):
        ui.note(f"{path} does not name its classes; its outputs are taken to be in the order of the data's")
    try:
        return columns(path, class_names(data))
    except LabelError as error:
        raise ConfigError(error.what, where=str(path), fix="give the config of its data") from error


@contextmanager
def _fitting(what: str) -> Iterator[None]:
    from export.errors import ExportError

    try:
        yield
    except ExportError as error:
        raise ConfigError(
            f"a file does not fit {what}: {error.what}", where="--model", fix=error.fix
        ) from error


@contextmanager
def _loaded(
    files: Sequence[Path], threads: int | None, sizes: Sizes = AS_THEY_ARE
) -> Iterator[dict[str, Engine]]:
    """Load every file with the back end that it belongs to; by the path as it was given."""
    from export.engines import BACKENDS
    from export.errors import BackendMissing, ExportError
    from export.image_input import fixed_copy

    for path in files:
        if not path.is_file():
            raise ConfigError("no such file", where=str(path))
    engines: dict[str, Engine] = {}
    folder = tempfile.TemporaryDirectory(prefix="figkd-pipeline-")
    try:
        for number, path in enumerate(files):
            try:
                backend, file = BACKENDS[_backend_of(path)], path
                if sizes and path.suffix == ".onnx":
                    place = Path(folder.name) / str(number)  # two files may have one name
                    place.mkdir()
                    file = fixed_copy(path, sizes, place)
                engines[str(path)] = backend.load(file, threads=threads)
            except BackendMissing as error:
                raise EnvironmentFault(error.what, where=str(path), fix=error.fix) from error
            except (ExportError, ValueError, KeyError) as error:
                what = (
                    error.what.removeprefix(f"{path} ").removeprefix(f"{path.name} ")
                    if isinstance(error, ExportError)
                    else f"is no classifier that can be run: {error}"
                )
                raise ConfigError(what, where=str(path), fix=getattr(error, "fix", "")) from error
        yield engines
    finally:
        for engine in engines.values():
            engine.close()
        folder.cleanup()


def _backend_of(path: Path) -> str:
    from export.engines import BACKENDS
    from export.engines.sidecar import read_facts, sidecar_path
    from export.errors import EngineError

    if path.suffix == ".onnx":
        return "onnxruntime"
    where, beside = (
        str(path),
        f"put the engine's own {path.name}.json beside it, or give an .onnx file",
    )
    if not sidecar_path(path).exists():
        raise ConfigError(
            "an engine file needs its sidecar, which names its back end", where=where, fix=beside
        )
    try:
        backend = str(read_facts(path)["backend"])
    except EngineError as error:
        raise ConfigError(error.what, where=where, fix=beside) from error
    if backend not in BACKENDS:
        raise ConfigError(f"{path.name}.json names the back end {backend[:80]!r}", where=where, fix=beside)
    return backend
