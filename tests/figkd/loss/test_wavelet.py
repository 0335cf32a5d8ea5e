"""The matrix must be PyWavelets' transform, for every wavelet, level, boundary mode and odd length."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st

from figkd.errors import FigkdError
from figkd.loss.wavelet import deepest_level, detail_matrix, max_level, wavedec_matrix

WAVELETS = pywt.wavelist(kind="discrete")


def _reference(x: np.ndarray, wavelet: str, mode: str, level: int) -> list[np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pywt.wavedec(x, wavelet, mode=mode, level=level)


def _assert_equals_wavedec(x: np.ndarray, wavelet: str, mode: str, level: int) -> None:
    bands = wavedec_matrix(len(x), wavelet, level, mode)
    expected = _reference(x, wavelet, mode, level)
    # Boundary extensions with long filters amplify: compare on the scale of the result.
    scale = max(1.0, max(float(np.abs(band).max()) for band in expected))
    np.testing.assert_allclose(x @ bands.matrix, np.concatenate(expected), atol=1e-11 * scale, rtol=0)
    names = [f"a{level}", *(f"d{i}" for i in range(level, 0, -1))]
    assert list(bands.slices) == names
    for name, band in zip(names, expected, strict=True):
        assert (x @ bands.matrix)[bands.slices[name]].shape == band.shape


@settings(max_examples=300, deadline=None)
@given(data=st.data(), size=st.integers(2, 70), mode=st.sampled_from(pywt.Modes.modes))
def test_equals_wavedec_on_any_arguments(data: st.DataObject, size: int, mode: str) -> None:
    """Protects: x @ matrix == concat(wavedec(x)) on random wavelets, levels, modes and lengths."""
    wavelet = data.draw(st.sampled_from(WAVELETS))
    level = data.draw(st.integers(1, deepest_level(size)))
    x = np.random.default_rng(data.draw(st.integers(0, 2**32))).standard_normal(size)
    _assert_equals_wavedec(x, wavelet, mode, level)


@pytest.mark.parametrize("mode", pywt.Modes.modes)
def test_equals_wavedec_for_every_wavelet(mode: str) -> None:
    """Protects: no wavelet is left to chance, at an odd length and the deepest level that has a meaning."""
    for wavelet in WAVELETS:
        _assert_equals_wavedec(np.sin(np.arange(21.0) ** 2), wavelet, mode, max_level(21, wavelet))


def test_level_one_works_for_filters_longer_than_the_signal() -> None:
    """Protects: few classes and a long wavelet, where PyWavelets' own maximum level is 0."""
    assert pywt.dwt_max_level(2, pywt.Wavelet("db38").dec_len) == 0
    assert max_level(2, "db38") == 1
    _assert_equals_wavedec(np.array([1.0, -2.0]), "db38", "symmetric", 1)


def test_no_warning_escapes() -> None:
    """Protects: a level beyond PyWavelets' maximum is a documented choice, not a warning to the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wavedec_matrix(13, "db5", 3, "reflect")


def test_haar_level_one_is_the_pair_difference() -> None:
    """Protects the formula that the documentation gives."""
    root = 1 / math.sqrt(2)
    expected = np.array([[root, 0], [-root, 0], [0, root], [0, -root]])
    np.testing.assert_allclose(detail_matrix(4), expected, atol=1e-15)


def test_all_haar_levels_are_the_centred_logits() -> None:
    """Protects the identity: with all levels and C a power of two, details are everything but the mean."""
    matrix = detail_matrix(16, level="max")
    x = np.random.default_rng(0).standard_normal(16)
    assert matrix.shape == (16, 15)
    np.testing.assert_allclose(((x @ matrix) ** 2).sum(), ((x - x.mean()) ** 2).sum())


def test_band_weights_scale_the_squared_error() -> None:
    """Protects: weights multiply a band's squared error, 0 leaves it out, naming "a" brings it in."""
    x = np.random.default_rng(1).standard_normal(21)
    bands = wavedec_matrix(21, "haar", 2)
    energy = {name: float(((x @ bands.matrix)[part] ** 2).sum()) for name, part in bands.slices.items()}

    def total(weights: dict[str, float] | None) -> float:
        return float(((x @ detail_matrix(21, "haar", 2, "symmetric", weights)) ** 2).sum())

    assert total(None) == pytest.approx(energy["d1"] + energy["d2"])
    assert total({"d1": 3.0}) == pytest.approx(3 * energy["d1"] + energy["d2"])
    assert total({"d1": 0.0, "d2": 0.0, "a2": 0.5}) == pytest.approx(0.5 * energy["a2"])
    assert detail_matrix(21, "haar", 2, "symmetric", {"d1": 0.0}).shape[1] == 6


def test_the_cached_matrix_cannot_be_changed() -> None:
    """Protects other users of the cached matrix from a caller that writes into it."""
    with pytest.raises(ValueError, match="read-only"):
        wavedec_matrix(8).matrix[0, 0] = 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wavedec_matrix(8, "nosuch"), "unknown discrete wavelet 'nosuch'"),
        (lambda: wavedec_matrix(8, "mexh"), "unknown discrete wavelet 'mexh'"),
        (lambda: wavedec_matrix(8, "haar", 1, "nosuch"), "unknown boundary mode"),
        (lambda: wavedec_matrix(8, "haar", 0), "wavelet level 0"),
        (lambda: wavedec_matrix(8, "haar", 4), "wavelet level 4"),
        (lambda: wavedec_matrix(8, "haar", "deep"), "wavelet level 'deep'"),  # type: ignore[arg-type]
        (lambda: wavedec_matrix(1), "1 classes"),
        (lambda: detail_matrix(8, band_weights={"d2": 1.0}), "unknown wavelet band 'd2'"),
        (lambda: detail_matrix(8, band_weights={"d1": -1.0}), "weight of wavelet band"),
        (lambda: detail_matrix(8, band_weights={"d1": math.nan}), "weight of wavelet band"),
        (lambda: detail_matrix(8, band_weights={"d1": 0.0}), "every wavelet band has weight 0"),
    ],
)
def test_wrong_arguments_are_named(call: object, message: str) -> None:
    """Protects: a wrong argument gives one clear message."""
    with pytest.raises(FigkdError, match=message):
        call()  # type: ignore[operator]
