"""A real bundle, shipped: its own `run.pyz` installs it, runs the engine's self-test, and classifies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.bundle.archive import write_tar
from export.runtime.bundle import UNSIGNED
from pipeline.core.address import Device
from pipeline.core.errors import TakenBack
from pipeline.devices.session import connect
from pipeline.shipping.bundle import local_bundle
from pipeline.shipping.ship import There, ship, status
from tests.export.bundle.tiny import NAMES, bundle, content
from tests.pipeline.devices.tiny import images


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Nothing of ours can be imported by what the device runs."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


def test_shipped_installed_and_taken_back(tmp_path: Path, clean: dict[str, str]) -> None:
    device = Device("local", folder=str(tmp_path / "work"), python=sys.executable, silence_s=5)
    there = There(str(tmp_path / "releases"), ("--unsigned",))
    said: list[str] = []
    with connect(device) as session:
        with local_bundle(bundle(tmp_path / "one"), UNSIGNED) as one:
            first = ship(session, [one], there, said.append)
        assert any(line.startswith("self-test passed in") for line in said)
        wrong = content(tmp_path / "made").engines[0].logits[:, ::-1].copy()
        folder = bundle(tmp_path / "two", sequence=4, logits=wrong)
        with (
            local_bundle(folder, UNSIGNED) as two,
            pytest.raises(TakenBack, match="the self-test failed"),
        ):
            ship(session, [two], there, said.append)
        assert status(session, there).serves == first.id
    (tmp_path / "photo.png").write_bytes(_png())
    program = tmp_path / "releases/current/bundle/run.pyz"
    words = [sys.executable, str(program), "classify", "--unsigned", str(tmp_path / "photo.png")]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/", env=clean)
    assert done.returncode == 0, done.stderr
    assert any(name in done.stdout for name in NAMES)


def test_from_a_stick_by_the_bundle_alone(tmp_path: Path, clean: dict[str, str]) -> None:
    """A tar file, and the program that is in it; no host, no network."""
    folder = bundle(tmp_path / "one")
    write_tar(folder, tmp_path / "stick.tar")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            str(folder / "run.pyz"),
            *words,
            "--unsigned",
            "--root",
            str(tmp_path / "releases"),
        ]
        return subprocess.run(command, capture_output=True, text=True, cwd="/", env=clean)

    done = run("install", str(tmp_path / "stick.tar"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("committed: tiny ")
    assert " serves " in run("status").stdout.replace("\n", " ")


def _png() -> bytes:
    from export.bundle.pictures import png_bytes

    return png_bytes(images(1)[0])
