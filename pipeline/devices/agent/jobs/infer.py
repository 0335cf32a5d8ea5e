"""`infer`: what an engine says about stored images; the host makes accuracy of it."""

from __future__ import annotations

import functools
import os
import time
from typing import Any, Callable

import numpy as np

from ..batches import infer, stored
from ..blobs import blob
from ..engines import open_engine


def run(request: dict[str, Any], folder: str, emit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Logits of every image of the given parts.

    Args:
        request: `engine` (see `engines.open_engine`); `parts` (`blob` and `count` of each file of uint8 images);
            `image` [H, W, 3]; `transform` (None, or `mean` and `std` of a graph that takes normalised float32
            NCHW); `repeat` (how often the first image is put in one batch, or run, to see that rows agree; 0 is
            not); `discard` (remove the parts afterwards: the disk does not hold them all).
        folder: work folder.
        emit: receives progress in images.

    Returns:
        `logits` and, if asked for, `repeated`: names of .npy files, float32 [N, C]; `count`; `seconds`; `facts`.

    Raises:
        JobError: the engine cannot be loaded or fails.
    """
    image = request["image"]
    total = sum(int(part["count"]) for part in request["parts"])
    emit({"progress": [0, total, "loading the engine"]})
    engine = open_engine(folder, request["engine"])
    start = time.monotonic()
    told = [0.0]

    def done(before: int, here: int) -> None:
        images = before + here
        if time.monotonic() - told[0] > 0.5 or images == total:
            told[0] = time.monotonic()
            emit({"progress": [images, total, "images"]})

    try:
        logits, at = [], 0
        for part in request["parts"]:
            images = stored(folder, part, image)
            logits.append(infer(engine, images, request["transform"], functools.partial(done, at)))
            at += len(images)
        seconds = time.monotonic() - start
        result = {"logits": _save("logits.npy", np.concatenate(logits))}
        if request.get("repeat"):
            first = np.repeat(stored(folder, request["parts"][0], image)[:1], int(request["repeat"]), axis=0)
            result["repeated"] = _save(
                "repeated.npy", infer(engine, first, request["transform"], lambda n: None)
            )
        return dict(result, count=total, seconds=seconds, facts=engine.facts)
    finally:
        engine.close()
        for part in request["parts"] if request.get("discard") else ():
            os.remove(blob(folder, part["blob"]))


def _save(name: str, values: Any) -> str:
    np.save(name, np.asarray(values, "float32"))
    return name
