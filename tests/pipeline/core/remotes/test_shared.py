"""Protects sharing through a remote, here a folder: checked, whole, made once, never worse than alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.manifest import content_digest, parse_manifest
from pipeline.core.remotes.files import RemoteFault, Wanted, within
from pipeline.core.remotes.folder import FolderFiles
from pipeline.core.remotes.lease import Pace, Watch, take
from pipeline.core.remotes.shared import Limits
from tests.pipeline.core.remotes.machines import CONTENT, QUICK, RECIPE, Machine, shares


@pytest.fixture
def share(tmp_path: Path) -> Path:
    (tmp_path / "share").mkdir()
    return tmp_path / "share"


@pytest.fixture
def two(tmp_path: Path, share: Path) -> tuple[Machine, Machine]:
    return Machine(tmp_path / "one", FolderFiles(share)), Machine(tmp_path / "two", FolderFiles(share))


def _manifest(share: Path) -> Path:
    (path,) = share.glob("keys/*/*.json")
    return path


def test_what_one_made_the_other_takes(two: tuple[Machine, Machine]) -> None:
    shares(*two)


def test_nothing_half_written_counts(two: tuple[Machine, Machine], share: Path) -> None:
    """The manifest comes last: blobs without one are no artifact, and are not sent again."""
    one, other = two
    one.obtain()
    _manifest(share).unlink()
    other.obtain()
    assert other.made == 1 and other.shared.traffic.pushed == {"teacher": 0}
    assert not list(share.rglob(".*"))


def _forged(change: Callable[[dict[str, Any]], None], *, consistent: bool = False) -> Callable[[Path], None]:
    def forge(share: Path) -> None:
        values = json.loads(_manifest(share).read_text())
        change(values)
        if consistent:
            files = parse_manifest(json.dumps({**values, "digest": "0" * 64}).encode()).files
            values["digest"] = content_digest(files)
        _manifest(share).write_text(json.dumps(values))

    return forge


def _blob(share: Path, size: int = 7000) -> Path:
    return next(path for path in share.glob("blobs/*") if path.stat().st_size == size)


def _renamed(new: str) -> Callable[[dict[str, Any]], None]:
    return lambda values: values["files"].update({new: values["files"].pop("model.pt")})


def _other_bytes(values: dict[str, Any]) -> None:
    values["files"]["model.pt"]["bytes"] = 10**15


HOSTILE: dict[str, Callable[[Path], None]] = {
    "other contents": lambda share: _blob(share).write_bytes(b"x" * 7000),
    "longer": lambda share: _blob(share).write_bytes(b"x" * 8000),
    "cut": lambda share: _blob(share).write_bytes(b"weights"),
    "gone": lambda share: _blob(share).unlink(),
    "a folder": lambda share: (_blob(share).unlink(), next(share.glob("blobs")).joinpath("d").mkdir()),  # type: ignore[list-item]
    "a FIFO": lambda share: (path := _blob(share), path.unlink(), os.mkfifo(path)),  # type: ignore[list-item]
    "no JSON": lambda share: _manifest(share).write_text("{"),
    "not UTF-8": lambda share: _manifest(share).write_bytes(b"\xff\xfe"),
    "empty": lambda share: _manifest(share).write_text(""),
    "a list": lambda share: _manifest(share).write_text("[]"),
    "deep": lambda share: _manifest(share).write_text("[" * 100_000),
    "huge": lambda share: _manifest(share).write_bytes(b" " * ((1 << 24) + 1)),
    "another key": _forged(lambda v: v.update(key="0" * 64)),
    "another step": _forged(lambda v: v.update(step="data")),
    "another recipe": _forged(lambda v: v["recipe"]["arguments"].update(epochs=9)),
    "another digest": _forged(lambda v: v.update(digest="0" * 64)),
    "leads out": _forged(_renamed("../../evil"), consistent=False),
    "absolute": _forged(_renamed("/tmp/evil-of-a-test")),
    "our manifest": _forged(_renamed("artifact.json"), consistent=True),
    "a file and a folder": _forged(_renamed("empty/model.pt"), consistent=True),
    "too long a name": _forged(_renamed("x" * 300), consistent=True),
    "our blobs": _forged(_renamed(".blobs"), consistent=True),
    "too large": _forged(_other_bytes, consistent=True),
    "negative": _forged(lambda v: v["files"]["model.pt"].update(bytes=-1)),
    "too many files": _forged(
        lambda v: v["files"].update({str(i): v["files"]["empty"] for i in range(10_001)}), consistent=True
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_corrupted_and_hostile_remotes_are_refused_and_repaired(
    two: tuple[Machine, Machine], share: Path, tmp_path: Path, kind: str
) -> None:
    """A warning, the artifact is made here, nothing is written elsewhere, and the remote is sound again."""
    one, other = two
    one.obtain()
    HOSTILE[kind](share)
    before = {
        p for p in tmp_path.rglob("*") if not p.is_relative_to(share) and not p.is_relative_to(other.root)
    }
    started = time.monotonic()
    other.obtain()
    assert other.made == 1 and len(other.warnings) == 1, other.notes
    assert time.monotonic() - started < 10
    after = {
        p for p in tmp_path.rglob("*") if not p.is_relative_to(share) and not p.is_relative_to(other.root)
    }
    assert before == after and not Path("/tmp/evil-of-a-test").exists()
    assert not list((other.root / "drafts").iterdir())
    third = Machine(tmp_path / "three", FolderFiles(share))
    third.obtain()
    assert third.made == 0, third.notes


def test_files_that_do_not_hold_what_they_should_are_refused(two: tuple[Machine, Machine]) -> None:
    """A consistent artifact of other files than the stage's: the stage's own look at it decides."""
    one, other = two
    one.obtain()

    def check(folder: Path) -> None:
        raise KeyError("test")

    with other.store.lock(RECIPE), other.shared.claim(RECIPE, check) as artifact:
        assert artifact is None
    assert "do not hold what they should: KeyError" in other.warnings[0]


class Faulty(FolderFiles):
    """A remote whose methods fail or hang."""

    def __init__(self, root: Path, **faults: Callable[[], Any]) -> None:
        super().__init__(root)
        self.faults = faults

    def _maybe(self, name: str) -> None:
        if fault := self.faults.get(name):
            fault()

    def read(self, name: str, most: int) -> bytes | None:
        self._maybe("read")
        return super().read(name, most)

    def fetch(self, wanted: Sequence[Wanted], folder: Path, until: float) -> None:
        self._maybe("fetch")
        super().fetch(wanted, folder, until)

    def put(self, files: Sequence[tuple[Path, str]], until: float) -> None:
        self._maybe("put")
        super().put(files, until)

    def create(self, name: str, content: bytes) -> bool:
        self._maybe("create")
        return super().create(name, content)


def _fails() -> None:
    raise RemoteFault("no space left on device")


@pytest.mark.parametrize(
    ("faults", "warning"),
    [
        ({"read": _fails}, "cannot be taken from there"),
        ({"put": _fails}, "cannot be brought there"),
        ({"create": _fails}, "cannot be reserved there"),
        ({"create": _fails, "put": _fails}, "cannot be reserved there"),
    ],
)
def test_a_remote_that_fails_costs_a_warning(
    tmp_path: Path, share: Path, faults: dict[str, Any], warning: str
) -> None:
    """Unreachable, full, read-only: one warning a run, and the work goes on without it."""
    machine = Machine(tmp_path / "one", Faulty(share, **faults))
    machine.obtain()
    machine.obtain(replace(RECIPE, arguments={"epochs": 4}))
    assert machine.made == 2
    assert len(machine.warnings) == 1 and warning in machine.warnings[0], machine.notes


def test_a_full_or_read_only_remote_is_still_read(
    two: tuple[Machine, Machine], share: Path, tmp_path: Path
) -> None:
    """What is there is taken, although nothing can be written."""
    two[0].obtain()
    machine = Machine(tmp_path / "three", Faulty(share, put=_fails, create=_fails))
    machine.obtain(replace(RECIPE, arguments={"epochs": 4}))
    machine.obtain()
    assert machine.made == 1 and machine.shared.traffic.pulled == {"teacher": 7004}


def test_a_slow_remote_is_left(
    two: tuple[Machine, Machine], share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hung request and an endless transfer end; a share that hangs for ever cannot hold the run."""
    two[0].obtain()
    monkeypatch.setattr("pipeline.core.remotes.shared._QUICK_S", 0.3)
    hung = Machine(tmp_path / "hung", Faulty(share, read=lambda: time.sleep(60)))
    started = time.monotonic()
    hung.obtain()
    assert "did not answer within" in hung.warnings[0] and hung.made == 1
    slow = Machine(tmp_path / "slow", Faulty(share, fetch=lambda: time.sleep(60)), Limits(seconds=0.1))
    monkeypatch.setattr("pipeline.core.remotes.shared._GRACE_S", 0.2)
    slow.obtain()
    assert slow.made == 1 and slow.warnings
    assert time.monotonic() - started < 10


def test_limits_are_kept(two: tuple[Machine, Machine], share: Path, tmp_path: Path) -> None:
    """Too large to bring, too large to take, and `push: false` writes nothing at all."""
    small = Machine(tmp_path / "small", FolderFiles(share), Limits(bytes=5000))
    small.obtain()
    assert not list(share.glob("keys/*/*"))
    silent = Machine(tmp_path / "silent", FolderFiles(share), Limits(push=False))
    shutil.rmtree(share / "leases", ignore_errors=True)
    silent.obtain()
    assert not list(share.glob("*/*/*")) and not (share / "leases").exists()
    two[0].obtain()
    small.store = Machine(tmp_path / "small2", FolderFiles(share), Limits(bytes=5000)).store
    again = Machine(tmp_path / "small3", FolderFiles(share), Limits(bytes=5000))
    again.obtain()
    assert again.made == 1 and "remote_gb" in again.warnings[0]


def test_a_share_that_is_not_mounted_is_not_made(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "one", FolderFiles(tmp_path / "gone"))
    machine.obtain()
    assert "is the share mounted?" in machine.warnings[0] and not (tmp_path / "gone").exists()


def test_two_that_want_the_same_make_it_once(two: tuple[Machine, Machine]) -> None:
    """The second waits for the lease of the first, says so, and takes what it made."""
    one, other = two
    begun = threading.Event()
    make = one.make

    def slowly(*arguments: Any) -> Any:
        begun.set()
        time.sleep(1.5)  # longer than a lease that nobody renews
        return make(*arguments)

    one.make = slowly  # type: ignore[method-assign]
    thread = threading.Thread(target=one.obtain)
    thread.start()
    begun.wait()
    other.obtain()
    thread.join()
    assert (one.made, other.made) == (1, 0)
    assert any("another machine is making this" in note for note in other.notes)


def test_a_holder_that_is_killed_loses_its_lease(tmp_path: Path, share: Path) -> None:
    """A process that dies with the lease: the other takes over after the lease's time, and makes it."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from tests.pipeline.core.remotes.machines import *\n"
        "from pipeline.core.remotes.folder import FolderFiles\n"
        "m = Machine(Path(sys.argv[1]), FolderFiles(Path(sys.argv[2])))\n"
        "with m.store.lock(RECIPE), m.shared.claim(RECIPE) as found:\n"
        "    print(found, flush=True); time.sleep(600)\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "dying"), str(share)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[4]) as process:
        assert process.stdout is not None and process.stdout.readline() == b"None\n"
        machine = Machine(tmp_path / "one", FolderFiles(share))
        ended: list[float] = []

        def obtain() -> None:
            machine.obtain()
            ended.append(time.monotonic())

        thread = threading.Thread(target=obtain)
        thread.start()
        time.sleep(1.2)  # twice the lease's time: it is renewed, so it holds
        assert not ended
        process.kill()
        killed = time.monotonic()
        thread.join()
    assert machine.made == 1 and QUICK.expires_s * 0.5 < ended[0] - killed < 10
    assert not list(share.glob("leases/*"))


def test_leases(share: Path) -> None:
    """One of many gets it; an observer's own clock decides when it has expired; who lost it leaves it alone."""
    files = FolderFiles(share)
    won = [lease for _ in range(5) if (lease := take(files, "leases/a.json", QUICK))]
    assert len(won) == 1
    won[0].release()
    assert files.read("leases/a.json", 100) is None
    silent = Pace(beat_s=3600, expires_s=60)
    lost = take(files, "leases/a.json", silent)
    assert lost is not None
    now = [0.0]
    watch = Watch(files, "leases/a.json", silent, lambda: now[0])
    assert not watch.over()
    now[0] = 59
    assert not watch.over()
    now[0] = 61
    assert watch.over()
    other = take(files, "leases/a.json", QUICK)
    assert other is not None
    lost.release()
    assert files.read("leases/a.json", 100) is not None
    other.release()


def test_within() -> None:
    """Results and errors come back; what takes too long is left alone."""
    assert within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)
    with pytest.raises(RemoteFault, match="within"):
        within(0.05, lambda: time.sleep(30))


def test_content_is_what_tests_think() -> None:
    assert sum(len(data) for data in {*CONTENT.values()}) == 7004
