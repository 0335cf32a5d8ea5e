"""Bundles of finished runs: copied out of the store, and made for any engine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.schema import DeployConfig
from pipeline.core.errors import (
    BundleFault,
    ConfigError,
    EnvironmentFault,
    PipelineError,
    StageFailed,
)
from pipeline.core.files import read_json
from pipeline.core.store import Artifact, Store
from pipeline.results.result import Result
from pipeline.run.planning import artifacts_of
from pipeline.stages.package import FILE
from pipeline.stages.packing import Choice, content_of

FOLDER = "bundles"
"""In the folder of a config's report."""


@dataclass(frozen=True)
class Packed:
    """What a run packed for a target."""

    target: str
    folder: Path | None
    """The bundle; None where there is none."""
    why: str
    """Why there is none."""


def packed(artifacts: Mapping[str, Artifact]) -> list[Packed]:
    """What the steps `package` of a run made, in the store."""
    found = []
    for step, artifact in artifacts.items():
        stage, _, target = step.partition("@")
        if stage == "package":
            said = read_json(artifact.path / FILE)
            folder = artifact.path / said["bundle"] if said["bundle"] else None
            found.append(Packed(target, folder, said["why"]))
    return found


def take_out(made: Packed, parent: Path) -> Path | None:
    """Copy a bundle from the store into `parent`, whole or not at all; one that is there already stays as it is.

    Earlier bundles are never removed: they are what a device may go back to.

    Raises:
        EnvironmentFault: something else lies in its place.
    """
    from export.runtime.bundle import UNSIGNED, BundleRefused, verify

    if made.folder is None:
        return None
    place = parent / made.folder.name
    if os.path.lexists(place):
        try:
            verify(place, UNSIGNED)
        except BundleRefused as error:
            raise EnvironmentFault(
                f"there is no whole bundle in the place of one: {error.what}",
                where=str(place),
                fix="move it, and run again",
            ) from error
        return place
    parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=parent))
    try:
        shutil.copytree(made.folder, draft / place.name)
        os.rename(draft / place.name, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def to_ship(config: DeployConfig, store: Store) -> list[Path]:
    """The bundles of a finished run, a folder for each target: the copy beside the report, which may be signed.

    Raises:
        ConfigError: the run is not finished, or its verdict ships nothing.
    """
    made = packed(artifacts_of(config, store))
    stored = [one.folder for one in made if one.folder is not None]
    if not stored:
        why = next((one.why for one in made if one.why), "the run is not finished")
        raise ConfigError(f"there is no bundle: {why}", fix="figkd-pipeline run CONFIG, then this again")
    copies = config.output / config.name / FOLDER
    return [copy if (copy := copies / folder.name).is_dir() else folder for folder in stored]


def make(config: DeployConfig, store: Store, choice: Choice, parent: Path) -> Path:
    """Write a bundle of a finished run into `parent`.

    Raises:
        ConfigError: the run is not finished, there is no such engine, or the verdict does not ship it.
        StageFailed: it cannot be packed.
    """
    from export.bundle.write import write_bundle
    from export.errors import ExportError

    artifacts = artifacts_of(config, store)
    built = (f"build@{target}" for target in choice.targets)
    needed = ("data", "precision", "qad", *built, "report")
    if missing := [step for step in needed if step not in artifacts]:
        raise ConfigError(
            f"not finished yet: {', '.join(missing)}", fix="figkd-pipeline run CONFIG, then this again"
        )
    inputs = {step: artifact.path for step, artifact in artifacts.items()}
    try:
        return write_bundle(content_of(inputs, read_result(artifacts), choice), parent)[0]
    except ExportError as error:
        raise StageFailed(error.what, where="bundle", fix=error.fix) from error


def target_of(artifacts: Mapping[str, Artifact], config: DeployConfig, target: str | None) -> str:
    """The target that was named, else the only one, else the only one that ships.

    Raises:
        ConfigError: there is no such target, or there are several.
    """
    if target is not None and target not in config.targets:
        raise ConfigError(
            f"no target '{target}'", where="--target", fix=f"name one of {', '.join(config.targets)}"
        )
    if target is not None or len(config.targets) == 1:
        return target or next(iter(config.targets))
    shipped = [each.target for each in packed(artifacts) if each.folder]
    if len(shipped) == 1:
        return shipped[0]
    raise ConfigError(
        f"{len(shipped)} of {len(config.targets)} targets ship",
        where="--target",
        fix=f"name one of {', '.join(config.targets)}",
    )


def read_result(artifacts: Mapping[str, Artifact]) -> Result:
    """The result of a finished run."""
    text = (artifacts["report"].path / "result.json").read_text(encoding="utf-8")
    return Result.model_validate_json(text)


@contextmanager
def faults(where: str = "") -> Iterator[None]:
    """What the runtime, keys and writers of bundles raise, as errors of the command line.

    Raises:
        PipelineError: with the exit code that docs/configuration.md lists.
    """
    from export.bundle.keys import KeyFault
    from export.errors import ExportError
    from export.runtime.bundle.cli import WrongUse
    from export.runtime.bundle.errors import BundleError, BundleRefused, ImageRefused, SelfTestFailed

    try:
        yield
    except BundleError as error:
        kinds: dict[type[BundleError], type[PipelineError]] = {
            BundleRefused: BundleFault,
            ImageRefused: ConfigError,
            WrongUse: ConfigError,
            SelfTestFailed: StageFailed,
        }
        raise kinds.get(type(error), EnvironmentFault)(error.what, where=where, fix=error.fix) from error
    except KeyFault as error:
        raise ConfigError(error.what, where=where, fix=error.fix) from error
    except ExportError as error:
        raise StageFailed(error.what, where=where, fix=error.fix) from error
