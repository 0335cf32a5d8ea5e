"""Images of a run that a bundle brings: golden ones, and validation images whose class is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import StageFailed
from pipeline.core.files import read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.runtime.bundle.preprocess import Preprocessing

INPUTS = 16
"""Golden inputs, from the test images."""
REFERENCE = 1000
"""Validation images at most whose answers are counted for comparison with a device's."""
MOST_VIEW_BYTES = 100 << 20
_PNGS = 4
_ORIENTATIONS = (1, 6)


@dataclass(frozen=True)
class Golden:
    """Test images."""

    views: npt.NDArray[np.uint8]
    """[N, S, S, 3]; those of the pictures come first."""
    pictures: dict[str, bytes]


def golden(data: Path, spec: Preprocessing) -> Golden:
    """Views of test images; some as files, whose way through the runtime must be that of the training."""
    import numpy as np

    from export.bundle.pictures import photograph, png_bytes
    from figkd.data import open_split
    from figkd.data.crop import centre_crop
    from figkd.data.decode import decode_square
    from figkd.data.levels import from_json

    images = open_split(data, "test").images
    rows = np.unique(np.linspace(0, len(images) - 1, min(INPUTS, len(images))).astype(np.int64))
    stored = np.asarray(images[rows])
    pictures = {f"{i}.png": png_bytes(stored[i]) for i in range(min(_PNGS, len(stored)))}
    for number, orientation in enumerate(_ORIENTATIONS):
        pictures[f"{len(pictures)}.jpg"] = photograph(stored[number % len(stored)], orientation=orientation)
    rules = from_json(read_json(data / "data.json").get("decoding", {}).get("levels", {}))
    views = []
    for name, encoded in pictures.items():
        view = spec.view(encoded)
        square = decode_square(partial(bytes, encoded), spec.side, rules=rules)
        if not np.array_equal(view, centre_crop(square[None], spec.size)[0]):
            raise StageFailed(
                f"the runtime's preprocessing of {name} gives other pixels than the training's",
                fix="use the version of Pillow that constraints.txt names, and report this",
            )
        views.append(view)
    rest = centre_crop(stored, spec.size)[min(_PNGS, len(stored)) :]
    return Golden(np.concatenate([np.stack(views), rest]), pictures)


@dataclass(frozen=True)
class Known:
    """Labelled images."""

    views: npt.NDArray[np.uint8]
    """[N, S, S, 3]"""
    labels: list[str]
    """Their classes."""


def validation(data: Path, spec: Preprocessing) -> Known:
    """Validation images, evenly over the set: test images stay unseen."""
    import numpy as np

    from figkd.data import class_names, open_split
    from figkd.data.crop import centre_crop

    split, names = open_split(data, "val"), class_names(data)
    most = min(REFERENCE, max(MOST_VIEW_BYTES // (3 * spec.size**2), 1), len(split.images))
    rows = np.unique(np.linspace(0, len(split.images) - 1, most).astype(np.int64))
    return Known(
        centre_crop(np.asarray(split.images[rows]), spec.size), [names[split.labels[row]] for row in rows]
    )


@dataclass(frozen=True)
class Labelled:
    """Images whose class is known, for a device to compare itself with."""

    rows: npt.NDArray[np.int64]
    """Of the validation images."""
    files: dict[str, bytes]
    """Images and classes."""

    def answers(self, logits: npt.NDArray[np.float32]) -> dict[str, bytes]:
        """What an engine says of them, and how its answers to all validation images are distributed."""
        from export.runtime.bundle import canary, canonical, golden
        from export.runtime.counts import counts_of
        from export.runtime.install.outputs import REFERENCE as REFERENCE_FILE

        found = {REFERENCE_FILE: canonical.encode(counts_of(logits).to_json())}
        if len(self.rows):
            found[canary.ANSWERS] = golden.npy_bytes(logits[self.rows].argmax(axis=1).astype("<i4"))
        return found


def labelled(known: Known, outputs: Sequence[str]) -> Labelled:
    """As many validation images, evenly over them, as fit."""
    import numpy as np

    from export.runtime.bundle import canary, golden

    fit = canary.MOST_BYTES // known.views[0].nbytes
    most = min(canary.MOST_IMAGES, fit, len(known.views))
    few = np.unique(np.linspace(0, len(known.views) - 1, most).astype(np.int64))
    labels = np.array([outputs.index(known.labels[row]) for row in few], "<i4")
    files = {canary.INPUTS: golden.npy_bytes(known.views[few]), canary.LABELS: golden.npy_bytes(labels)}
    return Labelled(few, files if len(few) else {})
