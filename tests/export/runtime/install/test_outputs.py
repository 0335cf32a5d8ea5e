"""What a device counted of its model's answers: kept by day, release and runtime, bounded; summed up by `status`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from export.runtime.counts import counts_of
from export.runtime.install import outputs
from export.runtime.install.disk import LocalDisk
from export.runtime.install.primitive import install
from export.runtime.install.report import as_json, lines, status
from export.runtime.install.site import Site
from export.runtime.install.source import FolderSource
from tests.export.runtime.bundle.made import FILES, write_bundle
from tests.export.runtime.install.made import fine, site_at

ANSWERS = counts_of(np.eye(5, dtype=np.float32))


@pytest.fixture
def served(tmp_path: Path) -> tuple[Site, str]:
    """A device with a release that brings a reference."""
    reference = json.dumps(ANSWERS.to_json()).encode()
    folder = write_bundle(tmp_path / "b1", {**FILES, "reference.json": reference})
    site = site_at(tmp_path / "root")
    return site, install(site, FolderSource(str(folder), LocalDisk()), fine, fine, 60).release.id


def test_status_sums_up_days_and_runtimes(served: tuple[Site, str], monkeypatch: pytest.MonkeyPatch) -> None:
    site, id = served
    assert as_json(status(site))["outputs"] is None
    for runtime in ("serve-1", "serve-1", "serve-2"):
        outputs.add(site.root, runtime, id, ANSWERS)
    outputs.add(site.root, "serve-1", "f" * 64, ANSWERS)
    found = as_json(status(site))["outputs"]
    assert sum(found["counted"]["classes"]) == 15 and sum(found["reference"]["classes"]) == 5
    assert any("15 counted in 7 days" in line for line in lines(status(site)))
    assert len(os.listdir(site.path("outputs"))) == 3
    later = outputs.time.time() + 8 * 86_400
    monkeypatch.setattr(outputs.time, "time", lambda: later)
    assert as_json(status(site))["outputs"] is None, "a week later it is history"


def test_files_are_few_and_small(served: tuple[Site, str], monkeypatch: pytest.MonkeyPatch) -> None:
    site, id = served
    now = outputs.time.time()
    for day in range(70):
        monkeypatch.setattr(outputs.time, "time", lambda day=day: now + 86_400 * day)
        outputs.add(site.root, "serve-1", id, ANSWERS)
    paths = list(Path(site.path("outputs")).iterdir())
    assert len(paths) == 64 and max(path.stat().st_size for path in paths) < 1024


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 5000, b"\xff", b"9" * 9000])
def test_damaged_files_and_files_of_others_are_passed_over(served: tuple[Site, str], content: bytes) -> None:
    site, id = served
    outputs.add(site.root, "serve-1", id, ANSWERS)
    (path,) = Path(site.path("outputs")).iterdir()
    path.with_name(path.name.replace("serve-1", "serve-2")).write_bytes(content)
    (path.parent / "mine.txt").write_bytes(content)
    os.symlink("/etc/passwd", path.with_name(path.name.replace("serve-1", "serve-3")))
    found = outputs.outputs_of(site, id)
    assert found.counted == ANSWERS
    assert (path.parent / "mine.txt").exists()


def test_nothing_is_written_where_nothing_was_counted(served: tuple[Site, str]) -> None:
    site, id = served
    outputs.add(site.root, "serve-1", id, counts_of(np.zeros((0, 5), np.float32)))
    assert not os.path.exists(site.path("outputs"))
