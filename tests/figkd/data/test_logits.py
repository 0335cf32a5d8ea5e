"""The cache of teacher logits: right values, resumable, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from figkd.data.logits import cache_logits, open_logits, origin_of
from figkd.data.split import Split
from figkd.data.views import Views, make_views
from figkd.errors import DataError, LabelError
from figkd.folding import folded
from figkd.loss.build import build_loss
from figkd.models import ImageClassifier
from figkd.train import train


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


def test_columns_follow_the_names(tmp_path: Path) -> None:
    """Protects a cache that is used with other data: another order is mapped, other classes are refused."""
    path = cache_logits(_Teacher(), IMAGES, _views(), tmp_path / "logits.npy", classes=["a", "b", "c"])
    plain = np.array(open_logits(path))
    assert np.array_equal(open_logits(path, classes=["a", "b", "c"]), plain)
    assert np.array_equal(open_logits(path, classes=["c", "a", "b"]), plain[:, :, [2, 0, 1]])
    with pytest.raises(LabelError, match=r'only in logits.npy: "c"; only in the data: "d"'):
        open_logits(path, classes=["a", "b", "d"])
    path = cache_logits(_Teacher(), IMAGES, _views(), tmp_path / "untold.npy")
    with pytest.raises(LabelError, match="does not say which classes"):
        open_logits(path, classes=["a", "b", "c"])


def test_values(tmp_path: Path) -> None:
    """Protects the pairing of rows, views and logits: entry [n, v] is the teacher on view v of image n."""
    views = _views()
    path = cache_logits(_Teacher(), IMAGES, views, tmp_path / "logits.npy", batch_size=4)
    logits = open_logits(path)
    assert logits.shape == (10, 9, 3)
    assert logits.dtype == np.float16
    samples = torch.arange(10)
    for view in range(9):
        seen = views.apply(torch.from_numpy(IMAGES), torch.full((10,), view), samples)
        np.testing.assert_array_equal(logits[:, view], seen[:, 0, 0].numpy().astype(np.float16))
        assert logits[:, view].flags.c_contiguous  # an epoch reads one piece of the file
    assert sorted(file.name for file in tmp_path.iterdir()) == ["logits.npy", "logits.npy.json"]


def test_rounding_is_what_is_stated(tmp_path: Path) -> None:
    """Protects the stated error of float16: at most 2^-11 relative, up to 65504."""
    teacher = _Teacher(0.12345)
    path = cache_logits(teacher, IMAGES, _views(), tmp_path / "logits.npy")
    exact = IMAGES[:, 2, 2].astype(np.float32) * np.float32(0.12345)
    # A shift by no pixel is one of the nine views.
    error = np.abs(open_logits(path).astype(np.float32) - exact[:, None]).min(axis=1)
    assert (error <= np.abs(exact) * 2.0**-11).all()
    assert error.max() > 0
    edge = _Teacher(65504 / 255)
    top = open_logits(cache_logits(edge, IMAGES * 0 + 255, _views(), path))
    assert float(top.max()) == 65504


def test_every_image_is_read_once(tmp_path: Path) -> None:
    """Protects sets that are decoded on the fly: V views must not mean V decodes."""
    read: list[int] = []

    class Counted(np.ndarray):
        def __getitem__(self, key: object) -> object:
            if isinstance(key, slice):
                read.extend(range(*key.indices(len(self))))
            return np.asarray(self)[key]  # type: ignore[index]

    images = IMAGES.view(Counted)
    cache_logits(_Teacher(), images, _views(), tmp_path / "logits.npy", batch_size=4)
    assert sorted(read) == [0, *range(10)]  # the first one also tells the number of classes


def test_a_foreign_cache_is_refused(tmp_path: Path) -> None:
    """Protects students from another teacher's, other images' or other views' logits, and from changed files."""
    teacher, views = _Teacher(), _views()
    path = cache_logits(teacher, IMAGES, views, tmp_path / "logits.npy")
    own = origin_of(teacher, IMAGES, views)
    assert open_logits(path, expect=own).shape == (10, 9, 3)
    flipped = make_views("shift_flip", image_size=4, store_size=6, pad=1)
    for other, part in (
        (origin_of(_Teacher(2.0), IMAGES, views), "teacher"),
        (origin_of(teacher, IMAGES + 1, views), "images"),
        (origin_of(teacher, IMAGES, flipped), "views: shift"),
    ):
        with pytest.raises(DataError, match=f"made from other {part}"):
            open_logits(path, expect=other)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="other contents than were written"):
        open_logits(path, expect=own)
    (tmp_path / "logits.npy.json").unlink()
    with pytest.raises(DataError, match="cannot read"):
        open_logits(path)


def test_a_full_disk_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects hours of work: the space is asked for, and reserved, before the first batch."""
    usage = type("Usage", (), {"free": 539})()
    monkeypatch.setattr("figkd.data.logits.shutil.disk_usage", lambda folder: usage)
    teacher = _Teacher()
    with pytest.raises(DataError, match="10 images x 9 views x 3 classes"):
        cache_logits(teacher, IMAGES, _views(), tmp_path / "logits.npy")
    assert teacher.calls == 1
    assert list(tmp_path.iterdir()) == []
    usage.free = 540
    cache_logits(teacher, IMAGES, _views(), tmp_path / "logits.npy")


class _Stop(Exception):
    pass


def _interrupted(path: Path, teacher: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("figkd.data.logits._COMMIT_SECONDS", 0.0)

    def stop(done: int, total: int, note: str) -> None:
        if done >= 46:  # one and a half batches
            raise _Stop

    with pytest.raises(_Stop):
        cache_logits(teacher, IMAGES, _views(), path, batch_size=4, progress=stop)


def test_an_interrupted_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects resume: finished rows are not computed again, and the file is the same."""
    whole = cache_logits(_Teacher(), IMAGES, _views(), tmp_path / "whole.npy", batch_size=4)
    path = tmp_path / "logits.npy"
    _interrupted(path, _Teacher(), monkeypatch)
    assert not path.exists()
    seen: list[int] = []
    cache_logits(
        _Teacher(),
        IMAGES,
        _views(),
        path,
        batch_size=4,
        progress=lambda done, total, note: seen.append(done),
    )
    # What was not yet noted down is made again: from the third view of the second batch on.
    assert seen[0] == 48
    assert seen[-1] == 90
    assert path.read_bytes() == whole.read_bytes()


def test_another_teacher_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a cache that mixes two teachers."""
    path = tmp_path / "logits.npy"
    _interrupted(path, _Teacher(2.0), monkeypatch)
    cache_logits(_Teacher(1.0), IMAGES, _views(), path, batch_size=4)
    other = cache_logits(_Teacher(1.0), IMAGES, _views(), tmp_path / "other.npy", batch_size=4)
    assert path.read_bytes() == other.read_bytes()


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


class _Rounded(nn.Module):
    """A teacher whose logits went through float16."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rounded: torch.Tensor = self.teacher(images).half().float()
        return rounded


def _network(seed: int) -> ImageClassifier:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    return ImageClassifier(layers, (0.5,) * 3, (0.25,) * 3)


def test_cached_and_online_training_give_the_same_student(tmp_path: Path) -> None:
    """Protects the cache as a stand-in for the teacher: float16 rounding of the logits is all that differs.

    A student trained from the cache is, bit for bit, the one of an online teacher whose logits are rounded to
    float16; against the exact teacher its weights and logits differ by about that rounding.
    """
    images = np.random.default_rng(1).integers(0, 256, (48, 6, 6, 3), dtype=np.uint8)
    split = Split(images, np.arange(48) % 3, [str(i) for i in range(48)])
    views, teacher = _views(), _network(1).eval()
    path = cache_logits(teacher, images, views, tmp_path / "logits.npy", batch_size=16)

    def student(**source: Any) -> ImageClassifier:
        model = _network(2)
        loss = build_loss("kd", 3)
        train(model, split, loss=loss, views=views, epochs=12, batch_size=16, lr=0.05, **source)
        return model

    cached = student(teacher_logits=open_logits(path))
    # A network within another is not folded: here both run the folded one.
    rounded, exact = student(teacher=_Rounded(folded(teacher))), student(teacher=teacher)
    for name, value in cached.state_dict().items():
        assert torch.equal(value, rounded.state_dict()[name]), name
        torch.testing.assert_close(value, exact.state_dict()[name], rtol=1e-4, atol=5e-5)
    centre = torch.from_numpy(images[:, 1:5, 1:5])
    with torch.no_grad():
        gap = (cached(centre) - exact(centre)).abs().max() / exact(centre).abs().max()
    assert 0 < float(gap) < 2.0**-11
