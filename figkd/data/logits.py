"""A cache of the teacher's logits for every view of every sample.

One .npy file, float16 [N, V, C], that students read through a memory map. While it is made, a .partial file
and a .progress.json beside it record how many rows are done; a killed run continues from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from figkd.data.views import Views
from figkd.errors import DataError
from figkd.files import write_json
from figkd.progress import Progress, no_progress

Cache = npt.NDArray[np.float16]

_COMMIT_SECONDS = 2.0
_FLOAT16_MAX = 65504.0


def cache_logits(
    teacher: nn.Module,
    images: npt.NDArray[np.uint8],
    views: Views,
    path: Path,
    *,
    batch_size: int = 256,
    device: str = "cpu",
    progress: Progress = no_progress,
    resume: bool = True,
) -> Path:
    """Compute the teacher's logits (eval mode) of all views of all images and write them to `path`.

    The teacher is left in eval mode on `device`. A run that was stopped is taken up again if teacher, images'
    shape, views and batch size are the same, and gives the same file as an uninterrupted one.

    Args:
        teacher: takes uint8 [B, H, W, 3], returns [B, C].
        images: uint8 [N, S, S, 3], may be memory-mapped.
        views: V views.
        path: of the .npy file; replaced if it exists.
        batch_size: views per forward pass.
        device: "cpu" or "cuda".
        progress: called with rows done.
        resume: False starts from the beginning.

    Raises:
        DataError: no images, or logits that are not finite or do not fit float16.
    """
    count = len(images)
    if not count:
        raise DataError("there are no images to cache logits of")
    teacher.to(device).eval()
    view_count = len(views)
    rows = max(1, batch_size // view_count)
    with torch.inference_mode():
        first = _rows(teacher, images, views, 0, min(rows, count), device)
    shape = (count, view_count, first.shape[2])
    about = {"shape": list(shape), "rows": rows, "views": views.name, "teacher": _digest(teacher)}
    partial = path.with_name(path.name + ".partial")
    sidecar = path.with_name(path.name + ".progress.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = _rows_done(partial, sidecar, about) if resume else 0
    mode = "r+" if done else "w+"
    store = np.lib.format.open_memmap(partial, mode=mode, dtype=np.float16, shape=shape)
    committed = time.monotonic()
    with torch.inference_mode():
        for start in range(done, count, rows):
            stop = min(start + rows, count)
            logits = first if start == 0 else _rows(teacher, images, views, start, stop, device)
            if not np.abs(logits).max() <= _FLOAT16_MAX:
                raise DataError("the teacher's logits are not finite or exceed float16", "check the teacher")
            store[start:stop] = logits
            progress(stop, count, "teacher logits")
            if time.monotonic() - committed > _COMMIT_SECONDS:
                store.flush()
                write_json(sidecar, {**about, "done": stop})
                committed = time.monotonic()
    store.flush()
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    sidecar.unlink(missing_ok=True)
    return path


def open_logits(path: Path) -> Cache:
    """Open a cache: float16 [N, V, C], memory-mapped, read-only.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        logits = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the teacher's logits {path}: {error}", "make them again") from error
    if logits.ndim != 3 or logits.dtype != np.float16:
        raise DataError(f"{path} is not a cache of logits", "make it again")
    return cast(Cache, logits)


def _rows(
    teacher: nn.Module, images: npt.NDArray[np.uint8], views: Views, start: int, stop: int, device: str
) -> npt.NDArray[np.float32]:
    count = len(views)
    batch = torch.from_numpy(np.array(images[start:stop])).to(device).repeat_interleave(count, dim=0)
    samples = torch.arange(start, stop, device=device).repeat_interleave(count)
    ids = torch.arange(count, device=device).repeat(stop - start)
    logits = teacher(views.apply(batch, ids, samples)).float().cpu().numpy()
    return cast("npt.NDArray[np.float32]", logits.reshape(stop - start, count, -1))


def _rows_done(partial: Path, sidecar: Path, about: dict[str, object]) -> int:
    try:
        said = json.loads(sidecar.read_text(encoding="utf-8"))
        done = int(said.pop("done"))
        store = np.load(partial, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, AttributeError):
        return 0
    fits = said == about and list(store.shape) == about["shape"] and store.dtype == np.float16
    return done if fits else 0


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
