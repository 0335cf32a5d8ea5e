"""What holds for every test."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import warm
from tests.old_python import old_python

__all__ = ["old_python"]

# Before a test imports torch: several workers share the cores, and a thread that spins burns what another one needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says something about the machine, not about the law that is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# What is imported and collected stays. Before it is frozen, looking through it again and again would only cost.
gc.disable()

TESTS = Path(__file__).parent
_MEMORY = Path("/dev/shm")
_ENOUGH = 8 * 1024**3


def pytest_configure(config: pytest.Config) -> None:
    """Temporary folders lie in memory where there is plenty: a run waits 250 times for a disk (fsync).

    While workers collect the tests, the process from which their commands are forked starts.
    """
    usual = "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK)
    if usual and shutil.disk_usage(_MEMORY).free > _ENOUGH and not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"], tempfile.tempdir = str(_MEMORY), None
    if config.getoption("dist", "no") != "no":
        os.environ[warm.SHARED] = warm.start(warm.environment()).address


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """More than cores: some tests wait most of their time, of the fast ones more than of the slow ones."""
    more = 1 if config.getoption("markexpr") == "slow" else 2
    return min(len(os.sched_getaffinity(0)) + more, 4)


LONGEST = (
    "pipeline/devices/test_fuzz.py",
    "pipeline/devices/test_end_to_end.py",
    "pipeline/config/test_fuzz.py",
    "export/test_torch_graph.py",
    "figkd/loss/test_degenerate_logits.py",
    "export/runtime/install/test_kills_and_power_cuts.py",
    "pipeline/test_kill.py",
    "export/engines/test_trt_fit.py",
    "pipeline/devices/test_end_to_end_faults.py",
    "figkd/test_networks.py",
    "export/runtime_cpp/test_bundle.py",
    "pipeline/devices/test_faults.py",
    "pipeline/devices/test_hostile.py",
    "pipeline/test_shipped_configs.py",
    "pipeline/test_cli.py",
    "benchmarks/test_gpu_check.py",
    "figkd/test_distributed.py",
)
"""Files that take most of a minute or more, in the fast or the slow tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first, so that none is left to one worker at the end."""
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_collection_finish() -> None:
    """What is imported stays: collections in the tests need not look through torch and thousands of tests again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def others_may_not_write() -> Iterator[None]:
    """Folders that other users may write to are refused, so the tests' own ones are not made like that.

    A stricter umask of the user's stays; tests of a laxer one set it.
    """
    before = os.umask(0o022)
    os.umask(before | 0o022)
    yield
    os.umask(before)
