"""What a training refuses before it starts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
from torch import nn

from figkd.data.split import Split
from figkd.data.views import Views
from figkd.distributed import World
from figkd.errors import TrainingError
from figkd.objective import Compile

_MOST_THREADS = 1_024
"""torch takes memory for each; beyond some number it has none."""


def check(
    split: Split,
    *,
    epochs: int,
    batch_size: int,
    accumulate: int,
    replicas: int,
    threads: int | str,
    views: Views,
    cache: npt.NDArray[np.float16] | None,
    teacher: nn.Module | None,
    mixed: bool,
    compile: str,
    pause_after: int | None,
    state_path: Path | None,
    world: World,
) -> None:
    """Refuse arguments of `figkd.train.train` that contradict each other or the images.

    Raises:
        TrainingError: what does not fit, and the fix.
    """
    if pause_after is not None and (pause_after < 1 or state_path is None):
        raise TrainingError(
            f"a pause after epoch {pause_after} {'without a state file' if state_path is None else ''}".rstrip(),
            "pause after at least one epoch, with a state_path to go on from",
        )
    count = len(split)
    parts = accumulate * max(replicas, world.size)
    if count < 2 or epochs < 1 or batch_size < 2 or min(accumulate, replicas) < 1:
        raise TrainingError(
            f"{count} images, {epochs} epochs, steps of {batch_size} images in {accumulate} x {replicas} parts",
            "at least 2, 1, 2 and 1 x 1 are needed",
        )
    smallest = count // math.ceil(count / batch_size)
    if smallest < parts:
        raise TrainingError(
            f"steps of {smallest} images for {accumulate} micro-batches, {replicas} replicas and {world.size} "
            "processes",
            "raise batch_size, or lower accumulate, replicas or the number of processes",
        )
    # By its type: True is an int to isinstance, and torch takes no other.
    if threads not in ("auto", "all") and not (type(threads) is int and 1 <= threads <= _MOST_THREADS):
        raise TrainingError(
            f"threads: {threads!r}", f'an int from 1 to {_MOST_THREADS:,}, "auto" or "all" is needed'
        )
    if split.images.shape[1] != views.store_size:
        raise TrainingError(f"images of {split.images.shape[1]} px but views of {views.store_size} px")
    if compile not in get_args(Compile):
        raise TrainingError(f"unknown compile mode {compile!r}", f"one of {', '.join(get_args(Compile))}")
    if compile == "reduce-overhead" and accumulate > 1:
        raise TrainingError(
            "compile: reduce-overhead with accumulate > 1: CUDA graphs would overwrite gradients that are kept",
            "compile: default or auto",
        )
    if cache is not None and teacher is not None:
        raise TrainingError("both cached and online teacher logits", "give one of them")
    if cache is not None and mixed:
        raise TrainingError(
            "mixup or cutmix with cached teacher logits, which are those of unmixed images",
            "run the teacher online, or do not mix",
        )
    if cache is not None and cache.shape[:2] != (count, len(views)):
        raise TrainingError(
            f"teacher logits {cache.shape} for {count} images with {len(views)} views", "make them again"
        )
