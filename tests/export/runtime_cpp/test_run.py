"""The C++ runtime gives the logits of Python's ONNX Runtime bit for bit; its program ends as documented."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.runtime.bundle import canonical
from export.runtime.bundle.preprocess import Preprocessing
from export.runtime.onnx_session import OnnxRuntimeEngine
from tests.export.conftest import CLASSES, SIDE, Files
from tests.export.runtime.bundle.made import FILES, write_bundle
from tests.export.runtime_cpp import images
from tests.export.runtime_cpp.built import SANITIZERS, tensorrt_options, without_onnxruntime

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(without_onnxruntime()), reason=without_onnxruntime() or "-"),
]
ENVIRONMENT = {**os.environ, **SANITIZERS}
LABELS = [f"orientation {n}" for n in range(CLASSES)]


def _bundle(folder: Path, onnx: bytes, **changes: bytes) -> Path:
    parts = {
        "engine/fp32.onnx": onnx,
        "engine/fp32.onnx.json": b"{}\n",
        "labels.json": canonical.encode(LABELS),
        "preprocess.json": canonical.encode(Preprocessing(40, SIDE).to_json()),
    }
    return write_bundle(
        folder, {**parts, **{name.replace("_", ".", 1): data for name, data in changes.items()}}
    )


def _figkd(programs: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [programs / "runtime" / "figkd", *words]
    return subprocess.run(command, text=True, capture_output=True, env=ENVIRONMENT)


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8_cpu"])
@pytest.mark.parametrize("count", [1, 5, 70])
def test_logits_are_those_of_python(
    programs: Path, files: Files, tmp_path: Path, name: str, count: int
) -> None:
    onnx = getattr(files, name).read_bytes()
    bundle = _bundle(tmp_path / "bundle", onnx)
    inputs = np.ascontiguousarray(files.images[:count])
    (tmp_path / "inputs").write_bytes(inputs.tobytes())
    done = subprocess.run(
        [programs / "run_model", bundle, tmp_path / "inputs", str(count), tmp_path / "logits"],
        text=True, capture_output=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    expected = OnnxRuntimeEngine(onnx, 1).infer(inputs)
    assert (tmp_path / "logits").read_bytes() == expected.tobytes()


def test_a_photo_is_classified_as_by_python(programs: Path, files: Files, tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "bundle", files.fp32.read_bytes())
    paths = []
    for n in range(6):
        paths.append(tmp_path / f"{n}.png")
        Image.fromarray(files.images[n]).resize((50 + n, 40)).save(paths[-1])
    done = _figkd(programs, "classify", bundle, *paths, "--top", "3", "--unsigned")
    assert done.returncode == 0, done.stderr[-4000:]
    engine = OnnxRuntimeEngine(files.fp32.read_bytes(), 1)
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        logits = engine.infer(Preprocessing(40, SIDE).view(path.read_bytes())[None])[0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = np.argsort(-shares, kind="stable")[:3]
        assert line == f"{path}: {', '.join(f'{LABELS[i]} {100 * shares[i]:.1f} %' for i in best)}"


def test_the_program_ends_as_documented(programs: Path, files: Files, tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "bundle", files.fp32.read_bytes())
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(images.lossless()["rgb.png"])
    bad.write_bytes(b"no image")
    assert _figkd(programs, "verify", bundle, "--unsigned").returncode == 0
    assert "onnxruntime" in _figkd(programs, "info", bundle, "--unsigned").stdout
    for words in (
        ("classify", bundle, good),
        ("classify", bundle, "--unsigned"),
        ("classify", bundle, good, "--unsigned", "--top", "0"),
        ("classify", bundle, good, "--unsigned", "--top"),
        ("verify", bundle, "--unsigned", "--fast"),
        ("guess", bundle, "--unsigned"),
        (),
    ):
        done = _figkd(programs, *words)
        assert done.returncode == 2 and done.stderr.startswith("error: "), words
    done = _figkd(programs, "classify", bundle, bad, tmp_path / "absent.png", tmp_path, good, "--unsigned")
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1 and len(done.stderr.splitlines()) == 3
    (bundle / "labels.json").write_bytes(canonical.encode(LABELS[::-1]))
    done = _figkd(programs, "classify", bundle, good, "--unsigned")
    assert done.returncode == 6 and "labels.json" in done.stderr and not done.stdout


@pytest.mark.parametrize(
    ("make", "code", "word"),
    [
        (lambda f, o: _bundle(f, o, labels_json=canonical.encode(LABELS[:-1])), 6, "classes"),
        (lambda f, o: _bundle(f, o, labels_json=canonical.encode(["a"] * CLASSES)), 6, "labels.json"),
        (lambda f, o: _bundle(f, o, labels_json=b"{}\n"), 6, "labels.json"),
        (
            lambda f, o: _bundle(f, o, preprocess_json=canonical.encode(Preprocessing(40, 31).to_json())),
            6,
            "preprocess.json",
        ),
        (lambda f, o: _bundle(f, b"no engine"), 4, "ONNX Runtime"),
        (lambda f, o: _bundle(f, o[: len(o) // 2]), 4, "ONNX Runtime"),
        (lambda f, o: write_bundle(f, FILES), 6, "preprocess.json"),
        (lambda f, o: _other(f, o, runtime=2), 4, "runtime 2"),
        (lambda f, o: _other(f, o, needs=_needs(architecture="vax")), 4, "vax"),
        (lambda f, o: _other(f, o, needs=_needs(l4t="36.4")), 4, "L4T 36.4"),
        (lambda f, o: _other(f, o, needs=_needs(versions={"onnxruntime": "0.9"})), 4, "onnxruntime 0.9"),
        (lambda f, o: _other(f, o, engine=_engine("tensorrt")), 4, "without the back end tensorrt"),
    ],
)
def test_bundles_that_cannot_run(
    programs: Path,
    files: Files,
    tmp_path: Path,
    make: Callable[[Path, bytes], Path],
    code: int,
    word: str,
) -> None:
    bundle = make(tmp_path / "bundle", files.fp32.read_bytes())
    done = _figkd(programs, "info", bundle, "--unsigned")
    assert done.returncode == code and word in done.stderr, done.stderr[-4000:]
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not tensorrt_options(), reason="the headers or libraries of TensorRT-RTX are missing")
def test_an_engine_of_tensorrt_needs_a_gpu(programs: Path, files: Files, tmp_path: Path) -> None:
    """Compiled and linked; without a GPU it ends with one message, and with one it refuses what is no engine."""
    bundle = _other(tmp_path / "bundle", files.fp32.read_bytes(), engine=_engine("tensorrt_rtx"))
    done = _figkd(programs, "info", bundle, "--unsigned")
    assert done.returncode == 4 and len(done.stderr.splitlines()) == 1, done.stderr[-4000:]
    assert "GPU" in done.stderr or "cannot load the engine" in done.stderr


def _needs(**changes: object) -> dict[str, object]:
    return {"architecture": "", "compute_capability": [], "l4t": "", "versions": {}, **changes}


def _engine(backend: str) -> dict[str, object]:
    return {"file": "engine/fp32.onnx", "backend": backend, "precision": "fp32", "threads": 1}


def _other(folder: Path, onnx: bytes, **changes: object) -> Path:
    whole = _bundle(folder, onnx)
    content = {
        str(path.relative_to(whole)): path.read_bytes()
        for path in whole.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    return write_bundle(folder, content, **changes)
