"""Cut any number of images into the batch sizes that an engine accepts."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np

from .arrays import Array
from .errors import EngineError

FREE_BATCH = 32
"""Images a call where an engine takes any number: enough for speed, and what a small device has memory for."""
BOUNDARIES = ("engine", "engine+copies")
"""What a timed query includes."""


def check_input(images: Array, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse images of another shape or type than the engine takes.

    Raises:
        EngineError: says both.
    """
    if images.ndim != len(shape) + 1 or tuple(images.shape[1:]) != shape or images.dtype != np.dtype(dtype):
        raise EngineError(
            f"the engine takes {dtype} images {list(shape)}, "
            f"it was given {images.dtype} {list(images.shape[1:])}",
            "preprocess the images as the engine's description says",
        )


def check_batch(batch: int, accepted: Sequence[int]) -> None:
    """Refuse a batch size that the engine was not built for; an empty `accepted` takes all.

    Raises:
        EngineError: names the accepted sizes.
    """
    if batch < 1 or (accepted and batch not in accepted):
        sizes = ", ".join(map(str, accepted)) or "1 and more"
        raise EngineError(
            f"batch {batch} is not among the engine's batch sizes ({sizes})", "build it for this size"
        )


def check_boundary(boundary: str) -> None:
    """Refuse a timing boundary that there is not.

    Raises:
        EngineError: names those that there are.
    """
    if boundary not in BOUNDARIES:
        raise EngineError(f"unknown timing boundary {boundary!r}", "use 'engine' or 'engine+copies'")


def in_batches(
    images: Array, accepted: Sequence[int], run: Callable[[Array], Array], free: int = FREE_BATCH
) -> Array:
    """Concatenated results of `run` over `images` in the largest accepted batches.

    Args:
        images: [N, ...], N >= 1.
        accepted: batch sizes; empty means any, then `free` images a call.
        run: one accepted batch to its result [B, C].
        free: see `accepted`.

    The remainder uses the smallest accepted size that holds it, padded with its last image.
    """
    if len(images) == 0:
        raise EngineError("no images were given", "give at least one")
    results = []
    at = 0
    largest = max(accepted) if accepted else free
    while at < len(images):
        left = len(images) - at
        take = min(largest, left)
        size = take if not accepted else min(size for size in accepted if size >= take)
        part = images[at : at + take]
        if size > take:
            part = np.concatenate([part, np.repeat(part[-1:], size - take, axis=0)])
        results.append(run(np.ascontiguousarray(part))[:take])
        at += take
    return np.concatenate(results)
