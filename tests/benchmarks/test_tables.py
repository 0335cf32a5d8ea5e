"""Protects: the documentation shows the stored results, and nothing else."""

from __future__ import annotations

import pytest

from benchmarks.tables import PAGES, ROOT, filled


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_the_stored_results(page: str) -> None:
    """A result that was written without `python benchmarks/tables.py`, or a table edited by hand, fails here."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- table " in text
    assert filled(text) == text
