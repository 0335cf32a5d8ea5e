"""The cache of teacher logits: right values, resumable, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from figkd.data.logits import cache_logits, open_logits
from figkd.data.views import Views, make_views
from figkd.errors import DataError


class _Teacher(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        self.calls += 1
        return images[:, 0, 0].float() * self.scale


IMAGES = np.random.default_rng(0).integers(0, 256, (10, 6, 6, 3), dtype=np.uint8)


def _views() -> Views:
    return make_views("shift", image_size=4, store_size=6, pad=1)


def test_values(tmp_path: Path) -> None:
    """Protects the pairing of rows, views and logits: entry [n, v] is the teacher on view v of image n."""
    path = cache_logits(_Teacher(), IMAGES, _views(), tmp_path / "logits.npy", batch_size=20)
    logits = open_logits(path)
    assert logits.shape == (10, 9, 3)
    assert logits.dtype == np.float16
    corners = np.stack([IMAGES[:, y, x] for y in range(3) for x in range(3)], axis=1)
    np.testing.assert_array_equal(logits, corners.astype(np.float16))
    assert [file.name for file in tmp_path.iterdir()] == ["logits.npy"]


class _Stop(Exception):
    pass


def _interrupted(path: Path, teacher: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("figkd.data.logits._COMMIT_SECONDS", 0.0)

    def stop(done: int, total: int, note: str) -> None:
        if done >= 6:
            raise _Stop

    with pytest.raises(_Stop):
        cache_logits(teacher, IMAGES, _views(), path, batch_size=18, progress=stop)


def test_an_interrupted_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects resume: finished rows are not computed again, and the file is the same."""
    whole = cache_logits(_Teacher(), IMAGES, _views(), tmp_path / "whole.npy", batch_size=18)
    path = tmp_path / "logits.npy"
    _interrupted(path, _Teacher(), monkeypatch)
    assert not path.exists()
    seen: list[int] = []
    cache_logits(
        _Teacher(),
        IMAGES,
        _views(),
        path,
        batch_size=18,
        progress=lambda done, total, note: seen.append(done),
    )
    assert seen == [6, 8, 10]
    assert path.read_bytes() == whole.read_bytes()


def test_another_teacher_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a cache that mixes two teachers."""
    path = tmp_path / "logits.npy"
    _interrupted(path, _Teacher(2.0), monkeypatch)
    cache_logits(_Teacher(1.0), IMAGES, _views(), path, batch_size=18)
    np.testing.assert_array_equal(open_logits(path)[:, 0], IMAGES[:, 0, 0].astype(np.float16))


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    """Protects students from infinite targets."""
    for scale in (1e6, float("nan")):
        with pytest.raises(DataError, match="not finite or exceed float16"):
            cache_logits(_Teacher(scale), IMAGES, _views(), tmp_path / "logits.npy")


def test_damage_is_said(tmp_path: Path) -> None:
    """Protects readers: a missing, truncated or foreign file is a DataError."""
    path = tmp_path / "logits.npy"
    with pytest.raises(DataError, match="cannot read"):
        open_logits(path)
    cache_logits(_Teacher(), IMAGES, _views(), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot read"):
        open_logits(path)
    np.save(path, np.zeros(3))
    with pytest.raises(DataError, match="not a cache"):
        open_logits(path)
    with pytest.raises(DataError, match="no images"):
        cache_logits(_Teacher(), IMAGES[:0], _views(), path)
