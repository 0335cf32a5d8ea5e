"""Protects: the package is light to import, its errors are clear, its files are whole or absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from export.errors import BackendMissing, ExportError
from export.runtime.files import sha256, write_bytes, write_json

LIGHT = "export, export.errors, export.engines, export.measure, export.machine"


def test_light_modules_load_no_heavy_library() -> None:
    code = (
        f"import {LIGHT}, sys; "
        "print([m for m in ('torch', 'onnxruntime', 'tensorrt', 'tensorrt_rtx', 'cuda') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_packages_do_not_know_each_other() -> None:
    code = "import sys, export.onnx, export.precision, export.engines, export.measure, export.runtime.bundle.timing; "
    code += "print([m for m in sys.modules if m.split('.')[0] in ('figkd', 'pipeline')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_carry_what_and_fix() -> None:
    error = BackendMissing("it is absent", "install it")
    assert isinstance(error, ExportError) and (error.what, error.fix) == ("it is absent", "install it")
    assert str(error) == "it is absent (install it)" and str(ExportError("bad")) == "bad"


def test_files_are_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"b": 1, "a": [2]})
    assert path.read_text() == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'
    assert sha256(path) == __import__("hashlib").sha256(path.read_bytes()).hexdigest()

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("export.runtime.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"other")
    assert path.read_text().startswith("{") and [p.name for p in path.parent.iterdir()] == ["file.json"]
