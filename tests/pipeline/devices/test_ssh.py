"""Sessions over a real sshd."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core.errors import DeviceFault
from pipeline.devices.session import connect
from tests.pipeline.devices.jobs import COUNT_JOB, agent_for_tests
from tests.pipeline.devices.sshd import Sshd


def test_everything_over_ssh(sshd: Sshd, tmp_path: Path) -> None:
    """Through a Host alias: a file there, a job, its output back; the second time next to nothing."""
    (tmp_path / "a").write_bytes(os.urandom(5_000_000))
    with connect(sshd.device(), agent=agent_for_tests()) as session:
        session.put(tmp_path / "a")
        done = session.run(COUNT_JOB, {"count": 2, "pause_s": 0.1, "bytes": 1000})
        assert session.fetch(done.job, "out.bin", tmp_path / "out", 1 << 24).read_bytes() == b"x" * 1000
        assert session.sent > 5_000_000
    with connect(sshd.device(), agent=agent_for_tests()) as session:
        session.put(tmp_path / "a")
        assert session.sent < 5000


def test_unreachable(sshd: Sshd) -> None:
    """A server that is not there."""
    sshd.stop()
    with (
        pytest.raises(DeviceFault, match="figkd-test: unreachable: nothing accepts ssh"),
        connect(sshd.device()),
    ):
        pass
