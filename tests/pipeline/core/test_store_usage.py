"""Protects `store gc`: only whole artifacts that the store made, that nobody refers to and nobody uses, ever go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.core.files import write_json
from pipeline.core.pins import Pins, pinned
from pipeline.core.store import Artifact, Recipe, Store
from pipeline.core.store_usage import collect, note_begun, survey


def _made(store: Store, epochs: int, step: str = "teacher") -> Artifact:
    recipe = Recipe(step, 1, {"epochs": epochs})
    with store.lock(recipe), store.draft(recipe) as draft:
        (draft / "model.pt").write_bytes(b"x" * 1000 * epochs)
        return store.commit(recipe, draft, provenance={})


def _refer(store: Store, config: str, **steps: Artifact) -> None:
    write_json(store.root / "last" / f"{config}.json", {step: a.path.name for step, a in steps.items()})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_is_there_and_who_uses_it(store: Store) -> None:
    one, two = _made(store, 1), _made(store, 2)
    _refer(store, "a", teacher=one)
    _refer(store, "b.c", teacher=one)
    usage = survey(store)
    assert {s.name: (s.bytes, s.configs, s.foreign) for s in usage.artifacts} == {
        one.path.name: (1000, ("a", "b.c"), ""),
        two.path.name: (2000, (), ""),
    }
    assert usage.folders["artifacts"] > 3000 and usage.folders["damaged"] == 0


def test_only_what_nobody_refers_to_goes_and_first_it_is_shown(store: Store) -> None:
    used, other, free = _made(store, 1), _made(store, 2), _made(store, 3)
    _refer(store, "a", teacher=used)
    _refer(store, "b", teacher=other)
    shown = collect(store, survey(store), None, delete=False)
    assert [s.name for s in shown.removed] == [free.path.name] and free.path.is_dir()
    assert collect(store, survey(store), None, delete=True).removed == shown.removed
    assert not free.path.exists() and used.path.is_dir() and other.path.is_dir()
    assert not list((store.root / "drafts").iterdir())
    done = collect(store, survey(store), {"a"}, delete=True)
    assert [s.name for s in done.removed] == [other.path.name] and used.path.is_dir()
    assert store.find(Recipe("teacher", 1, {"epochs": 1})) is not None


@pytest.mark.parametrize(
    "kind", ["extra file", "other size", "no manifest", "link in it", "a link", "a file"]
)
def test_what_the_store_did_not_make_stays(store: Store, tmp_path: Path, kind: str) -> None:
    """With the reason; what a link points to is not touched either."""
    made = _made(store, 1)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    if kind == "extra file":
        (made.path / "notes.txt").write_text("mine")
    elif kind == "other size":
        (made.path / "model.pt").write_text("mine")
    elif kind == "no manifest":
        (made.path / "artifact.json").write_text("{")
    elif kind == "link in it":
        (made.path / "model.pt").unlink()
        (made.path / "model.pt").symlink_to(precious)
    elif kind == "a link":
        made.path.rename(tmp_path / "moved")
        made.path.symlink_to(tmp_path / "moved")
    else:
        (made.path.parent / "notes.txt").write_text("mine")
        _refer(store, "a", teacher=made)
    done = collect(store, survey(store), None, delete=True)
    assert done.removed == [] and len(done.left) == 1
    assert made.path.exists() and precious.read_text() == "mine"


def _left_meanwhile(store: Store, made: Recipe, wanted: dict[str, bool] | None = None) -> dict[str, str]:
    """What another thread leaves while a recipe is being made: locks of this process' own threads count as well."""
    done: dict[str, str] = {}

    def gc() -> None:
        other = Store(store.root)
        done.update(collect(other, survey(other), None, delete=True, wanted=wanted).left)

    with store.lock(made):
        thread = threading.Thread(target=gc)
        thread.start()
        thread.join()
    return done


def test_what_is_used_or_made_stays(store: Store) -> None:
    """An artifact that another process pinned, or whose recipe it makes."""
    pinning, locking = _made(store, 1), _made(store, 2)
    store.pin(pinning)
    assert _left_meanwhile(store, Recipe("teacher", 1, {"epochs": 2})) == {
        f"teacher/{pinning.path.name}": "a running process uses it",
        f"teacher/{locking.path.name}": "a running process makes it",
    }
    assert store.discard(pinning) == "a running process uses it"


def _begun(store: Store, epochs: int, *configs: str) -> Path:
    """State of a training that was begun and is not finished."""
    scratch = store.scratch(Recipe("distill", 1, {"epochs": epochs}))
    (scratch / "state.pt").write_bytes(b"x" * 1000 * epochs)
    for config in configs:
        note_begun(store, config, scratch)
    return scratch


def test_state_of_what_nobody_goes_on_with_goes(store: Store) -> None:
    """A paused trial's goes. An unfinished one's, a killed run's, and what nobody is known to have begun, stay."""
    paused, going, run, unknown = (_begun(store, n, *by) for n, by in enumerate(
        [["s-t0000"], ["s-t0000", "s-t0001"], ["a"], []], start=1,
    ))  # fmt: skip
    wanted = {"s-t0000": False, "s-t0001": True}
    shown = collect(store, survey(store), None, delete=False, wanted=wanted)
    assert [(b.name, b.bytes) for b in shown.scratch] == [(paused.name, 1000)] and paused.is_dir()
    done = collect(store, survey(store), None, delete=True, wanted=wanted)
    assert done.scratch == shown.scratch and done.bytes == 1000 and not paused.exists()
    assert done.left == {f"scratch/{unknown.name}": "it is not known who began it"}
    # Named configs: what a killed run of another one left goes, what a search goes on with does not.
    assert [b.name for b in collect(store, survey(store), {"b"}, delete=True, wanted=wanted).scratch] == [
        run.name
    ]
    assert going.is_dir() and unknown.is_dir() and not list((store.root / "drafts").iterdir())


def test_state_that_is_worked_on_or_not_ours_stays(store: Store, tmp_path: Path) -> None:
    """A step that is being made; a link; a folder of somebody else."""
    held = _begun(store, 1, "s-t0000")
    mine = store.root / "scratch" / "mine"
    mine.mkdir()
    (tmp_path / "precious").write_text("mine")
    link = store.root / "scratch" / f"distill.{'0' * 32}"
    link.symlink_to(tmp_path)
    note_begun(store, "s-t0000", mine)
    assert _left_meanwhile(store, Recipe("distill", 1, {"epochs": 1}), {"s-t0000": False}) == {
        f"scratch/{held.name}": "a running process makes it",
        "scratch/mine": "is none of the store's folders",
    }
    assert held.is_dir() and mine.is_dir() and link.is_symlink() and (tmp_path / "precious").exists()


def test_pins_end_with_their_process_however_it_ends(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom pipeline.core.pins import Pins\n"
        "p = Pins(pathlib.Path(sys.argv[1])); p.add('teacher/a'); p.add('data/b')\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert pinned(tmp_path) == {"teacher/a", "data/b"}
        process.kill()
        process.wait()
    assert pinned(tmp_path) == set()
    assert list((tmp_path / "in_use").iterdir()) == []


def test_without_locks_everything_counts_as_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows none: a run goes on, and nothing it may use is removed."""

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    pins = Pins(tmp_path)
    pins.add("teacher/a")
    assert pinned(tmp_path) == {"teacher/a"}


def test_pins_of_threads_share_one_file(tmp_path: Path) -> None:
    pins = Pins(tmp_path)
    threads = [threading.Thread(target=pins.add, args=(f"s/{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pinned(tmp_path) == {f"s/{i}" for i in range(8)}
    assert len(os.listdir(tmp_path / "in_use")) == 1
