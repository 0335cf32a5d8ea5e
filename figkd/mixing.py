"""Mixup and CutMix: batches whose images are mixtures of two, drawn from counters so that they can be replayed.

mixup: Zhang et al., ICLR 2018, arXiv 1710.09412. CutMix: Yun et al., ICCV 2019, arXiv 1905.04899.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from figkd.hashing import uniform


@dataclass(frozen=True)
class Mixing:
    """How strongly to mix; both alphas 0 is no mixing.

    Attributes:
        mixup: alpha of Beta(alpha, alpha), the law of the share; 0 is off.
        cutmix: the same for CutMix. If both are on, each step draws one of them, evenly.
        seed: draws are functions of (seed, epoch, step).
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    seed: int = 0

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def draw(self, epoch: int, steps: int, image_size: int, device: str = "cpu") -> Draws:
        """What to mix in every step of an epoch."""
        from scipy.special import betaincinv

        at = torch.arange(steps)
        first, choice, y, x = (uniform(self.seed, epoch, at, index) for index in range(4))
        cut = choice < (0.5 if self.mixup > 0 else 1.0) if self.cutmix > 0 else torch.zeros_like(choice) > 0
        alpha = torch.where(cut, self.cutmix, self.mixup)
        share = torch.from_numpy(betaincinv(alpha.numpy(), alpha.numpy(), first.numpy()))
        # Beta(a, a) is symmetric and the partner is as random as the image: the image may always be the larger part,
        # which gives the training accuracy a meaning.
        share = torch.maximum(share, 1 - share)
        side = image_size * (1 - share).sqrt()
        edges = []
        for centre in (y * image_size, x * image_size):
            edges += [(centre - side / 2).round(), (centre + side / 2).round()]
        box = torch.stack(edges, dim=1).clamp(0, image_size).to(torch.int64)
        area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
        share = torch.where(cut, 1 - area / image_size**2, share).to(torch.float32)
        return Draws(cut.tolist(), share.to(device), box.to(device))


NO_MIXING = Mixing()


@dataclass(frozen=True)
class Draws:
    """The mixtures of an epoch.

    Attributes:
        cut: whether a step cuts (CutMix) or blends (mixup).
        share: float32 [steps], the image's own share in the labels, 0.5 to 1.
        box: int64 [steps, 4], the partner's rectangle for CutMix: top, bottom, left, right, pixels.
    """

    cut: list[bool]
    share: Tensor
    box: Tensor

    def apply(self, step: int, images: Tensor, partners: Tensor) -> Tensor:
        """Mix uint8 [B, S, S, 3] with as many partners, as in `step`; uint8 again (blends are rounded)."""
        if not self.cut[step]:
            blend = torch.lerp(partners.float(), images.float(), self.share[step])
            return blend.round_().to(torch.uint8)
        top, bottom, left, right = self.box[step]
        at = torch.arange(images.shape[1], device=images.device)
        rows, columns = (at >= top) & (at < bottom), (at >= left) & (at < right)
        return torch.where((rows[:, None] & columns)[None, :, :, None], partners, images)
