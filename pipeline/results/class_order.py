"""The classes of a file's outputs against those of the data: mapped by name, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from figkd import labels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def told_classes(path: Path) -> list[str]:
    """Class names by output that an ONNX file, or an engine's sidecar, tells; empty if it does not.

    Raises:
        ExportError: the file, or its sidecar, is missing or damaged.
    """
    if path.suffix == ".onnx":
        from export.contract import contract_of
        from export.model_file import load_model

        return list(contract_of(load_model(path)).classes)
    from export.engines.sidecar import read_facts

    return list(read_facts(path)["classes"])


def columns(path: Path, names: Sequence[str]) -> list[int] | None:
    """For each class of `names`, the column of the file's logits; None if that is their order, or the file names none.

    Raises:
        LabelError: the file is of other classes.
        ExportError: as `told_classes`.
    """
    in_file = told_classes(path)
    if not in_file or in_file == list(names):
        return None
    return labels.mapping(in_file, names, what=path.name)


def in_order(logits: npt.NDArray[np.float32], order: Sequence[int] | None) -> npt.NDArray[np.float32]:
    """Logits [N, C] with the columns of `columns`."""
    return logits if order is None else logits[:, list(order)]
