"""Protects: `figkd-pipeline serve` serves a bundle, says what it needs in one line, and ends with the right code."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from export.runtime.serve.main import Options
from pipeline.cli.entry import cli, execute
from tests.export.bundle.tiny import bundle
from tests.export.runtime.serve.made import ask

ROOT = Path(__file__).parents[3]


def test_a_bundle_is_served_until_it_is_stopped(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    command = [sys.executable, "-m", "pipeline.cli", "serve", str(folder), "--port", "0", "--name", "mine"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr
            said = ""
            while "http://" not in said:
                line = running.stderr.readline()
                assert line, said
                said += line
            assert "no signature was checked" in " ".join(said.split())
            port = int(re.search(r"127\.0\.0\.1:(\d+)", said)[1])  # type: ignore[index]
            assert ask(port, "GET", "/v2/models/mine/ready") == (200, b"")
            running.send_signal(signal.SIGTERM)
            assert running.wait(30) == 0
        finally:
            running.kill()


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(bundle(tmp_path))
    assert execute(["serve", str(tmp_path / "none")]) == 2
    assert execute(["serve", folder, "--target", "cpu"]) == 2
    assert execute(["serve", folder, "--port", "99999"]) == 2
    assert execute(["serve", folder, "--trust", str(tmp_path / "none.json"), "--port", "0"]) == 2
    assert execute(["serve", folder, "--host", "no such host"]) == 4
    (Path(folder) / "labels.json").write_text("[]")
    assert execute(["serve", folder, "--port", "0"]) == 6
    assert "Traceback" not in capsys.readouterr().err


def test_what_a_run_ships_is_served_without_a_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lies in the store of this machine, and nobody signed it there; trust that is given counts all the same."""
    words = ["serve", str(ROOT / "deploy_configs/fonts_cpu.yaml"), "--set", f"output={tmp_path}"]
    words += ["--set", f"store={tmp_path / 'store'}", "--port", "0", "--target", "cpu"]
    assert execute(words) == 2
    assert "the run is not finished" in capsys.readouterr().err
    served: list[Options] = []
    monkeypatch.setattr("pipeline.run.predict.shipped", lambda config, store, target: tmp_path)
    monkeypatch.setattr("export.runtime.serve.main.serve", lambda options, say: served.append(options) or 0)
    assert execute(words) == 0
    assert execute([*words, "--trust", "trust.json"]) == 0
    assert [(one.bundle, one.unsigned, one.trust) for one in served] == [
        (str(tmp_path), True, None),
        (str(tmp_path), False, "trust.json"),
    ]
    monkeypatch.setattr("pipeline.run.predict.shipped", lambda *_: tmp_path / "cpu.onnx")
    assert execute(words) == 2
    assert "the run ships no bundle" in capsys.readouterr().err


def test_its_help_names_the_exit_codes() -> None:
    text = CliRunner().invoke(cli, ["serve", "--help"]).output
    assert "Exit codes: 0 ended by SIGTERM" in text and "docs/serving.md" in text
