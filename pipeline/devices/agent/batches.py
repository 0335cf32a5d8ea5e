"""Images on the device: the uint8 store, the graph's inputs, batches that an engine accepts."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterator, Sequence

from .errors import JobError


def numpy() -> Any:
    """The module, which JetPack and every onnxruntime have.

    Raises:
        JobError: it cannot be imported.
    """
    try:
        import numpy as module
    except Exception as error:
        raise JobError(
            f"numpy cannot be imported on the device: {error}",
            "sudo apt install python3-numpy on the device",
            "missing",
        ) from error
    return module


def blob(folder: str, digest: str) -> str:
    """Path of an uploaded file."""
    path = os.path.join(folder, "blobs", digest)
    if not os.path.isfile(path):
        raise JobError(f"the device's folder lacks an uploaded file ({digest[:12]})", "run again", "failed")
    return path


def stored(folder: str, part: dict[str, Any], image: Sequence[int]) -> Any:
    """One part of the store as a read-only array uint8 [count, H, W, 3] on the file itself."""
    np = numpy()
    path, shape = blob(folder, part["blob"]), (int(part["count"]), *tuple(image))
    wanted = int(np.prod(shape, dtype="int64"))
    if os.path.getsize(path) != wanted:
        raise JobError(
            f"a part of the images has {os.path.getsize(path)} bytes instead of {wanted}",
            "run again",
            "failed",
        )
    return np.memmap(path, "uint8", "r", shape=shape)


def graph_inputs(images: Any, transform: dict[str, Any] | None) -> Any:
    """What the graph takes: the images themselves, or normalised float32 NCHW by `transform`'s mean and std.

    The same formula as the host's, in the same order and precision, so that the bits agree.
    """
    np = numpy()
    if transform is None:
        return np.ascontiguousarray(images)
    mean, std = (np.asarray(transform[key], "float32") for key in ("mean", "std"))
    scaled = (images.astype("float32") / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def in_batches(count: int, accepted: Sequence[int], free: int = 32) -> Iterator[tuple[int, int, int]]:
    """(first image, how many, batch size to run) until `count` images are done; the last batch may need padding."""
    at = 0
    while at < count:
        take = min(max(accepted) if accepted else free, count - at)
        size = min(size for size in accepted if size >= take) if accepted else take
        yield at, take, size
        at += take


def padded(images: Any, size: int) -> Any:
    """A batch filled up to `size` with its last image."""
    np = numpy()
    missing = size - len(images)
    if missing:
        images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
    return np.ascontiguousarray(images)


def infer(engine: Any, images: Any, transform: dict[str, Any] | None, done: Callable[[int], None]) -> Any:
    """Logits float32 [N, C] of stored images [N, H, W, 3], in batches that the engine accepts."""
    np = numpy()
    results = []
    for at, take, size in in_batches(len(images), engine.batch_sizes):
        batch = padded(graph_inputs(images[at : at + take], transform), size)
        results.append(np.asarray(engine.run(batch)[:take], "float32"))
        done(at + take)
    return np.concatenate(results)
