"""Protects: the runtime is Python 3.8, the standard library, numpy and an engine's own module, also from an archive."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from export.engines import BACKENDS
from tests.pipeline.devices.tiny import classifier, images

ROOT = Path(__file__).parents[3]
RUNTIME = ROOT / "export/runtime"
SOURCES = sorted(RUNTIME.glob("*.py"))
# Present with an engine, or a reason to say that they are missing; numpy is always there.
OPTIONAL = {"PIL", "onnxruntime", "tensorrt", "tensorrt_rtx"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(RUNTIME).as_posix())
def test_python_3_8_reads_it_and_little_else_is_needed(path: Path) -> None:
    """Imports are relative, so that it runs under any name; an engine's module is imported where it is used."""
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        for top in (name.split(".")[0] for name in names):
            assert top in {*sys.stdlib_module_names, *OPTIONAL, "numpy"}, f"line {node.lineno}: {top}"
            assert not (node in tree.body and top in OPTIONAL), (
                f"line {node.lineno}: {top} is imported too early"
            )


def archive_as(name: str) -> bytes:
    """The runtime as a package of some name in a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for path in SOURCES:
            packed.write(path, f"{name}/{path.relative_to(RUNTIME).as_posix()}")
    return buffer.getvalue()


_RUN = """
import importlib, sys, zipfile
sys.path.insert(0, sys.argv[1])
import numpy
for path in zipfile.ZipFile(sys.argv[1]).namelist():
    importlib.import_module(path[:-3].replace("/", "."))
from elsewhere import onnx_session
from elsewhere.sampling import Limits
engine = onnx_session.load(sys.argv[2], threads=1)
numpy.save(sys.argv[4], engine.infer(numpy.load(sys.argv[3])))
samples = engine.time(numpy.load(sys.argv[3])[:1], Limits(min_samples=20, max_seconds=5.0))
assert len(samples.latency) >= 20 and samples.latency.min() > 0
"""


@pytest.mark.slow
def test_onnx_runtime_on_python_3_8_from_an_archive(old_python: Path, tmp_path: Path) -> None:
    """Every module is imported; the logits are those of this Python, as far as the two versions agree."""
    (tmp_path / "runtime.pyz").write_bytes(archive_as("elsewhere"))
    stored = images(9)
    np.save(tmp_path / "images.npy", stored)
    onnx = classifier(tmp_path / "a.onnx", batch=None, opset=17)
    paths = [tmp_path / "runtime.pyz", onnx, tmp_path / "images.npy", tmp_path / "logits.npy"]
    done = subprocess.run([old_python, "-c", _RUN, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = BACKENDS["onnxruntime"].load(onnx, threads=1).infer(stored)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-4, atol=1e-5)
