"""Devices to test with: a real sshd, and the agent as a process of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.address import Device
from tests.pipeline.devices.sshd import PROGRAM, Sshd, running_sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server of this test's own."""
    if PROGRAM is None:
        pytest.skip("sshd is not installed (apt install openssh-server)")
    place = tmp_path / "sshd"
    place.mkdir()
    with running_sshd(place) as server:
        yield server


@pytest.fixture
def local_device(tmp_path: Path) -> Device:
    """The agent without ssh: the same protocol, a process of this machine."""
    return Device("local", folder=str(tmp_path / "work"), python=sys.executable, silence_s=5)
