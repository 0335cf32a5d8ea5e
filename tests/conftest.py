"""What holds for every test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.old_python import old_python

__all__ = ["old_python"]

# Before a test imports torch: several workers share the cores, and a thread that spins burns what another one needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# How long an example takes says something about the machine, not about the law that is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


_MEMORY = Path("/dev/shm")
_ENOUGH = 8 * 1024**3


def pytest_configure() -> None:
    """Temporary folders lie in memory where there is plenty: a run waits 250 times for a disk (fsync)."""
    usual = "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK)
    if usual and shutil.disk_usage(_MEMORY).free > _ENOUGH and not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"], tempfile.tempdir = str(_MEMORY), None


@pytest.fixture(scope="session", autouse=True)
def others_may_not_write() -> Iterator[None]:
    """Folders that other users may write to are refused, so the tests' own ones are not made like that.

    A stricter umask of the user's stays; tests of a laxer one set it.
    """
    before = os.umask(0o022)
    os.umask(before | 0o022)
    yield
    os.umask(before)
