"""The folder that a user takes away: ours are the files that we listed, all others are theirs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import EnvironmentFault
from pipeline.core.faults import environment_fault
from pipeline.core.store import Artifact
from pipeline.results.result import Result
from pipeline.run.publish import MANIFEST, publish
from tests.pipeline.report.sample import sample


@dataclass
class Runs:
    """A store with a report and engines, and the folder that they are published to."""

    place: Path
    notes: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.place / "runs/demo"

    def publish(self, engines: dict[str, str], report: str = "report") -> None:
        """Publish engines (file name to content) of a target `cpu`, and pages."""
        store = self.place / "store"
        shutil.rmtree(store, ignore_errors=True)
        for name in ("report", "build"):
            (store / name).mkdir(parents=True)
        for page in ("result.json", "report.html", "report.md"):
            (store / "report" / page).write_text(report)
        for name, content in engines.items():
            (store / "build" / name).write_text(content)
        first = sample().engines[0]
        rows = [
            first.model_copy(update={"target": "cpu", "file": f"engines/cpu/{name}"})
            for name in engines
            if not name.endswith(".json")
        ]
        self.result: Result = sample().model_copy(update={"engines": rows})
        self.publish_again()

    def publish_again(self) -> None:
        """Publish what the store has."""
        store = self.place / "store"
        artifacts = {"report": Artifact(store / "report", {}), "build@cpu": Artifact(store / "build", {})}
        publish(self.result, artifacts, self.folder, self.notes.append)

    def files(self) -> dict[str, str]:
        """What lies in the folder, but for the list."""
        return {
            str(p.relative_to(self.folder)): p.read_text()
            for p in self.folder.rglob("*")
            if p.is_file() and p.name != MANIFEST
        }


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


PAGES = {"result.json": "report", "report.html": "report", "report.md": "report"}


def test_what_is_wanted_no_more_goes(runs: Runs) -> None:
    """Engines of an earlier config under the same name, with what lies beside them, and their folder."""
    runs.publish({"fp32.onnx": "a", "fp32.onnx.json": "{}", "int8.onnx": "b"})
    assert set(runs.files()) == {
        *PAGES,
        "engines/cpu/fp32.onnx",
        "engines/cpu/fp32.onnx.json",
        "engines/cpu/int8.onnx",
    }
    runs.publish({"fp32.onnx": "a2"})
    assert runs.files() == PAGES | {"engines/cpu/fp32.onnx": "a2"}
    runs.publish({})
    assert runs.files() == PAGES and not (runs.folder / "engines/cpu").exists() and not runs.notes


def test_a_users_files_stay(runs: Runs) -> None:
    """Beside engines, in folders of their own, behind links, whatever their names."""
    runs.publish({"fp32.onnx": "a"})
    outside = runs.place / "outside"
    outside.mkdir()
    (outside / "labels.txt").write_text("mine")
    mine = [
        "engines/cpu/labels.txt",
        "engines/labels.txt",
        "engines/cpu/deep/labels.txt",
        "engines/gpu/x.engine",
        "labels.txt",
    ]
    for name in mine:
        (runs.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (runs.folder / name).write_text("mine")
    (runs.folder / "engines/linked").symlink_to(outside)
    (runs.folder / "engines/cpu/link").symlink_to(outside / "labels.txt")
    runs.publish({})
    assert {name: text for name, text in runs.files().items() if text == "mine"}.keys() >= set(mine)
    assert (outside / "labels.txt").read_text() == "mine" and (runs.folder / "engines/cpu/link").is_symlink()
    assert not (runs.folder / "engines/cpu/fp32.onnx").exists()


def test_a_users_file_in_the_place_of_ours_is_kept(runs: Runs) -> None:
    """One that was there before the first run, one that was changed since, and a link: under another name, and said."""
    runs.folder.mkdir(parents=True)
    (runs.folder / "report.md").write_text("my own words")
    (runs.place / "elsewhere").write_text("mine")
    (runs.folder / "report.html").symlink_to(runs.place / "elsewhere")
    runs.publish({"fp32.onnx": "a", "int8.onnx": "b"})
    assert (runs.folder / "report.md.kept-1").read_text() == "my own words"
    assert (runs.folder / "report.html.kept-1").is_symlink() and (
        runs.place / "elsewhere"
    ).read_text() == "mine"
    (runs.folder / "engines/cpu/fp32.onnx").write_text("patched by me")
    (runs.folder / "engines/cpu/int8.onnx").write_text("patched too")
    runs.publish({"fp32.onnx": "a2"})
    found = runs.files()
    assert found["engines/cpu/fp32.onnx"] == "a2" and found["engines/cpu/fp32.onnx.kept-1"] == "patched by me"
    assert found["engines/cpu/int8.onnx"] == "patched too"
    assert len(runs.notes) == 4 and "left alone" in runs.notes[-1]


def test_again_copies_nothing(runs: Runs) -> None:
    """What has kept its size and time is left alone."""
    runs.publish({"fp32.onnx": "a"})
    before = {p: p.stat().st_ino for p in runs.folder.rglob("*") if p.name != MANIFEST}
    runs.publish_again()
    assert {p: p.stat().st_ino for p in runs.folder.rglob("*") if p.name != MANIFEST} == before
    assert not runs.notes


def test_killed_between_the_list_and_the_copies(runs: Runs) -> None:
    """The old file is still ours then: it is replaced, not kept."""
    runs.publish({"fp32.onnx": "a"})
    old = json.loads((runs.folder / MANIFEST).read_text())
    runs.publish({"fp32.onnx": "a2"})
    new = json.loads((runs.folder / MANIFEST).read_text())
    (runs.folder / "engines/cpu/fp32.onnx").write_text("a")
    both = {name: old["files"].get(name, []) + new["files"][name] for name in new["files"]}
    (runs.folder / MANIFEST).write_text(json.dumps(new | {"files": both}))
    runs.publish({"fp32.onnx": "a3"})
    assert runs.files() == PAGES | {"engines/cpu/fp32.onnx": "a3"} and not runs.notes


@pytest.mark.parametrize(
    "name",
    [
        "../outside/precious",
        "/etc/hostname",
        "engines/../../outside/precious",
        "",
        "..",
        "a/../../outside/precious",
    ],
)
def test_a_list_that_leads_out_of_the_folder_is_not_believed(runs: Runs, name: str) -> None:
    """Whoever wrote it, nothing outside is removed."""
    runs.publish({"fp32.onnx": "a"})
    outside = runs.folder.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("a")
    written: dict[str, Any] = json.loads((runs.folder / MANIFEST).read_text())
    written["files"][name] = written["files"]["engines/cpu/fp32.onnx"]
    (runs.folder / MANIFEST).write_text(json.dumps(written))
    runs.publish({})
    assert (outside / "precious").read_text() == "a"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"version": 9}', '{"version": 1, "files": []}', "[" * 100_000]
)
def test_a_damaged_list_is_none(runs: Runs, text: str) -> None:
    """Then nothing is known to be ours: what is there stays."""
    runs.publish({"fp32.onnx": "a"})
    (runs.folder / MANIFEST).write_text(text)
    runs.publish({})
    assert runs.files()["engines/cpu/fp32.onnx"] == "a"


def _link(path: Path) -> None:
    path.with_name("mine").write_text("my own words")
    path.symlink_to("mine")


@pytest.mark.timeout(60)  # a pipe is not waited for
@pytest.mark.parametrize(
    "put",
    [os.mkfifo, Path.mkdir, _link, lambda path: path.write_text("my own words")],
    ids=["pipe", "folder", "link", "file"],
)
def test_what_is_no_list_of_ours_is_kept(runs: Runs, put: Callable[[Path], object]) -> None:
    """It stands in the list's place, and is the user's."""
    runs.folder.mkdir(parents=True)
    path = runs.folder / MANIFEST
    put(path)
    before = path.lstat()
    for _ in range(2):
        runs.publish({"fp32.onnx": "a"})
    kept = path.with_name(f"{MANIFEST}.kept-1").lstat()
    assert (kept.st_ino, kept.st_mode) == (before.st_ino, before.st_mode)
    assert json.loads(path.read_text())["files"] and len(runs.notes) == 1 and "kept-1" in runs.notes[0]


def test_a_file_in_the_place_of_a_folder_is_told(runs: Runs) -> None:
    """And stays; the system's own words name no fix."""
    runs.publish({})
    (runs.folder / "engines").mkdir()
    (runs.folder / "engines/cpu").write_text("mine")
    with pytest.raises(FileExistsError) as raised:
        runs.publish({"fp32.onnx": "a"})
    told = environment_fault(raised.value, "output")
    assert "engines/cpu: something else lies in its place" in told.what and "move it" in told.fix
    assert (runs.folder / "engines/cpu").read_text() == "mine"


def test_a_folder_in_the_place_of_a_file_is_told(runs: Runs) -> None:
    (runs.folder / "report.md").mkdir(parents=True)
    with pytest.raises(EnvironmentFault, match="a folder in the place of a file") as told:
        runs.publish({})
    assert told.value.exit_code == 4 and "report.md" in told.value.where and told.value.fix
