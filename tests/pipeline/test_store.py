"""The store: found by recipe, checked by content, whole or absent, whoever else is at work."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.store import MANIFEST, Artifact, Recipe, Store

RECIPE = Recipe("teacher", 1, {"epochs": 3}, {"data": "abc"})


def _make(store: Store, recipe: Recipe = RECIPE, content: str = "weights", log: str = "fast") -> Artifact:
    with store.lock(recipe), store.draft(recipe) as draft:
        (draft / "model.pt").write_text(content)
        (draft / "sub").mkdir()
        (draft / "sub" / "log.txt").write_text(log)
        return store.commit(recipe, draft, volatile={"sub/log.txt"}, provenance={"seconds": 1})


def test_the_key_depends_on_every_part_of_the_recipe() -> None:
    """Nothing that decides a result is left out of the key, and order of arguments does not matter."""
    others = [
        Recipe("distill", 1, {"epochs": 3}, {"data": "abc"}),
        Recipe("teacher", 2, {"epochs": 3}, {"data": "abc"}),
        Recipe("teacher", 1, {"epochs": 4}, {"data": "abc"}),
        Recipe("teacher", 1, {"epochs": 3}, {"data": "abd"}),
        Recipe("teacher", 1, {"epochs": 3}, {"data": "abc"}, {"gpu": "x"}),
    ]
    assert len({r.key for r in [RECIPE, *others]}) == 6
    assert Recipe("a", 1, {"x": 1, "y": 2}).key == Recipe("a", 1, {"y": 2, "x": 1}).key


def test_what_was_committed_is_found_and_sound(tmp_path: Path) -> None:
    """Round trip; nothing is left half-written."""
    store = Store(tmp_path)
    assert store.find(RECIPE) is None
    made = _make(store)
    found = store.find(RECIPE)
    assert found is not None and found.path == made.path and store.damage(found) == ""
    assert (found.path / "model.pt").read_text() == "weights"
    assert list((tmp_path / "drafts").iterdir()) == []


def test_volatile_files_do_not_count_for_the_digest_but_are_verified(tmp_path: Path) -> None:
    """Two runs that made the same thing have the same digest, whatever their logs say."""
    one, two = _make(Store(tmp_path / "1"), log="fast"), _make(Store(tmp_path / "2"), log="slow")
    assert one.digest == two.digest
    assert _make(Store(tmp_path / "3"), content="other").digest != one.digest
    (one.path / "sub" / "log.txt").write_text("forged")
    assert "sub/log.txt" in Store(tmp_path / "1").damage(one)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda p: (p / "model.pt").write_text("WEIGHTS"), "other contents"),
        (lambda p: (p / "model.pt").write_text("w"), "bytes instead of"),
        (lambda p: (p / "model.pt").unlink(), "model.pt is missing"),
        (lambda p: (p / "more").write_text("x"), "unexpected file more"),
        (lambda p: (p / MANIFEST).write_text("{"), "unreadable"),
        (lambda p: (p / MANIFEST).unlink(), "unreadable"),
        (
            lambda p: (p / MANIFEST).write_text(
                (p / MANIFEST).read_text().replace('"epochs": 3', '"epochs": 4')
            ),
            "contradicts itself",
        ),
    ],
)
def test_damage_is_detected_and_set_aside(tmp_path: Path, harm: object, said: str) -> None:
    """Every way in which an artifact can be harmed is noticed; setting it aside deletes nothing."""
    store = Store(tmp_path)
    made = _make(store)
    harm(made.path)  # type: ignore[operator]
    found = store.find(RECIPE)
    assert found is not None, "a damaged artifact is still offered, so that its damage can be told"
    assert said in store.damage(found)
    place = store.set_aside(found)
    assert place.is_dir() and store.find(RECIPE) is None
    assert store.damage(_make(store)) == ""


def test_an_exception_leaves_no_artifact_and_no_draft(tmp_path: Path) -> None:
    """Whole or not at all."""
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.draft(RECIPE) as draft:
        (draft / "model.pt").write_text("half")
        raise RuntimeError
    assert store.find(RECIPE) is None and list((tmp_path / "drafts").iterdir()) == []


def _die_while_writing(root: Path) -> None:
    store = Store(root)
    with store.lock(RECIPE), store.draft(RECIPE) as draft:
        (draft / "model.pt").write_text("half")
        (store.scratch(RECIPE) / "state").write_text("epoch 2")
        os.kill(os.getpid(), signal.SIGKILL)


def test_kill_9_leaves_no_artifact_frees_the_lock_and_keeps_scratch(tmp_path: Path) -> None:
    """After the hardest death the next run starts clean and can resume."""
    process = multiprocessing.get_context("spawn").Process(target=_die_while_writing, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    store = Store(tmp_path)
    assert store.find(RECIPE) is None
    assert len(list((tmp_path / "drafts").iterdir())) == 1
    assert (store.scratch(RECIPE) / "state").read_text() == "epoch 2"
    store.clean_drafts()
    assert list((tmp_path / "drafts").iterdir()) == []
    made = _make(store)
    assert store.damage(made) == ""
    assert not (tmp_path / "scratch" / f"teacher.{RECIPE.key[:16]}").exists()


def _make_slowly(root: Path, log: str) -> None:
    store = Store(root)
    with store.lock(RECIPE):
        if store.find(RECIPE) is None:
            with store.draft(RECIPE) as draft:
                beside = draft.with_name(f".{draft.name}.more.tmp")  # as atomic folder writers do
                beside.mkdir()
                time.sleep(0.5)
                beside.rmdir()  # fails if another process swept it away
                (draft / "model.pt").write_text("weights")
                (draft / "log").write_text(log)
                store.commit(RECIPE, draft, volatile={"log"}, provenance={})
            with (root / "made").open("a") as file:
                file.write(log + "\n")


def test_two_processes_make_one_artifact(tmp_path: Path) -> None:
    """The second run waits and uses what the first one made."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_make_slowly, args=(tmp_path, str(i))) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [p.exitcode for p in processes] == [0, 0, 0]
    assert len((tmp_path / "made").read_text().split()) == 1
    store = Store(tmp_path)
    found = store.find(RECIPE)
    assert found is not None and store.damage(found) == ""


def test_cleaning_spares_the_drafts_of_running_processes(tmp_path: Path) -> None:
    """A second run that starts up does not sweep away what the first one is writing."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_make_slowly, args=(tmp_path, "0"))
    process.start()
    deadline = time.monotonic() + 30
    while not list((tmp_path / "drafts").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    Store(tmp_path).clean_drafts()
    process.join(60)
    assert process.exitcode == 0 and Store(tmp_path).find(RECIPE) is not None


def test_forcing_the_same_outcome_keeps_the_old_artifact(tmp_path: Path) -> None:
    """An equal rebuild changes nothing that another run may be reading."""
    store = Store(tmp_path)
    first = _make(store)
    stamp = (first.path / "model.pt").stat().st_mtime_ns
    assert _make(store).path == first.path
    assert (first.path / "model.pt").stat().st_mtime_ns == stamp


def test_the_manifest_says_where_an_artifact_comes_from(tmp_path: Path) -> None:
    """Provenance is part of every artifact."""
    manifest = json.loads((_make(Store(tmp_path)).path / MANIFEST).read_text())
    assert manifest["recipe"]["arguments"] == {"epochs": 3}
    assert manifest["provenance"] == {"seconds": 1}
    assert manifest["files"]["model.pt"]["bytes"] == len("weights")
