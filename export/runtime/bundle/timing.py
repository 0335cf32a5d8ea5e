"""How long it takes from an image file to a class, step by step, by the very code that classifies in a bundle."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple

from ..errors import ExportError
from ..sampling import Step
from .decode import decode
from .errors import ImageRefused

if TYPE_CHECKING:
    from .preprocess import Preprocessing

BOUNDARY = "image_to_class"


def image_to_class(engine: Any, encoded: Sequence[bytes], preprocessing: Preprocessing) -> Step:
    """A query from a file's bytes to a class index that times its steps.

    Args:
        engine: accepts batch 1; has `infer`.
        encoded: image files' contents, taken in turns.
        preprocessing: how an image becomes the engine's input.

    Returns:
        A function that classifies the next image and returns the ms of the steps `decode`, `resize` (crop and layout
        included), `infer` and `argmax`; `latency` is the time from the first's start to the last's end.

    Raises:
        ExportError: no images. A call raises what `Preprocessing.view` and the engine raise.
    """
    if not encoded:
        raise ExportError("no encoded images were given", "give at least one")
    clock = time.perf_counter_ns
    position = 0

    def step() -> dict[str, float]:
        nonlocal position
        data = encoded[position % len(encoded)]
        position += 1
        start = clock()
        pixels = decode(data, preprocessing.side, preprocessing.levels)
        decoded = clock()
        batch = preprocessing.batch([preprocessing.view_of(pixels)])
        resized = clock()
        logits = engine.infer(batch)
        inferred = clock()
        int(logits[0].argmax())
        end = clock()
        return {
            "latency": (end - start) / 1e6,
            "decode": (decoded - start) / 1e6,
            "resize": (resized - decoded) / 1e6,
            "infer": (inferred - resized) / 1e6,
            "argmax": (end - inferred) / 1e6,
        }

    return step


def readable(encoded: Sequence[bytes], preprocessing: Preprocessing) -> Tuple[List[bytes], str]:
    """The images that can be decoded here, and why the first of the others cannot; '' if all can.

    Raises:
        CannotRun: Pillow is missing.
    """
    found, reason = [], ""
    for data in encoded:
        try:
            decode(data, preprocessing.side, preprocessing.levels)
        except ImageRefused as error:
            reason = reason or error.what
        else:
            found.append(data)
    return found, reason
