"""The agent in an arm64 user land under qemu: the nearest thing to a Jetson's user land that needs no board.

Set up once, as root (`ROOT` is what `FIGKD_ARM64_ROOT` names):

    apt-get install qemu-user-static debootstrap
    debootstrap --arch=arm64 --variant=minbase --include=python3,python3-numpy bookworm ROOT
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.address import Device
from pipeline.devices.faults import JobFailed
from pipeline.devices.session import connect
from tests.pipeline.devices.jobs import BREAK_JOB, COUNT_JOB, agent_for_tests

pytestmark = pytest.mark.slow


@pytest.fixture
def arm64(tmp_path: Path) -> Iterator[Device]:
    """A device whose Python is an arm64 program in a root of its own."""
    root = Path(os.environ.get("FIGKD_ARM64_ROOT", "/nonexistent"))
    if not (root / "usr/bin/python3").exists() or os.getuid() != 0:
        pytest.skip("no arm64 user land: see this file's head")
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec chroot {root} /usr/bin/python3 "$@"\n')
    python.chmod(0o755)
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    try:
        yield Device("local", folder="/root/figkd-test", python=str(python), silence_s=20)
    finally:
        subprocess.run(["umount", "-l", root / "proc"], check=True)


def test_the_agent_on_arm64(arm64: Device, tmp_path: Path) -> None:
    """Files by digest, facts, a job, its output, a job that is killed, and nothing left."""
    (tmp_path / "a").write_bytes(os.urandom(3_000_000))
    with connect(arm64, agent=agent_for_tests()) as session:
        session.put(tmp_path / "a")
        facts = session.facts()
        assert facts["machine"] == "aarch64" and facts["packages"]["numpy"]
        done = session.run(COUNT_JOB, {"count": 3, "pause_s": 0.1, "bytes": 100_000}, detached=True)
        assert session.fetch(done.job, "out.bin", tmp_path / "out", 1 << 24).read_bytes() == b"x" * 100_000
        session.release(done.job)
        with pytest.raises(JobFailed, match="137"):
            session.run(BREAK_JOB, {"how": "killed"})
        assert session.clean().left == []
