"""A model from a bundle: photos in, class names out.

from export.runtime.bundle import UNSIGNED, load

with load("bundles/photos-cpu-3f9a", UNSIGNED) as model:
    for label in model.classify("new.jpg", top=3):
        print(label.name, label.probability)
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Sequence

import numpy as np

from ..errors import ExportError
from . import canonical
from .decode import MOST_BYTES as MOST_IMAGE_BYTES
from .engine import check_fit, load_engine
from .errors import BundleRefused, CannotRun, ImageRefused
from .fit import Chosen, choose
from .preprocess import Preprocessing, from_json
from .verify import Bundle, Choice, open_bundle

if TYPE_CHECKING:
    from ..arrays import Array
    from ..engine import Engine
    from .manifest import EngineEntry, Manifest
    from .verify import Path

LABELS, PREPROCESS = "labels.json", "preprocess.json"
_MOST_CLASSES = 1_000_000


@dataclass(frozen=True)
class Label:
    """One answer."""

    name: str
    """Of the class."""
    probability: float
    """Softmax of the logits, 0 to 1."""
    index: int
    """Of the class among the outputs."""


class Model:
    """An engine with its preprocessing and its class names. Not thread-safe: it answers one call after the other."""

    def __init__(
        self,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        engine: Engine,
        chosen: Chosen | None = None,
    ) -> None:
        """Put together what belongs together; `load` takes it from a bundle.

        Args:
            classes: by output.
            preprocessing: of photos.
            engine: loaded.
            chosen: which of a bundle's engines it is; None: it is from no bundle.

        Raises:
            BundleRefused: the preprocessing gives another input than the engine takes.
        """
        self.classes, self.preprocessing, self.engine = tuple(classes), preprocessing, engine
        self.chosen = chosen
        check_fit(engine, preprocessing.shape, preprocessing.dtype)

    def classify(self, image: Path | bytes | Array, top: int = 1) -> list[Label]:
        """The classes that an image most likely shows, the likeliest first.

        Args:
            image: a path, the bytes of an image file, or upright RGB pixels uint8 [H, W, 3].
            top: how many.

        Raises:
            ImageRefused: it is no image, a damaged one, or too large.
            CannotRun: the engine fails, or Pillow is missing.
        """
        return self.labels(self.logits([self.view(image)])[0], top)

    def view(self, image: Path | bytes | Array) -> Array:
        """What the engine sees of an image, uint8 [size, size, 3]; argument and errors as for `classify`."""
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise ImageRefused(
                    "pixels are %s %s" % (image.dtype, list(image.shape)), "give uint8 [H, W, 3], RGB"
                )
            return self.preprocessing.view_of(image)
        return self.preprocessing.view(image if isinstance(image, bytes) else read_image(image))

    def logits(self, views: Sequence[Array]) -> Array:
        """Logits float32 [N, C] of views uint8 [size, size, 3].

        Raises:
            CannotRun: the engine fails.
            BundleRefused: it answers with another number of classes than there are names.
        """
        return self.answers(self.preprocessing.batch(views))

    def answers(self, batch: Array) -> Array:
        """Logits float32 [N, C] of the engine's own input [N, ...]; errors as for `logits`."""
        try:
            logits = self.engine.infer(batch)
        except ExportError as error:
            raise CannotRun(error.what, error.fix) from error
        if logits.ndim != 2 or logits.shape[1] != len(self.classes):
            raise BundleRefused(
                "the engine answers with %s numbers an image, %s names %d classes"
                % (list(logits.shape[1:]), LABELS, len(self.classes))
            )
        return logits

    def labels(self, logits: Array, top: int) -> list[Label]:
        """The likeliest classes by the logits [C] of one image."""
        if not np.isfinite(logits).all():
            raise CannotRun("the engine's answer is not finite", "see run.pyz self-test")
        shares = probabilities(logits)
        order = np.argsort(-shares, kind="stable")[: max(1, top)]
        return [Label(self.classes[i], float(shares[i]), int(i)) for i in order]

    def entry_in(self, manifest: Manifest) -> EngineEntry:
        """Which engine of its bundle it runs; the first where it is from none."""
        return self.chosen.entry if self.chosen else manifest.engines[0]

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(folder: Path, trust: Choice) -> Model:
    """Verify a bundle and load it; `trust` as for `verify`.

    Raises:
        BundleRefused: as `verify`; or labels, preprocessing and engine do not fit each other.
        CannotRun: the engine cannot be run here.
    """
    return model_of(open_bundle(folder, trust))


def model_of(bundle: Bundle) -> Model:
    """The model in a bundle that was verified; errors as for `load`."""
    classes, preprocessing = read_labels(bundle), read_preprocessing(bundle)
    chosen = choose(bundle.manifest)
    return Model(classes, preprocessing, load_engine(bundle, chosen.entry), chosen)


def probabilities(logits: Array) -> Array:
    """Softmax of logits [..., C], float64."""
    shifted = np.asarray(logits, np.float64) - np.max(logits, axis=-1, keepdims=True)
    shares: Array = np.exp(shifted)
    shares /= shares.sum(axis=-1, keepdims=True)
    return shares


def read_image(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageRefused: it is missing, no regular file, or too large.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise ImageRefused("the image is no regular file", "give an image file")
        with os.fdopen(handle, "rb") as file:
            data = file.read(MOST_IMAGE_BYTES + 1)
    except OSError as error:
        raise ImageRefused("the image cannot be read: %s" % (error.strerror or error)) from None
    return data


def read_labels(bundle: Bundle) -> tuple[str, ...]:
    """Class names by output.

    Raises:
        BundleRefused: `labels.json` is no list of names, each once.
    """
    found = canonical.decode(bundle.read(LABELS), LABELS)
    texts = isinstance(found, list) and all(isinstance(name, str) for name in found)
    if not texts or not 1 <= len(found) <= _MOST_CLASSES or len(set(found)) != len(found):
        raise BundleRefused("%s is no list of class names, each once" % LABELS)
    return tuple(found)


def read_preprocessing(bundle: Bundle) -> Preprocessing:
    """The preprocessing of a bundle.

    Raises:
        BundleRefused: `preprocess.json` describes none that is known.
    """
    return from_json(canonical.decode(bundle.read(PREPROCESS), PREPROCESS))
