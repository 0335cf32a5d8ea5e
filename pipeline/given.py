"""ONNX and engine files given by path: timed and scored on the data of a config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.conductor import Interface, Selection, artifacts_of, run
from pipeline.config.schema import DeployConfig
from pipeline.errors import ConfigError, EnvironmentFault
from pipeline.files import read_json
from pipeline.stages.base import Work
from pipeline.store import Store


def time_files(config: DeployConfig, files: Sequence[Path], ui: Interface) -> list[dict[str, Any]]:
    """Latency rows of the given files, taking turns, by the `benchmark` section of the config."""
    from figkd.data import open_split
    from pipeline.latency import measure_engines
    from pipeline.stages.benchmark import IMAGES, plan_of
    from pipeline.stages.precision import inputs_of

    with _opened(config, files, ui) as (work, engines):
        stored = open_split(work.inputs["data"], "test").images[:IMAGES]
        progress = ui.step_started("benchmark", "")
        sizes = sorted({size for target in config.targets.values() for size in target.batch_sizes})
        found = measure_engines(
            engines,
            stored,
            dict.fromkeys(engines, inputs_of(work, stored)),
            plan=plan_of({"batch_sizes": sizes, **config.benchmark.model_dump(mode="json")}),
            progress=progress,
        )
    return found.statistics


def score_files(config: DeployConfig, files: Sequence[Path], ui: Interface) -> list[dict[str, Any]]:
    """Accuracy of the given files on the test images; agreement where the config's student exists."""
    from figkd.data import class_names, open_split
    from pipeline.stages.precision import inputs_of, read_logits, score

    with _opened(config, files, ui) as (work, engines):
        data = work.inputs["data"]
        test, names = open_split(data, "test"), class_names(data)
        student = work.inputs.get("distill")
        reference = read_logits(student / "test_logits.npy") if student else None
        images = inputs_of(work, test.images)
        return [
            {"id": name, **score(e, images, test.labels, names, reference)} for name, e in engines.items()
        ]


@contextmanager
def _opened(
    config: DeployConfig, files: Sequence[Path], ui: Interface
) -> Iterator[tuple[Work, dict[str, Any]]]:
    """Prepare the data if need be, and load every file with the back end that it belongs to."""
    from export.engines import BACKENDS
    from export.errors import BackendMissing, ExportError

    for path in files:
        if not path.is_file():
            raise ConfigError("no such file", where=f"--model {path}")
    store = Store(config.store)
    run(config, store, ui, Selection(until="data"))
    inputs = {step: artifact.path for step, artifact in artifacts_of(config, store).items()}
    arguments = {"image_size": config.data.image_size, "input": config.export.input}
    work = Work(arguments, inputs, {}, Path(), Path(), lambda done, total, note: None)
    threads = next((t.threads for t in config.targets.values() if t.engine == "onnxruntime"), None)
    engines: dict[str, Any] = {}
    try:
        for path in files:
            try:
                backend = BACKENDS[_backend_of(path)]
                engines[str(path)] = backend.load(path, threads=threads)
            except BackendMissing as error:
                raise EnvironmentFault(error.what, where=f"--model {path}", fix=error.fix) from error
            except (ExportError, ValueError, KeyError) as error:
                what = (
                    error.what
                    if isinstance(error, ExportError)
                    else f"is no classifier that can be run: {error}"
                )
                raise ConfigError(what, where=f"--model {path}", fix=getattr(error, "fix", "")) from error
        try:
            yield work, engines
        except ExportError as error:
            what = f"a file does not fit this config: {error.what}"
            raise ConfigError(what, where="--model", fix=error.fix) from error
    finally:
        for engine in engines.values():
            engine.close()


def _backend_of(path: Path) -> str:
    if path.suffix == ".onnx":
        return "onnxruntime"
    try:
        return str(read_json(path.with_name(f"{path.name}.json"))["backend"])
    except (OSError, ValueError, KeyError):
        raise ConfigError(
            "an engine file needs its sidecar, which names its back end",
            where=f"--model {path}",
            fix=f"put {path.name}.json beside it, or give an .onnx file",
        ) from None
