"""Pillow's warnings: caught by thread, never on the terminal, and nobody else's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from figkd.data.remarks import heard, listening


def _warn(text: str) -> None:
    """As a module of Pillow does."""
    warnings.warn_explicit(text, UserWarning, "/x/PIL/Some.py", 1, module="PIL.Some")


def test_each_thread_hears_its_own() -> None:
    """Protects the remarks: a warning belongs to the image that caused it, every time it is given."""

    def work(index: int) -> list[str]:
        with heard() as texts:
            _warn(f"image {index}")
            _warn("  the\n same ")
            return texts

    with listening(), ThreadPoolExecutor(4) as pool:
        for index, texts in enumerate(pool.map(work, range(50))):
            assert texts == [f"image {index}", "the same"]


def test_other_warnings_are_shown(recwarn: pytest.WarningsRecorder) -> None:
    """Protects the rest of the process: what is not about an image goes where it went."""
    with listening():
        warnings.warn("of somebody else", UserWarning, stacklevel=1)
    assert [str(entry.message) for entry in recwarn.list] == ["of somebody else"]


def test_blocks_that_overlap_leave_nothing() -> None:
    """Protects generators that are left half-way: hook and filters are gone with the last of them."""

    def half_way() -> Iterator[None]:
        with listening():
            yield

    before, filters = warnings.showwarning, list(warnings.filters)
    one, other = half_way(), half_way()
    next(one), next(other)
    one.close()  # type: ignore[attr-defined]
    with heard() as texts:
        _warn("still heard")
    assert texts == ["still heard"]
    other.close()  # type: ignore[attr-defined]
    assert warnings.showwarning is before
    assert list(warnings.filters) == filters
