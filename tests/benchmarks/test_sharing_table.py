"""Protects the figures of docs/sharing.md: they are those that were measured."""

from __future__ import annotations

import json

from tests.pipeline.conftest import ROOT


def test_the_table_holds_what_was_measured() -> None:
    rows = json.loads((ROOT / "benchmarks/results/sharing.json").read_text(encoding="utf-8"))["rows"]
    page = (ROOT / "docs/sharing.md").read_text(encoding="utf-8")
    for row in rows:
        assert f"{row['seconds']} s" in page
        assert row["run"] == "alone" or f"{row['moving_s']} s" in page
