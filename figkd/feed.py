"""What each step of an epoch trains on: which samples, in which views, mixed with what, and on which process.

All of it is a function of (seed, epoch, position), so a resumed training needs no position of its own, and several
processes agree without talking.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from figkd.data.split import Split
from figkd.data.views import Views
from figkd.distributed import ALONE, World, spans
from figkd.hashing import derive
from figkd.mixing import NO_MIXING, Mixing

S = TypeVar("S")
T = TypeVar("T")

RESIDENT_BYTES = 4 * 2**30
"""Training images, and cached logits, up to this size are kept on the GPU as a whole; larger ones are read batch
by batch."""

_AHEAD = 2


@dataclass(frozen=True)
class Slot:
    """The part of an epoch's order that one forward pass takes.

    Attributes:
        step: optimizer step within the epoch, from 0.
        start: first place.
        stop: last place + 1.
        images: images that all processes take at the same time.
        weight: share of the step's images that are in this micro-batch.
        last: the optimizer steps after this one.
    """

    step: int
    start: int
    stop: int
    images: int
    weight: float
    last: bool


@dataclass(frozen=True)
class Batch:
    """One forward and backward pass of this process.

    Attributes:
        images: uint8 [B, S, S, 3], augmented, on the device.
        labels: int64 [B].
        soft: cached teacher logits float32 [B, C], or None.
        slot: which part of the epoch it is.
        other: int64 [B], the labels of the images mixed in, or None.
        share: float32 scalar, weight of `labels` against `other`.
    """

    images: Tensor
    labels: Tensor
    soft: Tensor | None
    slot: Slot
    other: Tensor | None = None
    share: Tensor | None = None


def layout(count: int, steps: int, accumulate: int, world: World) -> list[Slot]:
    """The forward passes of this process in an epoch of `count` samples.

    Steps, the micro-batches of a step and the processes' shares of a micro-batch differ by at most one sample in size.
    """
    slots = []
    for step, whole in enumerate(spans((0, count), steps)):
        micro = spans(whole, accumulate)
        for index, part in enumerate(micro):
            start, stop = spans(part, world.size)[world.rank]
            images = part[1] - part[0]
            weight = images / (whole[1] - whole[0])
            slots.append(Slot(step, start, stop, images, weight, index == accumulate - 1))
    return slots


class Feed:
    """The batches of a training, epoch by epoch.

    Args:
        split: images and labels.
        views: augmentation.
        cache: float16 [N, V, C] teacher logits of every view, or None.
        steps: optimizer steps in an epoch.
        accumulate: micro-batches in a step.
        mixing: mixup and CutMix.
        seed: of the order.
        device: where batches go.
        world: the processes that share each step.
    """

    def __init__(
        self,
        split: Split,
        views: Views,
        cache: npt.NDArray[np.float16] | None,
        *,
        steps: int,
        accumulate: int = 1,
        mixing: Mixing = NO_MIXING,
        seed: int = 0,
        device: str = "cpu",
        world: World = ALONE,
    ) -> None:
        self.count = len(split)
        self.slots = layout(len(split), steps, accumulate, world)
        self.waited = 0.0
        self._steps = spans((0, len(split)), steps)
        self._views, self._mixing, self._seed, self._device = views, mixing, seed, device
        self._images = _Rows(split.images, device)
        self._cache = None if cache is None else _Rows(cache, device)
        self._labels = torch.from_numpy(np.array(split.labels)).to(device)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch (from 0). `waited` grows by the seconds that they were waited for."""
        order = torch.randperm(
            self.count, generator=torch.Generator().manual_seed(derive(self._seed, epoch, 2))
        )
        view_ids = self._views.schedule(epoch, self.count)
        orders, draws = [order], None
        if self._mixing:
            orders.append(torch.cat([order[start:stop].roll(1) for start, stop in self._steps]))
            draws = self._mixing.draw(epoch, len(self._steps), self._views.image_size, self._device)
        # Once an epoch: a copy per step would make the host wait for the device.
        orders_there, views_there = [places.to(self._device) for places in orders], view_ids.to(self._device)
        crops = self._views.place(views_there, torch.arange(self.count, device=self._device))
        reads = self._reads(orders, view_ids)
        for slot in self.slots:
            began = time.perf_counter()
            images, rows = next(reads)
            self.waited += time.perf_counter() - began
            ids = _at(orders_there, slot)
            seen = self._views.cut(self._images.there(images, ids), crops[ids])
            labels = self._labels[ids]
            if draws is None:
                soft = None if self._cache is None else self._cache.there(rows, ids, views_there[ids]).float()
                yield Batch(seen, labels, soft, slot)
            else:
                own = slot.stop - slot.start
                mixed = draws.apply(slot.step, seen[:own], seen[own:])
                share = draws.share[slot.step]
                yield Batch(mixed, labels[:own], None, slot, labels[own:], share)

    def _reads(self, orders: list[Tensor], view_ids: Tensor) -> Iterator[tuple[Tensor | None, Tensor | None]]:
        def read(slot: Slot) -> tuple[Tensor | None, Tensor | None]:
            ids = _at(orders, slot)
            rows = None if self._cache is None else self._cache.read(ids, view_ids[ids])
            return self._images.read(ids), rows

        arrays = [self._images] + ([] if self._cache is None else [self._cache])
        # On a CPU a read is a copy from memory: a second thread has shown no clear gain (docs/training.md).
        ahead = self._device != "cpu" and not all(array.resident for array in arrays)
        return _ahead(read, self.slots) if ahead else map(read, self.slots)


class _Rows:
    """An array whose rows are wanted on the device: kept there as a whole if it is small, else read and sent."""

    def __init__(self, array: npt.NDArray[Any], device: str) -> None:
        self._array, self._device = array, device
        self._kept: Tensor | None = None
        if device != "cpu" and array.nbytes <= RESIDENT_BYTES:
            self._kept = torch.from_numpy(np.array(array)).to(device)

    @property
    def resident(self) -> bool:
        return self._kept is not None

    def read(self, *index: Tensor) -> Tensor | None:
        """The host's part: rows ready to be sent, or None if the device has them."""
        if self._kept is not None:
            return None
        rows = torch.from_numpy(self._array[tuple(places.numpy() for places in index)])
        # Only copies from pinned memory go without waiting.
        return rows if self._device == "cpu" else rows.pin_memory()

    def there(self, read: Tensor | None, *index: Tensor) -> Tensor:
        """The rows on the device, from what `read` gave or, by an index on the device, from what is kept."""
        if self._kept is not None:
            return self._kept[index]
        assert read is not None  # `read` gives None only where the rows are kept
        return read.to(self._device, non_blocking=True)


def _at(orders: list[Tensor], slot: Slot) -> Tensor:
    parts = [order[slot.start : slot.stop] for order in orders]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _ahead(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """`map` in a thread of its own that runs a little ahead of the caller; errors arrive where they would have."""
    with ThreadPoolExecutor(1) as pool:
        pending: collections.deque[Future[T]] = collections.deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
