"""Protects: the documents of `scout` and `search` are read in bounds, or refused by one message."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.results.rows.scouted import read_scouted
from pipeline.results.searched import read_searched


@pytest.mark.parametrize("read", [read_scouted, read_searched])
def test_what_is_no_document_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "found.json"

    def says(pattern: str) -> None:
        with pytest.raises(ConfigError, match=pattern) as caught:
            read(path)
        assert caught.value.where == str(path) and "figkd-pipeline s" in (caught.value.fix or "")

    says("no such file")
    path.write_text("[")
    says("is no found.json of this version")
    path.write_text("{}")
    says(r"is no found.json of this version \(\w+: Field required\)")
    with path.open("wb") as file:
        file.truncate((256 << 20) + 1)
    says("cannot be read: ")
    path.unlink()
    os.mkfifo(path)  # nobody writes into it: a read would wait for ever
    says("cannot be read: not a regular file")
