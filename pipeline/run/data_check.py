"""What a config's data lack, leave out and changed, as far as is known before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from figkd.data.content import FileDigests
from figkd.errors import DataError
from pipeline.config.schema import DeployConfig
from pipeline.core.errors import EnvironmentFault, PipelineError

_FEW = 2_000
"""Images that are hashed even where nobody remembers their digests: enough to count the training images exactly."""


@dataclass(frozen=True)
class Listed:
    """What is known of the data before they are decoded."""

    train: int
    """Images of the training split."""
    images: int
    """Images of all splits."""
    classes: Sequence[str]


@dataclass(frozen=True)
class DataFindings:
    """What was found; `left_out` is what a user may have to act on, `changes` what differs from the data before.

    `listed` is None where it is only known once the data are prepared, or where it would take long.
    """

    faults: Sequence[PipelineError] = ()
    left_out: Sequence[str] = ()
    changes: Sequence[str] = ()
    listed: Listed | None = None


def ask_publisher(config: DeployConfig) -> list[PipelineError]:
    """Problems of data on a server that its description tells, before they are downloaded."""
    from figkd.data import preview

    data = config.data
    return [_fault(config, error) for error in preview(data.dataset, data.root, dict(data.options))]


def _fault(config: DeployConfig, error: DataError) -> EnvironmentFault:
    return EnvironmentFault(error.what, where="data.root" if config.data.root else "data", fix=error.fix)


def look_at_data(
    config: DeployConfig, digests: FileDigests | None = None, before: Path | None = None
) -> DataFindings:
    """Read the data as the data stage would; no image is decoded.

    Args:
        config: the deploy config.
        digests: gives the sha256 of files; without it, only what names and sizes show is found.
        before: the prepared data folder of the run before, to compare with.
    """
    from figkd.data import examine, settled
    from figkd.data.changes import changes
    from figkd.data.content import hash_files
    from figkd.data.left_out import remarks

    data = config.data
    fault = partial(_fault, config)
    examined = examine(data.dataset, data.root, dict(data.options))
    found = examined.listing
    if found is None:
        return DataFindings([fault(error) for error in examined.problems])
    if digests is None and sum(map(len, found.splits.values())) > _FEW:
        return DataFindings((), [*found.notes, *remarks(found.left_out)])
    try:
        known = settled(
            found, val_fraction=data.validation_fraction, seed=config.seed, digests=digests or hash_files
        )
    except DataError as error:
        return DataFindings([fault(error)])
    notes = [*known.listing.notes, *remarks(known.listing.left_out), *known.copies.remarks()]
    try:
        compared = changes(before, known) if before else None
    except DataError:  # what is damaged is reported, and made again, where it is used
        compared = None
    listed = Listed(len(known.splits["train"]), sum(map(len, known.splits.values())), known.listing.classes)
    return DataFindings((), notes, compared.sentences() if compared else (), listed)
