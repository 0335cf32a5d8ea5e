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


def test_what_was_freed_before_hides_nothing() -> None:
    """Protects the figure where this process has free memory: of heaps, which large blocks come from by now."""
    freed = bytearray(31_000_000)
    del freed  # from now on malloc takes blocks of up to this size from its heaps
    blocks = [bytearray(100_000) for _ in range(1000)]
    pin = bytearray(50_000)  # at the end of the heap, so that what is free before it stays
    del blocks
    taken = 20 << 20
    assert added_by(lambda: bytearray(b"1") * taken) == pytest.approx(taken, rel=0.1)
    assert pin


def test_many_open_files_do_not_matter() -> None:
    """Protects processes with more than 1024 descriptors."""
    with many_descriptors():
        assert added_by(_take) == pytest.approx(_SIZE, rel=0.1)


@pytest.mark.parametrize("work", [lambda: 1 / 0, lambda: time.sleep(60)])
def test_work_that_fails_or_hangs_has_no_figure(work: object) -> None:
    """Protects a run: it goes on without the figure."""
    assert added_by(work, limit_s=0.5) is None  # type: ignore[arg-type]
