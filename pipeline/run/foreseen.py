"""What the listing of the data and the config decide together, reported before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from figkd.errors import FigkdError
from pipeline.config.check import MIN_CALIBRATION_IMAGES
from pipeline.config.schema import DeployConfig
from pipeline.core.errors import ConfigError
from pipeline.core.files import read_json
from pipeline.run.data_check import Listed
from pipeline.run.planning import Planned


def prepared(planned: Sequence[Planned]) -> Listed | None:
    """The training images and classes of the prepared data, if they are there."""
    from figkd.data import class_names

    data = next((p.artifact for p in planned if p.step.id == "data" and p.artifact), None)
    if data is None:
        return None
    counts = read_json(data.path / "data.json")["counts"]
    return Listed(counts["train"], sum(counts.values()), class_names(data.path))


def lacks(config: DeployConfig, data: Listed) -> list[ConfigError]:
    """All that cannot be trained or made."""
    return [*faults(config, data), *unmakeable(config, data)]


def faults(config: DeployConfig, data: Listed) -> Iterator[ConfigError]:
    """What cannot be trained on these data."""
    for key, section in (("teacher", config.teacher), ("distill", config.distill)):
        if not section.epochs or (key == "teacher" and config.teacher.checkpoint is not None):
            continue
        smallest = data.train // max(math.ceil(data.train / section.batch_size), 1)
        if smallest < section.parts:
            most = smallest * getattr(section, section.divider) // section.parts
            yield ConfigError(
                f"{data.train} training images in steps of {section.batch_size} leave {smallest} for "
                f"{section.parts} parts",
                where=f"{key}.{section.divider}",
                fix=f"at most {most}, or more images" if most else "a smaller accumulate, or more images",
            )
    method = config.distill.figkd
    if config.distill.method == "figkd" and method.order == "hierarchy" and method.hierarchy is not None:
        from figkd.loss.order import hierarchy_order, read_groups

        try:
            hierarchy_order(read_groups(method.hierarchy), data.classes)
        except FigkdError as error:
            yield ConfigError(error.what, where="distill.figkd.hierarchy", fix=error.fix)


def unmakeable(config: DeployConfig, data: Listed) -> Iterator[ConfigError]:
    """Precisions that cannot be made from these data: the run makes the others, and their rows say so."""
    if "int8" in config.precision.modes and data.train < MIN_CALIBRATION_IMAGES:
        yield ConfigError(
            f"int8 cannot be made: it needs at least {MIN_CALIBRATION_IMAGES} training images to calibrate, the data "
            f"have {data.train}",
            where="precision.modes",
            fix="add images, or take int8 out of precision.modes",
        )
