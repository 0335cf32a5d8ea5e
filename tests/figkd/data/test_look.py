"""The first look at a data set: bounded, from everywhere, at training images only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figkd.data import look
from figkd.data.decode import Job
from figkd.data.levels import Levels
from figkd.data.look import levels_of


def _grey(path: Path, top: int) -> Job:
    Image.fromarray(np.linspace(0, top, 256).reshape(16, 16).astype(np.uint16)).save(path)
    return Job(path)


def test_ordinary_images_need_no_rule(tmp_path: Path) -> None:
    """Protects ordinary data: no rule, whether files, pixels or bytes, and broken ones are left to decoding."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    data = (tmp_path / "a.png").read_bytes()
    pixels = np.zeros((4, 4, 3), np.uint8)
    jobs = [Job(tmp_path / "a.png"), Job(tmp_path / "b.png"), Job(tmp_path / "c.png"), Job(pixels)]
    assert levels_of([*jobs, Job(lambda: data)], 2) == {}
    assert levels_of([], 2) == {}


def test_a_rare_kind_is_found(tmp_path: Path) -> None:
    """Protects mixed folders: the one float image among many others has its rule, and so have the 16-bit ones."""
    for index in range(150):
        Image.new("L", (4, 4)).save(tmp_path / f"{index:03}.png")
    _grey(tmp_path / "077.png", 4000)
    Image.fromarray(np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "149.tif")
    jobs = [Job(path) for path in sorted(tmp_path.iterdir())]
    assert levels_of(jobs, 2) == {"integer": Levels(0, 4095), "float": Levels(-1, 1)}


def test_it_is_bounded_and_goes_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects large data sets: so many images are decoded and no more, of every class of a sorted list."""
    jobs = [_grey(tmp_path / f"{index:03}.png", 100 * (1 + index // 50)) for index in range(300)]
    seen: list[Path] = []
    whole = look.seen_range
    monkeypatch.setattr(look, "seen_range", lambda stored: seen.append(Path(stored.fp.name)) or whole(stored))
    monkeypatch.setattr(look, "MOST", 20)
    monkeypatch.setattr(look, "_AT_ONCE", 5)
    assert levels_of(jobs, 2)["integer"] == Levels(0, 1023)
    assert len(seen) == 20
    assert {int(path.stem) // 50 for path in seen} == set(range(6))


def test_every_count_is_covered(tmp_path: Path) -> None:
    """Protects the order: whatever the number of images, each comes once."""
    for count in range(1, 70):
        jobs = [Job(tmp_path / str(index)) for index in range(count)]
        found = [job for some in look._spread(jobs) for job in some]
        assert len(found) == count and set(found) == set(jobs)
