"""Classify images with a bundle, an engine or what a config's run ships."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from figkd.progress import Progress
from pipeline.core.errors import ConfigError, EnvironmentFault
from pipeline.run.bundles import faults, packed, read_result, target_of
from pipeline.run.planning import artifacts_of

if TYPE_CHECKING:
    from export.runtime.bundle.model import Label, Model
    from export.runtime.bundle.verify import Choice
    from pipeline.config.schema import DeployConfig
    from pipeline.core.store import Store


@dataclass(frozen=True)
class Prediction:
    """What an image shows, or why that is not known."""

    file: Path
    labels: tuple[Label, ...] = ()
    error: str = ""


@contextmanager
def model_in(what: Path, trust: Choice) -> Iterator[Model]:
    """The model of a bundle's folder, or of an engine file.

    Raises:
        BundleFault: the bundle is refused.
        ConfigError: the file is no engine, or does not tell its classes or its preprocessing.
        EnvironmentFault: the engine cannot be run here.
    """
    with faults(str(what)):
        if what.is_dir():
            from export.runtime.bundle import load

            model = load(what, trust)
        else:
            model = _engine_model(what)
    try:
        yield model
    finally:
        model.close()


def shipped(config: DeployConfig, store: Store, target: str | None) -> Path:
    """What a finished run ships for a target: its bundle, else the engine that is best so far.

    Raises:
        ConfigError: the run is not finished, or nothing was built.
    """
    artifacts = artifacts_of(config, store)
    if "report" not in artifacts:
        raise ConfigError("the run is not finished", fix="figkd-pipeline run CONFIG, then this again")
    name = target_of(artifacts, config, target)
    for each in packed(artifacts):
        if each.target == name and each.folder:
            return each.folder
    result = read_result(artifacts)
    best = next((each.engine for each in result.shipping if each.target == name), None)
    engine = next((each for each in result.engines if each.id == best and each.file), None)
    if engine is None or engine.file is None:
        raise ConfigError(f"nothing runs for the target {name}", where="--target", fix="see the report")
    return artifacts[f"build@{name}"].path / Path(engine.file).name


def images_below(folder: Path) -> list[Path]:
    """The images in a folder, at any depth, in order.

    Raises:
        ConfigError: there are none.
    """
    from figkd.data.decode import is_image

    found = sorted(path for path in folder.rglob("*") if is_image(path) and path.is_file())
    if not found:
        raise ConfigError("no images in this folder", where=str(folder), fix="name another one")
    return found


def predict(model: Model, files: Sequence[Path], top: int, progress: Progress) -> Iterator[Prediction]:
    """Classify images one after the other; one that cannot be read is reported and skipped.

    Raises:
        EnvironmentFault: the engine fails.
    """
    from export.runtime.bundle.errors import ImageRefused

    for done, file in enumerate(files):
        progress(done, len(files), file.name)
        with faults(str(file)):
            try:
                found = Prediction(file, tuple(model.classify(file, top)))
            except ImageRefused as error:
                found = Prediction(file, error=error.what)
        yield found
    progress(len(files), len(files), "done")


def as_csv(rows: Sequence[Prediction], top: int) -> str:
    """One line an image: file, then class and probability of each rank, then the error."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    ranks = range(1, top + 1)
    names = [name for rank in ranks for name in (f"class_{rank}", f"probability_{rank}")]
    writer.writerow(["file", *names, "error"])
    for row in rows:
        values = [value for label in row.labels for value in (label.name, f"{label.probability:.6f}")]
        values += [""] * (len(names) - len(values))
        writer.writerow([str(row.file), *values, row.error])
    return buffer.getvalue()


def _engine_model(path: Path) -> Model:
    from export.contract import contract_of, preprocessing_of
    from export.engines import BACKENDS
    from export.engines.sidecar import read_facts
    from export.errors import BackendMissing, ExportError
    from export.model_file import load_model
    from export.runtime.bundle.model import Model

    try:
        if path.suffix == ".onnx":
            contract = contract_of(load_model(path))
            classes, image, backend = contract.classes, contract.image, "onnxruntime"
        else:
            facts = read_facts(path)
            classes, image, backend = tuple(facts["classes"]), facts["image"], str(facts["backend"])
        spec = preprocessing_of(image)
        if not classes or spec is None:
            lack = "its classes" if not classes else "how a photo becomes its input"
            raise ConfigError(
                f"the file does not contain {lack}",
                where=str(path),
                fix="give a bundle, or an engine that this version built",
            )
        return Model(classes, spec, BACKENDS[backend].load(path))
    except BackendMissing as error:
        raise EnvironmentFault(error.what, where=str(path), fix=error.fix) from error
    except ExportError as error:
        raise ConfigError(error.what, where=str(path), fix=error.fix) from error
