"""A cache of the teacher's logits for the views that students will see.

One .npy file, float16 [V, N, C], read through a memory map as [N, V, C]: what one epoch needs is one contiguous
piece. A sidecar, <file>.json, says which teacher, images and views it was made from, and the file's sha256.
While a cache is made, <file>.partial and <file>.progress.json record how much is done; a killed run goes on
from there.

float16 keeps a logit of up to 65504 to a relative error of 2^-11 (below 2^-14: an absolute one of 2^-25).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from figkd import labels
from figkd.checkpoint import tensor_bytes
from figkd.data.views import Views
from figkd.errors import DataError, LabelError
from figkd.files import Json, read_array, read_json, write_json
from figkd.folding import folded
from figkd.models import place
from figkd.progress import Progress, no_progress
from figkd.replicas import predictor

Cache = npt.NDArray[np.float16]

_FORMAT = 2
_COMMIT_SECONDS = 2.0
_FLOAT16_MAX = 65504.0
_FINGERPRINT_IMAGES = 256


@dataclass(frozen=True)
class Origin:
    """What a cache is made from; equal origins mean equal logits, up to the rounding of other kernels.

    Attributes:
        teacher: sha256 of the weights and buffers.
        images: sha256 of their number, shape and up to 256 of them, evenly spaced.
        views: name of the view set.
    """

    teacher: str
    images: str
    views: str


def origin_of(teacher: nn.Module, images: npt.NDArray[np.uint8], views: Views) -> Origin:
    """Describe what `cache_logits` would be given."""
    digest = hashlib.sha256(str(tuple(images.shape)).encode())
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), _FINGERPRINT_IMAGES)).astype(np.int64))
    digest.update(np.ascontiguousarray(images[rows]).tobytes())
    return Origin(_weights_digest(teacher), digest.hexdigest(), views.name)


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
    classes: Sequence[str] | None = None,
) -> Path:
    """Compute the teacher's logits (eval mode) of all views of all images and write them to `path`.

    Takes 2 N V C bytes of disk, reserved before the first batch, and the memory of one batch in all its views'
    logits. Every image is read once. The teacher is left in eval mode on `device`. A run that was stopped is
    taken up again if teacher, images, views and batch size are the same, and gives the same file as an
    uninterrupted one.

    Args:
        teacher: takes uint8 [B, H, W, 3], returns [B, C].
        images: uint8 [N, S, S, 3], may be memory-mapped or decoded on the fly.
        views: V views.
        path: of the .npy file; replaced if it exists.
        batch_size: images per forward pass.
        device: "cpu" or "cuda".
        progress: called with views done, of N V.
        resume: False starts from the beginning.
        classes: names by column, kept beside the logits.

    Raises:
        DataError: no images, logits that are not finite or do not fit float16, or not enough disk.
    """
    count, view_count = len(images), len(views)
    if not count:
        raise DataError("there are no images to cache logits of")
    place(teacher, device).eval()
    origin = origin_of(teacher, images, views)
    with torch.inference_mode():
        width = _Batch(images, 0, 1, device).logits(teacher, views, 0).shape[1]
    shape = (view_count, count, width)
    about = {"format": _FORMAT, "shape": list(shape), "batch": batch_size, **asdict(origin)}
    partial = path.with_name(path.name + ".partial")
    sidecar = path.with_name(path.name + ".progress.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    note = f"teacher logits, {2 * view_count * count * width / 1e6:.1f} MB"
    done = _steps_done(partial, sidecar, about) if resume else 0
    if not done:
        _reserve(partial, shape)
    network = folded(teacher)
    with partial.open("r+b") as file, torch.inference_mode(), predictor(network, device) as ask:
        header = partial.stat().st_size - 2 * view_count * count * width
        committed = time.monotonic()
        # One step is one forward pass: view `view` of the images from `start` on.
        batch: _Batch | None = None
        pending: list[tuple[int, Tensor]] = []
        for step in range(done, view_count * -(-count // batch_size)):
            start, view = step // view_count * batch_size, step % view_count
            if batch is None or batch.start != start:
                batch = _Batch(images, start, min(start + batch_size, count), device)
            pending.append((view, batch.logits(ask, views, view)))
            late = time.monotonic() - committed > _COMMIT_SECONDS
            if late or view == view_count - 1:
                # Only here does the host wait for the device.
                for position, rows in zip(*_rounded(pending), strict=True):
                    file.seek(header + 2 * width * (position * count + start))
                    file.write(rows.tobytes())
                pending.clear()
                progress(start * view_count + len(batch) * (view + 1), count * view_count, note)
            if late:
                _flush(file)
                write_json(sidecar, {**about, "done": step + 1})
                committed = time.monotonic()
        _flush(file)
    _sidecar(path).unlink(missing_ok=True)
    with partial.open("rb") as finished:
        sha256 = hashlib.file_digest(finished, "sha256").hexdigest()
    os.replace(partial, path)
    said = {"format": _FORMAT, "shape": list(shape), **asdict(origin), "sha256": sha256}
    write_json(_sidecar(path), said | ({} if classes is None else {"classes": list(classes)}))
    sidecar.unlink(missing_ok=True)
    return path


def open_logits(path: Path, *, expect: Origin | None = None, classes: Sequence[str] | None = None) -> Cache:
    """Open a cache: float16 [N, V, C], memory-mapped, read-only; `cache[:, v]` is contiguous on disk.

    Args:
        path: of the .npy file; its sidecar must lie beside it.
        expect: what it must have been made from (see `origin_of`); its sha256 is then checked too, which reads
            the whole file.
        classes: names by column that are wanted. Columns in another order are put into it, in memory.

    Raises:
        LabelError: the cache is of other classes, or does not say of which.
        DataError: the file or its sidecar is missing or damaged, or it was made from something else.
    """
    try:
        said = read_json(_sidecar(path))
        logits = read_array(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the teacher's logits {path}: {error}", "make them again") from error
    fits = isinstance(said, dict) and said.get("format") == _FORMAT and logits.ndim == 3
    if not fits or logits.dtype != np.float16 or list(logits.shape) != said.get("shape"):
        raise DataError(f"{path} is not a cache of logits of this version", "make it again")
    if expect is not None:
        for part, wanted in asdict(expect).items():
            if said.get(part) != wanted:
                raise DataError(
                    f"{path} was made from other {part}: {_short(said.get(part))}, not {_short(wanted)}",
                    "use what it was made from, or make it again",
                )
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != said.get("sha256"):
                raise DataError(f"{path} has other contents than were written", "make it again")
    found = cast(Cache, logits.transpose(1, 0, 2))
    if classes is None:
        return found
    in_file = said.get("classes")
    if not isinstance(in_file, list) or not all(isinstance(name, str) for name in in_file):
        raise LabelError(f"{path} does not say which classes its columns are", "make it again")
    order = labels.mapping(in_file, classes, what=path.name)
    return found if order == list(range(len(order))) else found[:, :, order]


class _Batch:
    """Some images on the device, to be seen in one view after another."""

    def __init__(self, images: npt.NDArray[np.uint8], start: int, stop: int, device: str) -> None:
        self.start = start
        self._images = torch.from_numpy(np.array(images[start:stop])).to(device)
        self._samples = torch.arange(start, stop, device=device)

    def __len__(self) -> int:
        return len(self._samples)

    def logits(self, teacher: Callable[[Tensor], Tensor], views: Views, view: int) -> Tensor:
        return teacher(views.apply(self._images, torch.full_like(self._samples, view), self._samples))


def _rounded(pending: list[tuple[int, Tensor]]) -> tuple[list[int], Cache]:
    """View numbers, and their logits as float16 [views, B, C] on the host."""
    logits = torch.stack([rows for _, rows in pending])
    if not float(logits.abs().max()) <= _FLOAT16_MAX:
        raise DataError("the teacher's logits are not finite or exceed float16", "check the teacher")
    return [view for view, _ in pending], cast(Cache, logits.half().cpu().numpy())


def _reserve(partial: Path, shape: tuple[int, int, int]) -> None:
    """Make a file of the final size whose blocks exist: a full disk must show now, not after hours."""
    partial.unlink(missing_ok=True)
    needed, free = 2 * int(np.prod(shape)), shutil.disk_usage(partial.parent).free
    lacking = DataError(
        f"the teacher's logits take {needed / 1e9:.2f} GB ({shape[1]:,} images x {shape[0]} views x "
        f"{shape[2]} classes x 2 bytes), {free / 1e9:.2f} GB are free in {partial.parent}",
        "free some space, take fewer views, or run the teacher online",
    )
    if free < needed:
        raise lacking
    np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)  # writes the header
    try:
        with partial.open("r+b") as file, contextlib.suppress(AttributeError):  # not on every system
            os.posix_fallocate(file.fileno(), 0, partial.stat().st_size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            partial.unlink(missing_ok=True)
            raise lacking from error


def _steps_done(partial: Path, sidecar: Path, about: Json) -> int:
    try:
        said = read_json(sidecar)
        store = read_array(partial)
    except (OSError, ValueError):
        return 0
    done = said.pop("done", 0) if isinstance(said, dict) else 0
    fits = (
        type(done) is int
        and done > 0
        and said == about
        and list(store.shape) == about["shape"]
        and store.dtype == np.float16
    )
    return done if fits else 0


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _weights_digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 and "(" not in text else text
