"""Forms of the default loss that trials.py tries, beside what its options say.

Each is made of the library's own pieces, with gradients by autograd: they are to be compared, not to be fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from figkd.data import open_split
from figkd.data.logits import open_logits
from figkd.loss.detail import LinearDetail
from figkd.loss.wavelet import band_names, wavedec_matrix

LEVELS = 3
SHIFTS = 2**LEVELS
_TINY = 1e-8
_FLAT = 1e-4


class Build(Protocol):
    """The default loss for an order of the classes, with options of the caller's."""

    def __call__(self, order: npt.NDArray[np.int64], **options: Any) -> nn.Module: ...


Known = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
"""The teacher's logits of one view [N, C] and the labels [N] of the training images."""


def read_known(inputs: Sequence[tuple[str, str]]) -> Known:
    """Of the artifacts that a student is trained from."""
    folders = {name: Path(path) for name, path in inputs}
    logits = np.asarray(open_logits(folders["logits"] / "train.npy")[:, 0], dtype=np.float64)
    return logits, open_split(folders["data"], "train").labels


class Mean(nn.Module):
    """The mean of several losses."""

    def __init__(self, losses: Sequence[nn.Module]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([loss(student, teacher, labels) for loss in self.losses]).mean()


def shifted(build: Build, order: npt.NDArray[np.int64], known: Known) -> nn.Module:
    """The detail's mean over all shifts of the order (Coifman and Donoho 1995, cycle spinning): no pair of neighbours
    is divided by the place where a block of the Haar transform begins."""
    return Mean([build(np.roll(order, shift)) for shift in range(SHIFTS)])


class OfBands(nn.Module):
    """The default without its correlation, and the correlation over the batch of wavelet coefficients instead.

    The coefficients are those of the softmax at temperature T, and the weight is the default's, so that the two differ
    in what is correlated only.
    """

    def __init__(self, build: Build, order: npt.NDArray[np.int64], low: bool) -> None:
        super().__init__()
        whole: Any = build(order)
        self.rest = build(order, batch_weight=0.0)
        self.weight, self.temperature = float(whole.batch_weight), float(whole.batch_temperature)
        weights = {name: float(low or not name.startswith("a")) for name in band_names(LEVELS)}
        self.transform = LinearDetail(len(order), "haar", "symmetric", weights, order)

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        ones, others = (
            self.transform(torch.softmax(logits.float() / self.temperature, 1))
            for logits in (student, teacher)
        )
        ones, others = ones - ones.mean(0), others - others.mean(0)
        # The mean of all classes, where the low band is no more, does not vary.
        varies = others.norm(dim=0) > _FLAT
        length = (ones.norm(dim=0) * others.norm(dim=0)).clamp_min(_TINY)
        related = ((ones * others).sum(0) / length)[varies].mean()
        value: Tensor = self.rest(student, teacher, labels)
        return value + self.weight * self.temperature**2 * (1 - related)


def of_details(build: Build, order: npt.NDArray[np.int64], known: Known) -> nn.Module:
    """The correlation of the detail coefficients."""
    return OfBands(build, order, low=False)


def of_all_bands(build: Build, order: npt.NDArray[np.int64], known: Known) -> nn.Module:
    """The correlation of all coefficients, the low band's too."""
    return OfBands(build, order, low=True)


class Trusting(nn.Module):
    """The detail of an image counts as the teacher is sure of its label: by p(label), of mean 1 over the batch."""

    def __init__(self, build: Build, order: npt.NDArray[np.int64], temperature: float) -> None:
        super().__init__()
        self.whole, self.without = build(order), build(order, weight=0.0)
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        sure = torch.softmax(teacher.float() / self.temperature, 1).gather(1, labels[:, None])
        sure = sure / sure.mean().clamp_min(_TINY)
        # The detail is a quadratic form of the difference: a weight is the square root of it there.
        nearer = teacher + sure.sqrt() * (student - teacher)
        plain: Tensor = self.without(student, teacher, labels)
        weighted: Tensor = self.whole(nearer, teacher, labels) - self.without(nearer, teacher, labels)
        return plain + weighted


def trusting(build: Build, order: npt.NDArray[np.int64], known: Known) -> nn.Module:
    """Weighted by the teacher's probability of the label."""
    return Trusting(build, order, 1.0)


def trusting_at_4(build: Build, order: npt.NDArray[np.int64], known: Known) -> nn.Module:
    """The same at temperature 4, where the teacher is not sure of its own training images."""
    return Trusting(build, order, 4.0)


def band_weights(
    order: npt.NDArray[np.int64], known: Known, given: dict[str, float], low: bool
) -> dict[str, float]:
    """Weights by what the teacher says in a band beyond the labels, as heavy together as the given ones.

    A band's weight is in proportion to the share of its energy within the classes: what of a coefficient is not the
    mean of its class, which the label says already. "Together" is the sum of weight times energy.
    """
    logits, labels = known
    bands = wavedec_matrix(len(order), "haar", LEVELS)
    centred = logits - logits.mean(1, keepdims=True)
    coefficients = centred[:, order] @ bands.matrix
    means = np.stack([coefficients[labels == name].mean(0) for name in range(len(order))])
    energy = {
        name: float((coefficients[:, place] ** 2).sum(1).mean()) for name, place in bands.slices.items()
    }
    rest = (coefficients - means[labels]) ** 2
    share = {name: float(rest[:, place].sum(1).mean()) / energy[name] for name, place in bands.slices.items()}
    wanted = [name for name in share if low or not name.startswith("a")]
    scale = sum(given[name] * energy[name] for name in given) / sum(share[n] * energy[n] for n in wanted)
    return {name: scale * share[name] for name in wanted}


_GIVEN = {"d1": 1.0, "d2": 0.5, "d3": 0.25}


def informed(build: Build, order: npt.NDArray[np.int64], known: Known) -> nn.Module:
    """Weights of the details by what they say beyond the labels."""
    return build(order, level=LEVELS, band_weights=band_weights(order, known, _GIVEN, low=False))


def informed_all(build: Build, order: npt.NDArray[np.int64], known: Known) -> nn.Module:
    """The same with the low band."""
    return build(order, level=LEVELS, band_weights=band_weights(order, known, _GIVEN, low=True))


FORMS: dict[str, Callable[[Build, npt.NDArray[np.int64], Known], nn.Module]] = {
    "shifted": shifted, "details": of_details, "all bands": of_all_bands, "trusting": trusting,
    "trusting at 4": trusting_at_4, "informed": informed, "informed, low band": informed_all,
}  # fmt: skip
