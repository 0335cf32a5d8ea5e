"""Images on the device: the uint8 store, the graph's inputs, an engine's answers."""

from __future__ import annotations

import os
from typing import Any, Callable, Sequence

import numpy as np

from export.runtime.batches import in_batches
from export.runtime.normalise import normalised

from .blobs import blob
from .engines import Engine
from .errors import JobError
from .requests import Blob, Transform


def stored(folder: str, part: Blob, image: Sequence[int]) -> Any:
    """One part of the store as a read-only array uint8 [count, H, W, 3] on the file itself."""
    path, shape = blob(folder, part["blob"]), (int(part["count"]), *tuple(image))
    wanted = int(np.prod(shape, dtype="int64"))
    if os.path.getsize(path) != wanted:
        raise JobError(
            f"a part of the images has {os.path.getsize(path)} bytes instead of {wanted}",
            "run again",
            "failed",
        )
    return np.memmap(path, "uint8", "r", shape=shape)


def graph_inputs(images: Any, transform: Transform | None) -> Any:
    """What the graph takes: the images themselves, or normalised float32 NCHW by `transform`'s mean and std."""
    if transform is None:
        return np.ascontiguousarray(images)
    return normalised(images, transform["mean"], transform["std"])


def infer(engine: Engine, images: Any, transform: Transform | None, done: Callable[[int], None]) -> Any:
    """Logits float32 [N, C] of stored images [N, H, W, 3], in batches that the engine accepts."""
    finished = 0

    def run(batch: Any) -> Any:
        nonlocal finished
        logits = np.asarray(engine.run(graph_inputs(batch, transform)), "float32")
        finished = min(len(images), finished + len(batch))
        done(finished)
        return logits

    return in_batches(images, engine.batch_sizes, run)
