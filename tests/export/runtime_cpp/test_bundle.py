"""A bundle as the pipeline writes it answers in C++ as in Python, and the self-test finds what does not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from export.bundle.write import write_bundle
from export.runtime.bundle import UNSIGNED, canonical, load, open_bundle
from export.runtime.bundle.golden import npy_bytes, read_golden
from export.runtime.bundle.manifest import Needs
from export.runtime.bundle.self_test import self_test
from tests.export.bundle.tiny import bundle, several
from tests.export.runtime.bundle import made
from tests.export.runtime_cpp import images
from tests.export.runtime_cpp.built import SANITIZERS, without_onnxruntime

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(without_onnxruntime()), reason=without_onnxruntime() or "-"),
]
LAYOUTS = ["uint8_nhwc", "float32_nchw"]


def _figkd(programs: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [programs / "runtime" / "figkd", *words, "--unsigned"]
    environment = {**os.environ, **SANITIZERS}
    return subprocess.run(command, text=True, capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_classified_as_by_python(programs: Path, tmp_path: Path, layout: str) -> None:
    folder = bundle(tmp_path, layout=layout)
    paths = []
    for name, data in {**images.lossless(), **images.jpegs()}.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    done = _figkd(programs, "classify", folder, *paths, "--top", "2")
    assert done.returncode == 0, done.stderr[-4000:]
    with load(folder, UNSIGNED) as model:
        for path, line in zip(paths, done.stdout.splitlines(), strict=True):
            said = (f"{label.name} {100 * label.probability:.1f} %" for label in model.classify(path, 2))
            assert line == f"{path}: {', '.join(said)}"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_self_test_finds_what_python_finds(programs: Path, tmp_path: Path, layout: str) -> None:
    folder = bundle(tmp_path, layout=layout)
    done = _figkd(programs, "self-test", folder)
    assert done.returncode == 0 and done.stdout.endswith("self-test passed\n"), (
        done.stdout + done.stderr[-4000:]
    )
    with load(folder, UNSIGNED) as model:
        found = self_test(open_bundle(folder, UNSIGNED), model)
    assert done.stdout.startswith(f"{found.inputs} golden inputs, largest difference of a logit 0 ")
    assert f"{found.images} golden images, {found.images_exact} with the very pixels" in done.stdout


def _with(folder: Path, **changes: bytes) -> Path:
    """The same bundle with other golden files: `logits`, `inputs` or `golden`."""
    names = {"logits": "golden/logits.npy", "inputs": "golden/inputs.npy", "golden": "golden/golden.json"}
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    files |= {names[name]: data for name, data in changes.items()}
    return made.write_bundle(folder.parent / "changed", files)


def test_what_the_self_test_refuses(programs: Path, tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    opened = open_bundle(folder, UNSIGNED)
    golden = read_golden(opened, opened.manifest.engines[0])
    logits, inputs = golden.logits, golden.inputs
    described = canonical.decode((folder / "golden/golden.json").read_bytes(), "it")
    nan = logits.copy()
    nan[0, 0] = np.nan
    other = inputs.copy()
    other[0, 0, 0, 0] ^= 4
    cases: list[tuple[dict[str, bytes], int, str]] = [
        ({"logits": npy_bytes(logits[:, ::-1])}, 1, "logits differ"),
        ({"logits": npy_bytes(nan)}, 1, "logits differ by nan"),
        ({"inputs": npy_bytes(other)}, 1, "a golden PNG gets other pixels"),
        ({"logits": npy_bytes(logits[:-1])}, 6, "golden.json"),
        ({"logits": npy_bytes(logits.astype(np.float64))}, 6, "golden.json"),
        ({"logits": npy_bytes(logits)[:-1]}, 6, "golden.json"),
        ({"inputs": npy_bytes(inputs[:, :-1])}, 6, "golden.json"),
        ({"inputs": b"\x93NUMPY\x01\x00\xff\xff{"}, 6, "golden.json"),
        ({"inputs": b""}, 6, "golden.json"),
        ({"golden": canonical.encode({**described, "version": 2})}, 6, "golden.json"),
        ({"golden": canonical.encode({**described, "images": ["none.png"]})}, 6, "golden.json"),
        ({"golden": canonical.encode({**described, "max_abs_logit": "inf"})}, 6, "golden.json"),
        ({"golden": canonical.encode([])}, 6, "golden.json"),
        ({"golden": b"{}"}, 6, "golden.json"),
    ]
    for changes, code, word in cases:
        changed = _with(folder, **changes)
        done = _figkd(programs, "self-test", changed)
        assert done.returncode == code and word in done.stderr, (word, done.stdout, done.stderr[-4000:])


def test_of_several_engines_the_first_that_fits_is_taken(programs: Path, tmp_path: Path) -> None:
    """And compared with its own answers."""
    elsewhere, nowhere = Needs("vax"), Needs(cpu_features=("x87_emulated", "mmx_squared"))
    for first, second, precision in (
        (None, None, "int8"),
        (elsewhere, None, "fp32"),
        (nowhere, None, "fp32"),
    ):
        content = several(tmp_path / f"{precision}-{first}", first, second)
        folder, _ = write_bundle(content, tmp_path)
        done = _figkd(programs, "self-test", folder)
        assert done.returncode == 0, done.stderr[-4000:]
        assert "largest difference of a logit 0 " in done.stdout
        assert precision in _figkd(programs, "info", folder).stdout
    folder, _ = write_bundle(several(tmp_path / "none", elsewhere, nowhere), tmp_path)
    done = _figkd(programs, "info", folder)
    assert done.returncode == 4
    assert "cpu-int8: the engine is for vax, this machine is" in done.stderr
    assert "cpu-fp32: the engine is for a CPU with x87_emulated or mmx_squared" in done.stderr
