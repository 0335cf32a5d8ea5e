"""What a piece of work adds to the memory of a process."""

from __future__ import annotations

import sys
import time

import pytest

from export.runtime.memory import added_by
from tests.descriptors import many_descriptors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")

_SIZE = 32 << 20


def _take() -> None:
    assert len(bytearray(b"1") * _SIZE) == _SIZE


def test_what_work_takes_is_found() -> None:
    """Protects the figure of reports: a block of known size, within a few pages of the interpreter's own."""
    assert added_by(_take) == pytest.approx(_SIZE, rel=0.1)


def test_many_open_files_do_not_matter() -> None:
    """Protects processes with more than 1024 descriptors."""
    with many_descriptors():
        assert added_by(_take) == pytest.approx(_SIZE, rel=0.1)


@pytest.mark.parametrize("work", [lambda: 1 / 0, lambda: time.sleep(60)])
def test_work_that_fails_or_hangs_has_no_figure(work: object) -> None:
    """Protects a run: it goes on without the figure."""
    assert added_by(work, limit_s=0.5) is None  # type: ignore[arg-type]
