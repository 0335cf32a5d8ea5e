"""Protects: the command that a refused engine names really builds one, and its errors and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import main
from export.engines import BACKENDS

rtx = BACKENDS["tensorrt_rtx"]
needs_rtx = pytest.mark.skipif(not rtx.availability().built, reason=rtx.availability().detail)


@needs_rtx
def test_the_command_in_the_refusal_builds_the_engine_again(files: Any, tmp_path: Path) -> None:
    """From the message of a foreign engine, as a user pastes it: the same bytes where nothing else differs."""
    path = tmp_path / "m.engine"
    rtx.build(files.fp16, path, batch_sizes=(1, 4), compute_capabilities=["SM86"])
    whole = path.read_bytes()
    sidecar = path.with_name("m.engine.json")
    facts = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(facts | {"versions": {"tensorrt_rtx": "1.4.0.76"}}))
    with pytest.raises(Exception, match="same version only") as caught:
        rtx.load(path)
    command = caught.value.fix.split("here: ", 1)[1].split()
    (tmp_path / "fp16.onnx").write_bytes(files.fp16.read_bytes())
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=tmp_path, capture_output=True, text=True, env=_env()
    )
    assert done.returncode == 0, done.stderr
    assert "layers, built in" in done.stdout
    assert path.read_bytes() == whole and json.loads(sidecar.read_text()) == facts


def _env() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@needs_rtx
def test_errors_are_two_lines(files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build", str(files.int8_cpu), str(tmp_path / "x.engine"), "--backend", "tensorrt_rtx"]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: tensorrt_rtx") and "\n  fix: " in told and "Traceback" not in told
    assert main([*words[:1], "nowhere.onnx", *words[2:]]) == 1
    assert "there is no ONNX file nowhere.onnx" in capsys.readouterr().err


def test_a_missing_back_end_is_exit_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # makes the import fail
    assert main(["build", "a.onnx", str(tmp_path / "a.engine"), "--backend", "tensorrt"]) == 4
    assert "fix: pip install tensorrt" in capsys.readouterr().err


def test_onnx_runtime_is_built_too(files: Any, tmp_path: Path) -> None:
    assert main(["build", str(files.fp32), str(tmp_path / "a.onnx"), "--backend", "onnxruntime"]) == 0
    assert (tmp_path / "a.onnx.json").is_file()


def test_a_place_that_cannot_be_written_is_exit_4(
    files: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Two lines, no traceback; what a name hides is written out."""
    (tmp_path / "a\x1b[2Jb").write_text("")
    assert main(["build", str(files.fp32), f"{tmp_path}/a\x1b[2Jb/x.onnx", "--backend", "onnxruntime"]) == 4
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "\n  fix: " in told and "\x1b" not in told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_reader_that_goes_away_and_a_full_disk(files: Any, tmp_path: Path) -> None:
    """The engine is built either way; only the full disk is told, by exit code 4."""
    words = [sys.executable, "-m", "export", "build", str(files.fp32), str(tmp_path / "a.onnx")]
    words += ["--backend", "onnxruntime"]
    for redirection, code in ((">/dev/full", 4), ("| true", 0), (">&-", 0)):
        script = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
        done = subprocess.run(
            ["bash", "-c", script, "bash", *words], env=_env(), capture_output=True, text=True
        )
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        assert (tmp_path / "a.onnx").is_file()
        (tmp_path / "a.onnx").unlink()
