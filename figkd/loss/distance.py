"""How far the student's high-frequency detail along the class axis is from the teacher's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from figkd.errors import FigkdError
from figkd.loss import functional
from figkd.loss.class_tree import ClassTree
from figkd.loss.detail import LinearDetail
from figkd.loss.figkd_options import FiGKD
from figkd.loss.method import ClassOrder
from figkd.loss.multiscale import band_weights_of, multiscale_kl
from figkd.loss.order import identity, validate_order
from figkd.loss.squared import SquaredDetail
from figkd.loss.wavelet import band_names, check_band_weights, resolve_level


class DetailDistance(nn.Module):
    """Mean over the batch of the distance of the details of student and teacher [B, C], a scalar.

    Args:
        num_classes: C.
        options: of these, all but the weights of the loss's parts.
        order: see `figkd.loss.method.ClassOrder`.
    """

    def __init__(self, num_classes: int, options: FiGKD, order: ClassOrder) -> None:
        super().__init__()
        self.options, self.shuffle = options, isinstance(order, str)
        if isinstance(order, str) and order != "random":
            raise FigkdError(f"class order {order!r}", 'an array of classes, None, or "random"')
        self.tree: ClassTree | None = None
        positions = (
            identity(num_classes) if order is None or self.shuffle else validate_order(order, num_classes)
        )
        depth = resolve_level(num_classes, options.wavelet, options.level)
        if options.distance == "kl":
            if options.wavelet != "haar":
                raise FigkdError(
                    f"distance 'kl' with wavelet {options.wavelet!r}", "'kl' is defined for 'haar'"
                )
            bands = band_weights_of(depth, options.band_weights, options.band_decay)
            self.tree = ClassTree(positions, bands)
            return
        weights = check_band_weights(band_names(depth), options.band_weights, options.band_decay)
        module = SquaredDetail if options.distance == "squared" else LinearDetail
        self.detail = module(num_classes, options.wavelet, options.mode, weights, np.asarray(positions))

    @property
    def closed_form(self) -> ClassTree | SquaredDetail | None:
        """What `figkd.loss.joint` can make together with the other parts; None if there is no such thing."""
        if self.shuffle:
            return None
        if self.tree is not None:
            return self.tree
        if (
            isinstance(self.detail, SquaredDetail)
            and self.detail.detail is None
            and self.options.domain == "logits"
        ):
            return self.detail
        return None

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Scalar of float32 or float64 [B, C]; no gradient flows into the teacher."""
        options = self.options
        if self.shuffle:
            drawn = torch.randperm(student.shape[1], device=student.device)
            student, teacher = student[:, drawn], teacher[:, drawn]
        if options.distance == "kl":
            assert self.tree is not None  # made with this distance
            return multiscale_kl(
                student,
                teacher,
                self.tree,
                mass_power=options.mass_power,
                temperature=options.temperature,
            )
        # The transform is linear, so that a temperature may as well come after it, but for log_softmax.
        scale = 1 / options.temperature
        if options.domain == "standardised":
            student, teacher = functional.standardise(student), functional.standardise(teacher)
        elif options.domain == "log_probabilities":
            student, teacher = (torch.log_softmax(x / options.temperature, 1) for x in (student, teacher))
            scale = 1.0
        if options.distance == "squared":
            squared: Tensor = self.detail(student, teacher)
            return squared if scale == 1 else squared * scale**2
        return functional.distance(
            self.detail(student * scale), self.detail(teacher * scale), options.distance
        )
