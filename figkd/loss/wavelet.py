"""The discrete wavelet transform along the class axis as one constant matrix.

A vector of logits has 10 to 1,000 entries, so the whole multi-level transform is a matrix product. The
matrix is PyWavelets' own answer to the identity, so it agrees with `pywt.wavedec` for every wavelet, level,
boundary mode and odd length by construction (the transform and every boundary extension are linear).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pywt

from figkd.errors import FigkdError

Level = int | Literal["fine", "max", "full"]
FINE_LEVELS = 3
"""What level "fine" stands for, where there are as many."""
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bands:
    """A transform of `num_classes` values into wavelet coefficients.

    Attributes:
        matrix: float64 [C, D], read-only; `x @ matrix` is `np.concatenate(pywt.wavedec(x, ...))`.
        slices: columns of each band, coarse to fine: "a2", "d2", "d1" for two levels.
    """

    matrix: Matrix
    slices: dict[str, slice]

    @property
    def level(self) -> int:
        """Number of decomposition levels."""
        return len(self.slices) - 1


def max_level(num_classes: int, wavelet: str = "haar") -> int:
    """Level that "max" stands for: PyWavelets' `dwt_max_level`, but at least 1.

    `dwt_max_level` is the deepest level with at least one coefficient free of boundary effects; it is 0 when
    the filter is longer than the signal. Level 1 is well defined even then.

    Raises:
        FigkdError: unknown wavelet, or fewer than two classes.
    """
    length = _wavelet(wavelet).dec_len
    _check_classes(num_classes)
    return max(1, int(pywt.dwt_max_level(num_classes, length)))


def deepest_level(num_classes: int) -> int:
    """Deepest level accepted: ceil(log2(C)), where Haar has reduced the axis to a single coefficient."""
    _check_classes(num_classes)
    return math.ceil(math.log2(num_classes))


@lru_cache(maxsize=64)
def wavedec_matrix(
    num_classes: int, wavelet: str = "haar", level: Level = 1, mode: str = "symmetric"
) -> Bands:
    """Build the matrix of `pywt.wavedec(x, wavelet, mode, level)` for x of length C.

    Levels between `max_level` and `deepest_level` are allowed, without PyWavelets' warning: all coefficients
    of such a level feel the boundary, but they are well defined, and the complete Haar decomposition of an
    odd number of classes needs them. Deeper levels are refused: they only transform boundary padding.

    Args:
        num_classes: C, at least 2.
        wavelet: any name of `pywt.wavelist(kind="discrete")`.
        level: 1..ceil(log2(C)), "fine" (see `FINE_LEVELS`), "max" (see `max_level`), or "full" (see `deepest_level`).
        mode: any name of `pywt.Modes.modes`.

    Raises:
        FigkdError: an argument outside these ranges.
    """
    transform = _wavelet(wavelet)
    depth = resolve_level(num_classes, wavelet, level)
    if mode not in pywt.Modes.modes:
        raise FigkdError(f"unknown boundary mode {mode!r}", f"one of {', '.join(sorted(pywt.Modes.modes))}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Level value of")
        bands = pywt.wavedec(np.eye(num_classes), transform, mode=mode, level=depth, axis=1)
    names = band_names(depth)
    ends = np.cumsum([band.shape[1] for band in bands])
    slices = {
        name: slice(int(end) - band.shape[1], int(end))
        for name, band, end in zip(names, bands, ends, strict=True)
    }
    matrix = cast(Matrix, np.concatenate(bands, axis=1))
    matrix.setflags(write=False)
    return Bands(matrix, slices)


def detail_matrix(
    num_classes: int,
    wavelet: str = "haar",
    level: Level = 1,
    mode: str = "symmetric",
    band_weights: Mapping[str, float] | None = None,
) -> Matrix:
    """Build the matrix that takes logits to their weighted detail coefficients.

    Args:
        num_classes: C.
        wavelet: as in `wavedec_matrix`.
        level: as in `wavedec_matrix`.
        mode: as in `wavedec_matrix`.
        band_weights: weight of a band's *squared error*, by band name; its columns are multiplied by the
            square root and a band of weight 0 is left out. Detail bands that are not named weigh 1, the
            approximation weighs 0: naming it (with the details at 0) gives a low-frequency-only loss.

    Returns:
        float64 [C, D_detail], the bands coarse to fine.

    Raises:
        FigkdError: an unknown band, a negative or non-finite weight, or no band left.
    """
    bands = wavedec_matrix(num_classes, wavelet, level, mode)
    return weighted(bands, check_band_weights(tuple(bands.slices), band_weights).values())


def weighted(bands: Bands, weights: Iterable[float]) -> Matrix:
    """Columns of the bands, each times the square root of its weight (coarse to fine); weight 0 leaves a band out.

    Returns:
        float64 [C, D]; D is 0 if every weight is.
    """
    kept = [
        bands.matrix[:, part] * math.sqrt(weight)
        for part, weight in zip(bands.slices.values(), weights, strict=True)
        if weight > 0
    ]
    return cast(Matrix, np.concatenate([bands.matrix[:, :0], *kept], axis=1))


def band_names(level: int) -> tuple[str, ...]:
    """Bands of a transform, coarse to fine: "a2", "d2", "d1" for two levels."""
    return (f"a{level}", *(f"d{i}" for i in range(level, 0, -1)))


def check_band_weights(
    names: tuple[str, ...], given: Mapping[str, float] | None, decay: float = 1.0
) -> dict[str, float]:
    """Weight of every band: decay^(j - 1) for detail dj, 0 for the approximation, where nothing else is given.

    Raises:
        FigkdError: an unknown band, a negative or non-finite weight or decay, or no band left.
    """
    if not (math.isfinite(decay) and decay >= 0):
        raise FigkdError(f"band_decay is {decay}", "a finite number >= 0")
    weights = {name: 0.0 if name.startswith("a") else decay ** (int(name[1:]) - 1) for name in names}
    for name, weight in (given or {}).items():
        if name not in weights:
            raise FigkdError(f"unknown wavelet band {name!r}", f"the bands are {', '.join(weights)}")
        if not (math.isfinite(weight) and weight >= 0):
            raise FigkdError(f"weight of wavelet band {name!r} is {weight}", "a finite number >= 0")
        weights[name] = float(weight)
    if not any(weights.values()):
        raise FigkdError("every wavelet band has weight 0", "give at least one band a positive weight")
    return weights


def resolve_level(num_classes: int, wavelet: str, level: Level) -> int:
    """Number of levels that `level` stands for.

    Raises:
        FigkdError: unknown wavelet, fewer than two classes, or a level out of range.
    """
    _wavelet(wavelet)
    deepest = deepest_level(num_classes)
    if level == "fine":
        return min(FINE_LEVELS, deepest)
    if level == "max":
        return max_level(num_classes, wavelet)
    if level == "full":
        return deepest
    if isinstance(level, bool) or not isinstance(level, int) or not 1 <= level <= deepest:
        raise FigkdError(
            f"wavelet level {level!r} for {num_classes} classes",
            f'an integer 1..{deepest}, "fine", "max" or "full"',
        )
    return level


def _wavelet(name: str) -> Any:
    if name not in _discrete():
        raise FigkdError(
            f"unknown discrete wavelet {name!r}", "see pywt.wavelist(kind='discrete'), e.g. haar, db2, sym4"
        )
    return pywt.Wavelet(name)


@lru_cache(maxsize=1)
def _discrete() -> frozenset[str]:
    return frozenset(pywt.wavelist(kind="discrete"))


def _check_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise FigkdError(f"a wavelet transform of {num_classes} classes", "at least 2 classes are needed")
