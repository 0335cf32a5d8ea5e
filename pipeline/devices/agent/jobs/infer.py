"""`infer`: what an engine says about stored images; the host makes accuracy of it."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

import numpy as np

from ..batches import infer, stored
from ..blobs import blob
from ..engines import open_engine
from ..requests import Answer, Emit, InferRequest


def run(request: InferRequest, folder: str, emit: Emit) -> Answer:
    """Logits of every image of the given parts.

    Args:
        request: what is asked.
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
    emitted = [0.0]

    def done(before: int, here: int) -> None:
        images = before + here
        if time.monotonic() - emitted[0] > 0.5 or images == total:
            emitted[0] = time.monotonic()
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
