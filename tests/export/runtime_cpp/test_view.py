"""An engine sees the same pixels of an image whether Python or C++ prepares them; bad images end nothing."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from export.runtime.bundle import canonical
from export.runtime.bundle.errors import ImageRefused
from export.runtime.bundle.preprocess import Preprocessing
from tests.export.runtime_cpp import images
from tests.export.runtime_cpp.built import SANITIZERS

pytestmark = pytest.mark.slow
KINDS = [
    Preprocessing(40, 32),
    Preprocessing(32, 32),
    Preprocessing(97, 64, levels={"integer": (100.5, 40000.0), "float": (0.0, 1.0)}),
    Preprocessing(36, 31, "float32", (0.485, 0.456, 0.406), (0.229, 0.224, 1e-05)),
]


@dataclass(frozen=True)
class Seen:
    status: int
    message: str
    data: bytes


def _seen(
    programs: Path, folder: Path, files: Mapping[str, bytes], how: Preprocessing | bytes
) -> dict[str, Seen]:
    folder.mkdir(exist_ok=True)
    described = how if isinstance(how, bytes) else canonical.encode(how.to_json())
    (folder / "preprocess.json").write_bytes(described)
    lines = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        lines.append(f"{folder / name}\t{folder / name}.out\n")
    done = subprocess.run(
        [programs / "view_images", folder / "preprocess.json"],
        input="".join(lines), text=True, capture_output=True, env={**os.environ, **SANITIZERS},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found = {}
    for name, line in zip(files, done.stdout.splitlines(), strict=True):
        status, _, message = line.partition(" ")
        out = folder / f"{name}.out"
        found[name] = Seen(int(status), message, out.read_bytes() if out.exists() else b"")
    return found


@pytest.mark.parametrize("how", KINDS, ids=["crop", "whole", "levels", "float"])
def test_files_without_loss_give_the_same_bits(programs: Path, tmp_path: Path, how: Preprocessing) -> None:
    files = images.lossless()
    for name, seen in _seen(programs, tmp_path / "x", files, how).items():
        assert (seen.status, seen.message) == (0, ""), name
        assert seen.data == how.batch([how.view(files[name])]).tobytes(), name


def test_sizes_give_the_same_bits(programs: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    sizes = [(rng.randint(1, 300), rng.randint(1, 300)) for _ in range(60)]
    files = {
        f"{n}.png": images.saved(images.Image.fromarray(images.pixels(n, *size)), "PNG")
        for n, size in enumerate(sizes)
    }
    for side in (1, 2, 33, 250):
        how = Preprocessing(side, side)
        for name, seen in _seen(programs, tmp_path / str(side), files, how).items():
            assert seen.data == how.view(files[name]).tobytes(), (name, side)


@pytest.mark.parametrize("how", KINDS[:2], ids=["crop", "whole"])
def test_jpegs_give_nearly_the_same_pixels(programs: Path, tmp_path: Path, how: Preprocessing) -> None:
    """Two versions of libjpeg-turbo may differ; orientation, scale and colours do not."""
    files = images.jpegs()
    for name, seen in _seen(programs, tmp_path / "x", files, how).items():
        assert (seen.status, seen.message) == (0, ""), name
        python = how.view(files[name]).astype(np.int64)
        difference = np.abs(np.frombuffer(seen.data, np.uint8).reshape(python.shape) - python)
        assert difference.max() <= 2, name


def test_bad_images_are_refused_as_in_python(programs: Path, tmp_path: Path) -> None:
    files = images.bad()
    for name, seen in _seen(programs, tmp_path / "x", files, KINDS[0]).items():
        assert seen.status == 2 and seen.message and not seen.data, name
        with pytest.raises(ImageRefused):
            KINDS[0].view(files[name])


def test_damaged_images_end_nothing(programs: Path, tmp_path: Path) -> None:
    """Thousands of flipped, cut and doubled bytes in headers and data, under the sanitizers."""
    rng = random.Random(2)
    good = [*images.lossless().values(), *images.jpegs().values()]
    files = {}
    for n in range(1500):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(min(len(data), rng.choice((64, 700, len(data)))))
            data[place] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        files[f"{n}.bin"] = bytes(data)
    found = _seen(programs, tmp_path / "x", files, KINDS[0])
    assert {seen.status for seen in found.values()} == {0, 2}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version":1', b'"version":2'),
        (b"bicubic, antialiased", b"bilinear"),
        (b"EXIF applied", b"as stored"),
        (b'"side":40', b'"side":31'),
        (b'"side":40', b'"side":0'),
        (b'"side":40', b'"side":16385'),
        (b'"size":32', b'"size":"32"'),
        (b'"dtype":"uint8"', b'"dtype":"int8"'),
        (b'"NHWC"', b'"NCHW"'),
        (b'"mean":[]', b'"mean":["0.5","0.5","0.5"]'),
        (b'"65535.0"', b'"x"'),
        (b'"65535.0"', b'"inf"'),
        (b'"65535.0"', b'"-1.0"'),
        (b'"crop":', b'"cut":'),
        (b"{", b"{}"),
    ],
)
def test_steps_that_are_not_known(programs: Path, tmp_path: Path, old: bytes, new: bytes) -> None:
    text = canonical.encode(KINDS[0].to_json()).replace(old, new, 1)
    (tmp_path / "preprocess.json").write_bytes(text)
    done = subprocess.run(
        [programs / "view_images", tmp_path / "preprocess.json"],
        input="",
        text=True,
        capture_output=True,
        env={**os.environ, **SANITIZERS},
    )
    assert done.returncode == 6 and "preprocess.json" in done.stderr
