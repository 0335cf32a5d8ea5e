"""Protects: the Dockerfile of the runtime builds and classifies, where Docker runs and has its base image."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.export.bundle.tiny import bundle

ROOT = Path(__file__).parents[3]
FILE = ROOT / "docker/runtime.Dockerfile"
BASE = "python:3.12-slim"


def _docker(*words: str | Path, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *map(str, words)], capture_output=True, text=True, timeout=timeout, check=False
    )


def _why_not() -> str:
    if shutil.which("docker") is None:
        return "no docker here"
    try:
        if _docker("info").returncode:
            return "no Docker daemon runs here"
        if _docker("image", "inspect", BASE).returncode and _docker("pull", BASE, timeout=300).returncode:
            return f"{BASE} cannot be pulled"
    except subprocess.TimeoutExpired:
        return "Docker does not answer"
    return ""


@pytest.mark.slow
def test_the_image_builds_and_classifies(tmp_path: Path) -> None:
    if reason := _why_not():
        pytest.skip(reason)
    made = bundle(tmp_path)
    tag = "figkd-runtime-test"
    built = _docker(
        "build", "-f", FILE, "--build-arg", f"BUNDLE={made.name}", "-t", tag, made.parent, timeout=600
    )
    assert built.returncode == 0, built.stderr[-3000:]
    try:
        images = f"{made / 'golden/images'}:/photos:ro"
        done = _docker(
            "run", "--rm", "--read-only", "-v", images, tag, "classify", "/photos/0.png", "--unsigned"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("/photos/0.png: ")
    finally:
        _docker("image", "rm", tag)


def test_what_it_copies_is_the_bundle_alone() -> None:
    lines = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if line.startswith(("COPY", "ADD"))] == ["COPY ${BUNDLE} /bundle"]
    assert "USER figkd" in lines
    assert 'ENTRYPOINT ["python3", "-B", "/bundle/run.pyz"]' in lines
