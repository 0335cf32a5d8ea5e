"""The store: found by recipe, checked by content, whole or absent, whoever else is at work."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import fingerprint
from pipeline.core.store import MANIFEST, Artifact, Recipe, Store

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


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _edit(folder: Path, change: Callable[[Any], object]) -> None:
    """Change a manifest as somebody would who knows its form."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


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
        (lambda p: _edit(p, lambda m: m["files"].update({"../x": m["files"]["model.pt"]})), "unreadable"),
        (
            lambda p: _edit(p, lambda m: m["files"].update({"/etc/passwd": m["files"]["model.pt"]})),
            "unreadable",
        ),
        (lambda p: _edit(p, lambda m: m["files"]["model.pt"].update(bytes=True)), "unreadable"),
        (lambda p: _edit(p, lambda m: m.update(step="distill")), "unreadable"),
        (lambda p: _edit(p, lambda m: m.update(sequence=-1)), "unreadable"),
        (lambda p: (p / MANIFEST).write_text("[" * 100_000), "unreadable"),
        (lambda p: _pipe(p / MANIFEST), "unreadable"),
        (
            lambda p: (
                (p / "model.pt").rename(p.parent.parent / "m"),
                (p / "model.pt").symlink_to("../../m"),
            ),
            "regular",
        ),
        (lambda p: (p / "sub" / "up").symlink_to(p.parent), "no regular file"),
        (lambda p: _pipe(p / "pipe"), "pipe is no regular file"),
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


def test_contents_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning and running both look at every artifact; gigabytes are not hashed twice."""
    monkeypatch.setattr(fingerprint, "_RACY_NS", -(10**12))  # what was written just now may be remembered
    read: list[str] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: (read.append(Path(file.name).name), digest(file, kind))[1]
    )
    store = Store(tmp_path)
    made = _make(store)
    assert store.damage(made) == "" and sorted(read) == ["log.txt", "model.pt"]
    assert store.damage(made) == "" and len(read) == 2
    (made.path / "model.pt").write_text("WEIGHTS")
    assert "model.pt has other contents" in store.damage(made) and len(read) == 3
    assert "model.pt has other contents" in Store(tmp_path).damage(made) and len(read) == 5


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
    process.join(300)
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
        process.join(300)
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
    deadline = time.monotonic() + 300
    while not list((tmp_path / "drafts").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    Store(tmp_path).clean_drafts()
    process.join(300)
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


JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    1.5,
    float("nan"),
    "",
    "../../x",
    "/etc/passwd",
    [],
    [[1]],
    {},
    {"a": 1},
    "\ud800",
)


def _tampered(value: Any, chance: random.Random) -> None:
    """Replace, drop or rename one entry, however deep."""
    while True:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        inner = value[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.3:
            break
        value = inner
    kind = chance.random()
    if isinstance(value, dict) and kind < 0.2:
        del value[key]
    elif isinstance(value, dict) and kind < 0.4:
        value[chance.choice(["../x", "/abs", "a\0b", "", ".", "more"])] = value.pop(key)
    else:
        value[key] = chance.choice(JUNK)


def test_tampered_manifests_are_damage_and_nothing_else(tmp_path: Path) -> None:
    """700 manifests that somebody edited: each is sound or damaged, set aside where damaged, and made again."""
    damaged = 0
    for seed in range(700):
        chance, store = random.Random(seed), Store(tmp_path / str(seed))
        made = _make(store)
        manifest = json.loads((made.path / MANIFEST).read_text())
        for _ in range(chance.choice((1, 1, 2, 3))):
            _tampered(manifest, chance)
        (made.path / MANIFEST).write_text(json.dumps(manifest))
        found = store.find(RECIPE)
        assert found is not None
        store.named(RECIPE.step, made.path.name)
        if store.damage(found):
            damaged += 1
            assert store.set_aside(found).is_dir()
        again = store.find(RECIPE) or _make(store)
        assert store.damage(again) == ""
    assert 500 < damaged < 700  # provenance and the time may be changed unnoticed


def test_a_clock_that_was_set_back_does_not_bring_back_the_earlier_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made last is found, by count and not by clock; also if it came out as one that was there."""
    store = Store(tmp_path)
    for content, clock in (("first", 2e9), ("second", 1e9), ("third", 1.5e9), ("first", 0), ("third", 5)):
        monkeypatch.setattr(time, "gmtime", lambda clock=clock: time.localtime(clock))
        made = _make(store, content=content)
        found = store.find(RECIPE)
        assert found is not None and found.path == made.path
        assert (found.path / "model.pt").read_text() == content and store.damage(found) == ""


def test_stores_that_did_not_count_stay_readable(tmp_path: Path) -> None:
    """Their newest artifact is found by time; one that is made now comes after all of them."""
    store = Store(tmp_path)
    for content, created in (("old", "2099-01-01T00:00:00Z"), ("older", "2020-01-01T00:00:00Z")):
        path = _make(store, content=content).path
        manifest = json.loads((path / MANIFEST).read_text())
        del manifest["sequence"]
        (path / MANIFEST).write_text(json.dumps(manifest | {"created": created}))
    found = store.find(RECIPE)
    assert found is not None and (found.path / "model.pt").read_text() == "old" and store.damage(found) == ""
    made = _make(store, content="new")
    found = store.find(RECIPE)
    assert found is not None and found.path == made.path


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Finished or empty scratch folders go; those of unfinished or running steps, and what is not ours, stay."""
    store = Store(tmp_path)
    done, forced, going, empty, held = (
        Recipe(step, 1, {}) for step in ("data", "build@a.b", "distill", "logits", "teacher")
    )
    for recipe in (done, forced):
        _make(store, recipe)
    for recipe in (done, forced, going, held):
        (store.scratch(recipe) / "state").write_text("epoch 2")
    store.scratch(empty)
    theirs = [
        tmp_path / "scratch" / "notes",
        tmp_path / "drafts" / "thesis.tex",
        tmp_path / "drafts" / "mine.v2.old",
    ]
    for folder in theirs:
        folder.mkdir(parents=True)
    half = tmp_path / "drafts" / f"build@a.b.{forced.key[:16]}.x1"
    half.mkdir()
    link = tmp_path / "drafts" / f"data.{done.key[:16]}.x2"
    link.symlink_to(theirs[0])
    _make(store, held)
    (store.scratch(held) / "state").write_text("epoch 2")
    with store.lock(held):
        store.clean_drafts({"build@a.b"})
    left = {path.name.split(".")[0] for path in (tmp_path / "scratch").iterdir()}
    assert left == {"notes", "build@a", "distill", "teacher"}
    assert all(folder.is_dir() for folder in theirs) and link.is_symlink() and not half.exists()
    store.clean_drafts()
    left = {path.name.split(".")[0] for path in (tmp_path / "scratch").iterdir()}
    assert left == {"notes", "distill"}


def test_a_failed_try_leaves_no_empty_scratch(tmp_path: Path) -> None:
    """A stage that fails before it keeps anything leaves nothing; what it kept stays for the next try."""
    store = Store(tmp_path)
    for kept in (False, True):
        with pytest.raises(RuntimeError), store.draft(RECIPE):
            if (scratch := store.scratch(RECIPE)) and kept:
                (scratch / "state").write_text("epoch 1")
            raise RuntimeError
        assert scratch.exists() is kept
