"""Augmentation as views that can be enumerated and replayed.

View k of sample n is always the same crop, a function of (seed, n, k) alone. That is what lets a teacher's
logits be computed once for the views that students will see, without storing the crops. The views of a sample
are numbered in a pseudo-random order of its own, so epoch e simply takes view e of every sample, and the first
K views are a random choice of K. Everything is batched: no Python per sample, on whichever device the images are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from figkd.data.view_kinds import KINDS as KINDS
from figkd.data.view_kinds import Kind as Kind
from figkd.data.view_kinds import view_total
from figkd.errors import FigkdError
from figkd.hashing import mix, uniform

_SCALE = (0.25, 1.0)
_RATIO = (3 / 4, 4 / 3)
_COPRIMES_KEPT = 64


@dataclass(frozen=True)
class Views:
    """A finite set of augmented views of every sample; make one with `make_views`.

    Attributes:
        name: says what the views are; equal names mean equal views.
        image_size: side of a view, pixels.
        store_size: side of the images that views are cut from, pixels.
        count: number of views of a sample.
        seed: of their order and, for random crops, of the crops.
    """

    name: str
    image_size: int
    store_size: int
    count: int
    seed: int
    _place: Callable[[Tensor, Tensor], Tensor]
    _cut: Callable[[Tensor, Tensor], Tensor]

    def __len__(self) -> int:
        return self.count

    def apply(self, images: Tensor, view_ids: Tensor, sample_ids: Tensor) -> Tensor:
        """Make one view of each image: `cut` at `place`.

        Args:
            images: uint8 [B, store_size, store_size, 3].
            view_ids: int64 [B] in 0..len-1.
            sample_ids: int64 [B], the samples' positions in the data set.

        Returns:
            uint8 [B, image_size, image_size, 3] on the device of `images`.

        Raises:
            FigkdError: images of another size.
        """
        return self.cut(images, self.place(view_ids.to(images.device), sample_ids.to(images.device)))

    def place(self, view_ids: Tensor, sample_ids: Tensor) -> Tensor:
        """Where views lie in their images, for `cut`; cheap enough for a whole epoch at once.

        Args:
            view_ids: int64 [B] in 0..len-1.
            sample_ids: int64 [B], the samples' positions in the data set.

        Returns:
            [B, K] on the device of the ids: int64 for shifts, float32 for resized crops.
        """
        return self._place(view_ids, sample_ids)

    def cut(self, images: Tensor, places: Tensor) -> Tensor:
        """Cut one view out of each image.

        Args:
            images: uint8 [B, store_size, store_size, 3].
            places: [B, K], rows of what `place` gave, on the same device.

        Returns:
            uint8 [B, image_size, image_size, 3].

        Raises:
            FigkdError: images of another size.
        """
        side = self.store_size
        if images.ndim != 4 or images.shape[1:] != (side, side, 3) or images.dtype != torch.uint8:
            raise FigkdError(
                f"views of {tuple(images.shape)} {images.dtype} images", f"uint8 [B, {side}, {side}, 3]"
            )
        return self._cut(images, places)

    def schedule(self, epoch: int, n_samples: int) -> Tensor:
        """View of every sample in an epoch (from 0): int64 [n_samples], all equal to `epoch` mod len.

        So a sample goes through all of its views before it sees one again, and what an epoch needs of a cache
        lies together.
        """
        return torch.full((n_samples,), epoch % self.count, dtype=torch.int64)


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
        count: use only the first `count` views of each sample. Needed for "random_resized_crop", whose views
            have no natural end.
        seed: of the views' order and of the crops.

    Raises:
        FigkdError: unknown kind, or numbers out of range.
    """
    if kind not in KINDS:
        raise FigkdError(f"unknown kind of views {kind!r}", f"one of {', '.join(KINDS)}")
    if image_size < 1 or store_size < image_size:
        raise FigkdError(f"views of {image_size} px from {store_size} px images", "store_size >= image_size")
    if pad < 0 or (count is not None and count < 1):
        raise FigkdError(f"pad {pad} and count {count}", "pad >= 0, count >= 1")
    total = view_total(kind, pad)
    if total is None:
        if count is None:
            raise FigkdError("random_resized_crop views need a count", "e.g. the number of epochs")
        name = f"{kind}({image_size} of {store_size}, {count} views, seed {seed})"
        place, cut = _resized_crops(image_size, seed)
        return Views(name, image_size, store_size, count, seed, place, cut)
    reach = 0 if kind == "none" else pad
    kept = total if count is None else min(count, total)
    order = f", {kept} of {total} views, seed {seed}" if total > 1 else ""
    name = f"{kind}({image_size} of {store_size}, pad {reach}{order})"
    place, cut = _shifts(image_size, store_size, reach, total, seed)
    return Views(name, image_size, store_size, kept, seed, place, cut)


def _spread(position: Tensor, sample_ids: Tensor, total: int, seed: int) -> Tensor:
    """Map positions 0..total-1 one to one to 0..total-1: k -> (a k + b) mod total, a and b of each sample."""
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


Placing = Callable[[Tensor, Tensor], Tensor]


def _shifts(image_size: int, store_size: int, pad: int, total: int, seed: int) -> tuple[Placing, Placing]:
    corner = (store_size - image_size) // 2 - pad
    span = 2 * pad + 1

    def place(view_ids: Tensor, sample_ids: Tensor) -> Tensor:
        crop = _spread(view_ids, sample_ids, total, seed) if total > 1 else torch.zeros_like(view_ids)
        shift = crop % (span * span)
        return torch.stack([shift // span + corner, shift % span + corner, crop // (span * span)], dim=1)

    def cut(images: Tensor, places: Tensor) -> Tensor:
        top, left, mirrored = places.unbind(1)
        steps = torch.arange(image_size, device=images.device)
        rows = (top[:, None] + steps).clamp_(0, store_size - 1)
        columns = torch.where(mirrored[:, None] > 0, image_size - 1 - steps, steps)
        columns = (left[:, None] + columns).clamp_(0, store_size - 1)
        rows += torch.arange(len(images), device=images.device)[:, None] * store_size
        # One flat index_select of whole pixels: on a CPU 3 to 6 times as fast as indexing by three arrays.
        pixels = (rows[:, :, None] * store_size + columns[:, None, :]).flatten()
        return images.reshape(-1, 3).index_select(0, pixels).view(-1, image_size, image_size, 3)

    return place, cut


def _resized_crops(image_size: int, seed: int) -> tuple[Placing, Placing]:
    def place(view_ids: Tensor, sample_ids: Tensor) -> Tensor:
        draws = [uniform(seed, sample_ids, view_ids, index) for index in range(5)]
        area = _SCALE[0] + (_SCALE[1] - _SCALE[0]) * draws[0]
        low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
        ratio = torch.exp(low + (high - low) * draws[1])
        # Fractions of the stored side; a crop that would not fit is cut to it.
        width = (area * ratio).sqrt().clamp(max=1.0)
        height = (area / ratio).sqrt().clamp(max=1.0)
        left, top = draws[2] * (1 - width), draws[3] * (1 - height)
        mirror = torch.where(draws[4] < 0.5, -1.0, 1.0)
        # Slope and offset of grid_sample's coordinates, which run from -1 to 1 over the stored image.
        values = [mirror * width, 2 * left + width - 1, height, 2 * top + height - 1]
        return torch.stack(values, dim=1).to(torch.float32)

    def cut(images: Tensor, places: Tensor) -> Tensor:
        steps = (2 * torch.arange(image_size, device=images.device) + 1) / image_size - 1
        # Not affine_grid: that is a matrix product, whose precision and result depend on settings and batch.
        x = places[:, 0:1] * steps + places[:, 1:2]
        y = places[:, 2:3] * steps + places[:, 3:4]
        shape = (-1, image_size, image_size)
        grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3)
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)
        crops = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return crops.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    return place, cut
