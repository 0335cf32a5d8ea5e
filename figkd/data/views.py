"""Augmentation as views that can be enumerated and replayed.

A view set has a finite number of views; view k of sample n is always the same crop. That is what lets a
teacher's logits be computed once for every view that students will see. Everything is batched: no Python per
sample, on whichever device the images are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from figkd.errors import FigkdError
from figkd.hashing import derive, mix, uniform

Kind = Literal["none", "shift", "shift_flip", "random_resized_crop"]
KINDS: tuple[Kind, ...] = ("none", "shift", "shift_flip", "random_resized_crop")

_SCALE = (0.25, 1.0)
_RATIO = (3 / 4, 4 / 3)
_COPRIMES_KEPT = 64


@dataclass(frozen=True)
class Views:
    """A finite set of augmented views of every sample; make one with `make_views`.

    Attributes:
        name: says what the views are; equal names mean equal views.
        image_size: side of a view, pixels.
        store_size: side of the images that `apply` takes, pixels.
        count: number of views of a sample.
        seed: of the schedule.
    """

    name: str
    image_size: int
    store_size: int
    count: int
    seed: int
    _apply: Callable[[Tensor, Tensor, Tensor], Tensor]

    def __len__(self) -> int:
        return self.count

    def apply(self, images: Tensor, view_ids: Tensor, sample_ids: Tensor) -> Tensor:
        """Make one view of each image.

        Args:
            images: uint8 [B, store_size, store_size, 3].
            view_ids: int64 [B] in 0..len-1.
            sample_ids: int64 [B], the samples' positions in the data set.

        Returns:
            uint8 [B, image_size, image_size, 3] on the device of `images`.

        Raises:
            FigkdError: images of another size.
        """
        side = self.store_size
        if images.ndim != 4 or images.shape[1:] != (side, side, 3) or images.dtype != torch.uint8:
            raise FigkdError(
                f"views of {tuple(images.shape)} {images.dtype} images", f"uint8 [B, {side}, {side}, 3]"
            )
        return self._apply(images, view_ids.to(images.device), sample_ids.to(images.device))

    def schedule(self, epoch: int, n_samples: int) -> Tensor:
        """View of every sample in an epoch: int64 [n_samples], see `schedule`."""
        return schedule(epoch, n_samples, self.seed, n_views=self.count)


def make_views(
    kind: Kind,
    *,
    image_size: int,
    store_size: int,
    pad: int = 0,
    count: int | None = None,
    seed: int = 0,
) -> Views:
    """Make a view set.

    Args:
        kind: "none": the centre crop, one view. "shift": crops displaced by -pad..pad pixels each way,
            (2 pad + 1)^2 views; where a crop leaves the stored image, its edge pixels are repeated.
            "shift_flip": the same and their mirror images, twice as many. "random_resized_crop": `count`
            crops of 25 to 100 % of the area with aspect ratio 3/4 to 4/3, resized (bilinear, no antialiasing:
            keep store_size below about twice image_size) and mirrored half of the time.
        image_size: side of a view, pixels.
        store_size: side of the stored images, pixels, >= image_size.
        pad: largest shift, pixels (shift kinds).
        count: use only this many views of each sample: a seeded subset, another one for each sample. Needed
            for "random_resized_crop", whose views have no natural end.
        seed: of the subset, the crops and the schedule.

    Raises:
        FigkdError: unknown kind, or numbers out of range.
    """
    if kind not in KINDS:
        raise FigkdError(f"unknown kind of views {kind!r}", f"one of {', '.join(KINDS)}")
    if image_size < 1 or store_size < image_size:
        raise FigkdError(f"views of {image_size} px from {store_size} px images", "store_size >= image_size")
    if pad < 0 or (count is not None and count < 1):
        raise FigkdError(f"pad {pad} and count {count}", "pad >= 0, count >= 1")
    if kind == "random_resized_crop":
        if count is None:
            raise FigkdError("random_resized_crop views need a count", "e.g. the number of epochs")
        name = f"{kind}({image_size} of {store_size}, count {count}, seed {seed})"
        return Views(name, image_size, store_size, count, seed, _resized_crops(image_size, seed))
    reach = 0 if kind == "none" else pad
    total = (2 * reach + 1) ** 2 * (2 if kind == "shift_flip" else 1)
    base = _shifts(image_size, store_size, reach)
    if count is None or count >= total:
        name = f"{kind}({image_size} of {store_size}, pad {reach})"
        return Views(name, image_size, store_size, total, seed, base)

    def subset(images: Tensor, view_ids: Tensor, sample_ids: Tensor) -> Tensor:
        return base(images, _spread(view_ids, sample_ids, total, seed), sample_ids)

    name = f"{kind}({image_size} of {store_size}, pad {reach}, {count} of {total}, seed {seed})"
    return Views(name, image_size, store_size, count, seed, subset)


def schedule(epoch: int, n_samples: int, seed: int, *, n_views: int) -> Tensor:
    """View ids int64 [n_samples] of an epoch, a function of (epoch, seed) alone.

    In every cycle of `n_views` epochs a sample goes through all of its views once, in a pseudo-random order
    of its own.
    """
    samples = torch.arange(n_samples, dtype=torch.int64)
    cycle, position = divmod(epoch, n_views)
    return _spread(torch.full_like(samples, position), samples, n_views, derive(seed, cycle))


def _spread(position: Tensor, sample_ids: Tensor, total: int, seed: int) -> Tensor:
    """Map positions 0..total-1 one to one to views: k -> (a k + b) mod total, a and b of each sample."""
    table = _coprimes(total, sample_ids.device)
    step = table[mix(seed, sample_ids, 1) % len(table)]
    start = mix(seed, sample_ids, 2) % total
    return (step * position + start) % total


@lru_cache(maxsize=16)
def _coprimes(total: int, device: torch.device) -> Tensor:
    """Numbers without a common factor with `total`: int64, thinned out when there are many."""
    steps = [step for step in range(1, total + 1) if math.gcd(step, total) == 1]
    if len(steps) > _COPRIMES_KEPT:
        steps = steps[:: len(steps) // _COPRIMES_KEPT]
    return torch.tensor(steps, dtype=torch.int64, device=device)


def _shifts(image_size: int, store_size: int, pad: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    margin = (store_size - image_size) // 2
    span = 2 * pad + 1

    def apply(images: Tensor, view_ids: Tensor, sample_ids: Tensor) -> Tensor:
        shift = view_ids % (span * span)
        flip = view_ids >= span * span
        steps = torch.arange(image_size, device=images.device)
        rows = (steps + (margin - pad) + (shift // span)[:, None]).clamp_(0, store_size - 1)
        columns = torch.where(flip[:, None], image_size - 1 - steps, steps)
        columns = (columns + (margin - pad) + (shift % span)[:, None]).clamp_(0, store_size - 1)
        batch = torch.arange(len(images), device=images.device)
        return images[batch[:, None, None], rows[:, :, None], columns[:, None, :]]

    return apply


def _resized_crops(image_size: int, seed: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def apply(images: Tensor, view_ids: Tensor, sample_ids: Tensor) -> Tensor:
        draws = [uniform(seed, sample_ids, view_ids, index) for index in range(5)]
        area = _SCALE[0] + (_SCALE[1] - _SCALE[0]) * draws[0]
        low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
        ratio = torch.exp(low + (high - low) * draws[1])
        # Fractions of the stored side; a crop that would not fit is cut to it.
        width = (area * ratio).sqrt().clamp(max=1.0)
        height = (area / ratio).sqrt().clamp(max=1.0)
        left, top = draws[2] * (1 - width), draws[3] * (1 - height)
        mirror = torch.where(draws[4] < 0.5, -1.0, 1.0)
        zero = torch.zeros_like(width)
        # grid_sample's coordinates run from -1 to 1 over the stored image.
        x_row = torch.stack([mirror * width, zero, 2 * left + width - 1], dim=1)
        y_row = torch.stack([zero, height, 2 * top + height - 1], dim=1)
        theta = torch.stack([x_row, y_row], dim=1).to(torch.float32)
        grid = F.affine_grid(theta, [len(images), 3, image_size, image_size], align_corners=False)
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        crops = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return crops.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    return apply
