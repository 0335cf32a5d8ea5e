"""Distillation methods as modules, called as loss(student_logits [B, C], teacher_logits [B, C] or None, labels [B]).

Each is a weight times the labels' cross entropy plus a weight times a function of `figkd.functional` or, for FiGKD,
the distance of the logits' high-frequency detail along the class axis.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from figkd import functional, methods
from figkd.detail import LinearDetail
from figkd.errors import FigkdError
from figkd.methods import needs_teacher as needs_teacher
from figkd.multiscale import band_weights_of, fold_index, multiscale_kl
from figkd.order import identity, validate_order
from figkd.squared import SquaredDetail
from figkd.wavelet import Level, band_names, check_band_weights, resolve_level

Distance = Literal["squared", "kl", "smooth_l1", "cosine"]
Domain = Literal["logits", "standardised", "log_probabilities"]


class CrossEntropyLoss(nn.Module):
    """`cross_entropy` behind the uniform interface; the teacher is ignored and may be None."""

    def __init__(self, num_classes: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.num_classes, self.label_smoothing = _classes(num_classes), label_smoothing

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """Scalar loss of student [B, C] and labels [B]."""
        _check_count(student, self.num_classes)
        return functional.cross_entropy(student, labels, label_smoothing=self.label_smoothing)


class DistillationLoss(nn.Module):
    """ce_weight * cross_entropy + weight * term(student, teacher, labels).

    Args:
        num_classes: C.
        term: the part that uses the teacher.
        weight: of the term.
        ce_weight: of the cross entropy with the labels.
        label_smoothing: of the cross entropy.
    """

    def __init__(
        self,
        num_classes: int,
        term: Callable[[Tensor, Tensor, Tensor], Tensor],
        *,
        weight: float,
        ce_weight: float,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.label_smoothing = _classes(num_classes), label_smoothing
        if not (weight >= 0 and ce_weight >= 0 and weight + ce_weight > 0):
            raise FigkdError(f"weight {weight} and ce_weight {ce_weight}", "both >= 0 and not both 0")
        self.weight, self.ce_weight, self.term = weight, ce_weight, term

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """Scalar loss of student [B, C], teacher [B, C] and labels [B]."""
        _check_count(student, self.num_classes)
        if teacher is None:
            raise FigkdError("this method needs the teacher's logits", "pass them, or choose method 'ce'")
        functional.check_pair(student, teacher)
        # One cast each: the cross entropy and the term both compute in float32.
        student, teacher = functional.wide(student), functional.wide(teacher).detach()
        if self.ce_weight == 0:
            functional.check_labels(student, labels)  # which the cross entropy does otherwise
            return self.weight * self.term(student, teacher, labels)
        hard = functional.cross_entropy(student, labels, label_smoothing=self.label_smoothing)
        return self.weight * self.term(student, teacher, labels) + self.ce_weight * hard


def kd_loss(
    num_classes: int,
    *,
    standardise: bool = False,
    weight: float = 0.9,
    ce_weight: float = 0.1,
    temperature: float = 4.0,
    label_smoothing: float = 0.0,
) -> DistillationLoss:
    """Hinton's KD; with `standardise`, of standardised logits (arXiv 2403.01427)."""
    _positive("temperature", temperature)

    def term(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return functional.kd(*_standardised(standardise, student, teacher), temperature=temperature)

    return DistillationLoss(
        num_classes, term, weight=weight, ce_weight=ce_weight, label_smoothing=label_smoothing
    )


def dkd_loss(
    num_classes: int,
    *,
    standardise: bool = False,
    weight: float = 1.0,
    ce_weight: float = 1.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    label_smoothing: float = 0.0,
) -> DistillationLoss:
    """DKD; with `standardise`, of standardised logits."""
    _positive("temperature", temperature)

    def term(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        student, teacher = _standardised(standardise, student, teacher)
        return functional.dkd(student, teacher, labels, alpha=alpha, beta=beta, temperature=temperature)

    return DistillationLoss(
        num_classes, term, weight=weight, ce_weight=ce_weight, label_smoothing=label_smoothing
    )


def dist_loss(
    num_classes: int,
    *,
    weight: float = 1.0,
    ce_weight: float = 1.0,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
) -> DistillationLoss:
    """DIST."""
    _positive("temperature", temperature)

    def term(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return functional.dist(student, teacher, beta=beta, gamma=gamma, temperature=temperature)

    return DistillationLoss(
        num_classes, term, weight=weight, ce_weight=ce_weight, label_smoothing=label_smoothing
    )


def logit_mse_loss(
    num_classes: int,
    *,
    centred: bool = False,
    weight: float = 1.0,
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
) -> DistillationLoss:
    """Squared difference of the logits, as they are or centred."""

    def term(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return functional.logit_mse(student, teacher, centred=centred)

    return DistillationLoss(
        num_classes, term, weight=weight, ce_weight=ce_weight, label_smoothing=label_smoothing
    )


class FiGKDLoss(nn.Module):
    """Cross entropy plus the distance of the teacher's and the student's high-frequency detail along the class axis.

    That only this detail is transferred is FiGKD's idea (arXiv 2505.11897). Distance, levels, weights and temperature
    are this library's choices: no formula is published.

    Args:
        num_classes: C, 2 to 100,000 and more.
        distance: "squared": squared differences of the wavelet coefficients of `domain`, summed over the coefficients,
            mean over the batch (`figkd.squared`). "smooth_l1", "cosine": of the same coefficients. "kl": the Haar
            details of the *probabilities*, that is how each node of the class tree divides its mass, compared by KL
            divergence (`figkd.multiscale`); it wants temperature 2, weight 1, level "full" and band_decay 0.7.
        wavelet: any discrete wavelet of PyWavelets; "kl" needs "haar".
        level: number of levels, counted from the finest; "fine" (3, or all if there are fewer), "max" (PyWavelets'
            deepest without boundary effects) or "full" (down to a single approximation coefficient).
        mode: PyWavelets' boundary mode; matters for odd class counts and longer filters; not used by "kl".
        band_decay: detail band dj weighs band_decay ** (j - 1): below 1, fine detail counts most.
        band_weights: weights of single bands by name, "d1" the finest; naming the approximation, e.g. "a3", adds it.
        order: class order [C] (see `figkd.order`): position i of the transformed axis holds class order[i].
            None means the classes as given; "random" draws a new one at every call (a control, not a recipe).
        domain: what is transformed, for distances other than "kl".
        mass_power: for "kl": weight of a node = (teacher's mass of the node) ** mass_power.
        temperature: both logits are divided by it; "kl" is multiplied by its square, as KD is.
        weight: weight of the detail.
        batch_weight: weight of `functional.batch_relation`, DIST's correlation over the batch: what the detail, which
            runs along the classes of one image, cannot see. 0 leaves it out.
        ce_weight: weight of the cross entropy.
        label_smoothing: of the cross entropy.

    Raises:
        FigkdError: an argument out of range; at call time, logits or labels that do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        distance: Distance = "squared",
        wavelet: str = "haar",
        level: Level = "fine",
        mode: str = "symmetric",
        band_decay: float = 0.5,
        band_weights: Mapping[str, float] | None = None,
        order: npt.ArrayLike | Literal["random"] | None = None,
        domain: Domain = "logits",
        mass_power: float = 0.5,
        temperature: float = 1.0,
        weight: float = 0.02,
        batch_weight: float = 1.0,
        ce_weight: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        _classes(num_classes)
        if not batch_weight >= 0:
            raise FigkdError(f"batch_weight is {batch_weight}", "it must not be negative")
        self.batch_weight = batch_weight
        self.temperature = _positive("temperature", temperature)
        self.shuffle = isinstance(order, str)
        if isinstance(order, str) and order != "random":
            raise FigkdError(f"class order {order!r}", 'an array of classes, None, or "random"')
        positions = (
            identity(num_classes) if order is None or self.shuffle else validate_order(order, num_classes)
        )
        depth = resolve_level(num_classes, wavelet, level)
        if distance == "kl":
            if wavelet != "haar":
                raise FigkdError(f"distance 'kl' with wavelet {wavelet!r}", "'kl' is defined for 'haar'")
            if not 0 <= mass_power <= 1:
                raise FigkdError(f"mass_power is {mass_power}", "0 <= mass_power <= 1")
            self.bands = band_weights_of(depth, band_weights, band_decay)
            self.mass_power = mass_power
            index = torch.from_numpy(fold_index(positions, depth))
            self.register_buffer("index", index, persistent=False)
            self.detail = None
        elif distance in ("squared", "smooth_l1", "cosine"):
            if domain not in ("logits", "standardised", "log_probabilities"):
                raise FigkdError(f"unknown domain {domain!r}", "logits, standardised or log_probabilities")
            self.distance, self.domain = distance, domain
            module = SquaredDetail if distance == "squared" else LinearDetail
            weights = check_band_weights(band_names(depth), band_weights, band_decay)
            self.detail = module(num_classes, wavelet, mode, weights, np.asarray(positions))
        else:
            raise FigkdError(f"unknown distance {distance!r}", "squared, kl, smooth_l1 or cosine")
        self.loss = DistillationLoss(
            num_classes, self._term, weight=weight, ce_weight=ce_weight, label_smoothing=label_smoothing
        )

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """Scalar loss of student [B, C], teacher [B, C] and labels [B]."""
        value: Tensor = self.loss(student, teacher, labels)
        if self.batch_weight > 0 and teacher is not None:
            value = value + self.batch_weight * functional.batch_relation(student, teacher)
        return value

    def _term(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        if self.shuffle:
            drawn = torch.randperm(student.shape[1], device=student.device)
            student, teacher = student[:, drawn], teacher[:, drawn]
        if self.detail is None:
            return multiscale_kl(
                student,
                teacher,
                self.get_buffer("index"),
                self.bands,
                mass_power=self.mass_power,
                temperature=self.temperature,
            )
        if self.domain == "standardised":
            student, teacher = _standardised(True, student, teacher)
        elif self.domain == "log_probabilities":
            student, teacher = (torch.log_softmax(x / self.temperature, 1) for x in (student, teacher))
        # log_softmax has its temperature inside; otherwise the transform is linear in it.
        scale = 1.0 if self.domain == "log_probabilities" else 1 / self.temperature
        if isinstance(self.detail, SquaredDetail):
            squared: Tensor = self.detail(student, teacher)
            return squared if scale == 1 else squared * scale**2
        one, other = self.detail(student * scale), self.detail(teacher * scale)
        return functional.distance(one, other, "cosine" if self.distance == "cosine" else "smooth_l1")


METHODS: dict[str, Callable[..., nn.Module]] = {
    "ce": CrossEntropyLoss,
    "kd": partial(kd_loss, standardise=False),
    "kd_ls": partial(kd_loss, standardise=True, weight=9.0, temperature=2.0),
    "dkd": partial(dkd_loss, standardise=False),
    "dkd_ls": partial(dkd_loss, standardise=True, weight=9.0, temperature=2.0),
    "dist": dist_loss,
    "logit_mse": partial(logit_mse_loss, centred=False),
    "centred_logit_mse": partial(logit_mse_loss, centred=True),
    "figkd": FiGKDLoss,
}
"""Builders by method name; `figkd.methods.METHODS` says what each needs and takes."""


def build_loss(
    method: str, num_classes: int, *, order: npt.ArrayLike | Literal["random"] | None = None, **options: Any
) -> nn.Module:
    """Build the loss of a method: a module called as loss(student_logits, teacher_logits or None, labels).

    Args:
        method: a key of `METHODS`.
        num_classes: C.
        order: class order [C]; used by the methods that depend on it, ignored by the others.
        options: the method's own, see `figkd.methods.METHODS[method].options`.

    Raises:
        FigkdError: unknown method or option, or a value out of range.
    """
    if method not in METHODS:
        raise FigkdError(f"unknown distillation method {method!r}", f"one of {', '.join(METHODS)}")
    facts = methods.METHODS[method]
    unknown = sorted(set(options) - set(facts.options))
    if unknown:
        raise FigkdError(
            f"method {method!r} has no option {', '.join(map(repr, unknown))}",
            f"its options are {', '.join(facts.options)}",
        )
    if facts.uses_order:
        options["order"] = order
    return METHODS[method](num_classes, **options)


def default_options(method: str) -> dict[str, Any]:
    """Options of a method with their defaults, read from the builder's signature (for documentation)."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(METHODS[method]).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in ("order", "centred", "standardise")
    }


def _standardised(wanted: bool, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if not wanted:
        return student, teacher
    return functional.standardise(student), functional.standardise(teacher)


def _check_count(student: Tensor, num_classes: int) -> None:
    if student.ndim != 2 or student.shape[1] != num_classes:
        raise FigkdError(f"logits of shape {tuple(student.shape)}, but the loss has {num_classes} classes")


def _classes(num_classes: int) -> int:
    if num_classes < 2:
        raise FigkdError(f"a loss over {num_classes} classes", "at least 2 are needed")
    return num_classes


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise FigkdError(f"{name} is {value}", "it must be positive")
    return value
