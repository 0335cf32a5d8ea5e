"""For real: processes that are killed, boots that change, and block images as a power cut leaves them.

Each time a verified release serves: the last one that was said to be committed, or the one that was being installed.
"""

from __future__ import annotations

import filecmp
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from export.runtime.install.disk import LocalDisk
from export.runtime.install.errors import InstallError, TakenBack
from export.runtime.install.primitive import install
from export.runtime.install.recovery import recover
from export.runtime.install.site import Site, load, locked
from export.runtime.install.source import FolderSource
from tests.export.runtime.install.made import bundle_at, fine, site_at

ROOT = Path(__file__).parents[4]
SEED = 20
SIZE = 24 << 20


@dataclass
class Worker:
    """A process that installs one release after another; what it said it did."""

    root: Path
    bundles: Path
    first: int
    lazy: bool = False
    trying: str = ""
    done: str = ""
    lines: int = 0
    _rest: bytes = b""
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        words = [
            sys.executable,
            "-m",
            "tests.export.runtime.install.worker",
            self.root,
            self.bundles,
            str(self.first),
        ]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*words, *(["lazy"] if self.lazy else [])], cwd=ROOT, env=env, stdout=subprocess.PIPE
        )

    def read(self, seconds: float) -> None:
        """Take what it says for so long."""
        assert self.process.stdout
        end = time.monotonic() + seconds
        while select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            block = os.read(self.process.stdout.fileno(), 65536)
            assert block or self.process.wait(5) == -signal.SIGKILL, "the worker failed"
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in lines:
                word, id = line.decode().split()
                self.trying, self.done = (id, self.done) if word == "try" else (self.trying, id)
                self.lines += 1
            if not block:
                return

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.read(5)


def _problem(site: Site, allowed: set[str]) -> str:
    """What is wrong after a crash, or nothing."""
    try:
        with locked(site.root):
            active = recover(site).state.active
    except InstallError as error:
        return str(error)
    if active not in allowed:
        return f"{active} serves"
    if not site.is_good(active):
        return "what serves is damaged"
    return "" if os.readlink(site.path("current")) == f"releases/{active}" else "current does not follow"


@pytest.mark.slow
def test_two_hundred_kills(tmp_path: Path) -> None:
    """`kill -9` at random instants: the page cache survives, the process does not."""
    chance, seen = random.Random(SEED), set()
    root = tmp_path / "root"
    first = 1
    for count in range(200):
        worker = Worker(root, tmp_path / f"bundles{count}", first)
        while not worker.done:
            worker.read(0.05)
        worker.read(chance.random() * 0.15)
        worker.kill()
        allowed = {worker.done, worker.trying}
        assert not _problem(site_at(root, boot=str(count)), allowed), count
        seen.add(load(site_at(root)).active)
        first += worker.lines
    assert len(seen) == 200


@pytest.mark.slow
def test_fifty_changed_boots(tmp_path: Path) -> None:
    """A device that restarts while a release is on trial takes it back, each time."""
    root = tmp_path / "root0"
    old = install(
        site_at(root), FolderSource(bundle_at(tmp_path / "b0", 1), LocalDisk()), fine, fine, 60
    ).release.id
    for count in range(1, 51):
        found_at_boot = tmp_path / f"root{count}"

        def cut(id: str, root: Path = root, found_at_boot: Path = found_at_boot) -> None:
            shutil.copytree(root, found_at_boot, symlinks=True)
            raise TakenBack("the test goes on with the copy")

        source = FolderSource(bundle_at(tmp_path / f"b{count}", 1 + count), LocalDisk())
        with pytest.raises(TakenBack):
            install(site_at(root, boot=f"boot {count}"), source, fine, cut, 60)
        root = found_at_boot
        after = site_at(root, boot=f"boot {count + 1}")
        assert os.readlink(after.path("current")) != f"releases/{old}" and load(after).trial
        assert not _problem(after, {old})
        assert "the device restarted during the trial" in load(after).failed.values()


@dataclass
class Drive:
    """An ext4 file system in a file, mounted; and what is found on it after a power cut now."""

    folder: Path

    @property
    def image(self) -> Path:
        return self.folder / "image"

    @property
    def mounted(self) -> Path:
        return self.folder / "mounted"

    def copy(self, to: Path) -> None:
        """The blocks at one instant: two copies in a row that are equal. Whoever writes is stopped meanwhile."""
        shutil.copyfile(self.image, to)
        again = to.with_suffix(".again")
        while True:
            shutil.copyfile(self.image, again)
            if filecmp.cmp(to, again, shallow=False):
                again.unlink()
                return
            os.replace(again, to)


@contextmanager
def _mounted(image: Path, at: Path) -> Iterator[None]:
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, at], check=True, capture_output=True)
    try:
        yield
    finally:
        for _ in range(50):
            if subprocess.run(["umount", at], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("mounting a block image needs root and mkfs.ext4")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else tmp_path) as folder:
        found = Drive(Path(folder))
        with found.image.open("wb") as file:
            file.truncate(SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", found.image], check=True)
        try:
            with _mounted(found.image, found.mounted):
                yield found
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no block image can be mounted here: {error.stderr.decode().strip()}")


def _power_cuts(drive: Drive, tmp_path: Path, count: int, lazy: bool) -> tuple[list[str], int]:
    """Problems after power cuts at random instants, and how many different releases were found to serve."""
    chance, seen, problems = random.Random(SEED), set(), []
    worker = Worker(drive.mounted / "root", tmp_path / "bundles", 1, lazy)
    try:
        while not worker.done:
            worker.read(0.1)
        for number in range(count):
            worker.read(chance.random() * 0.2)
            worker.process.send_signal(signal.SIGSTOP)
            worker.read(0.02)
            allowed, copy = {worker.done, worker.trying}, drive.folder / "copy"
            drive.copy(copy)
            worker.process.send_signal(signal.SIGCONT)
            with _mounted(copy, drive.folder / "found"):
                site = site_at(drive.folder / "found/root", boot=str(number))
                problem = _problem(site, allowed) if os.path.isdir(site.root) else "the folder is gone"
                if problem:
                    problems.append(problem)
                else:
                    seen.add(load(site).active)
    finally:
        worker.kill()
    return problems, len(seen)


@pytest.mark.slow
def test_two_hundred_power_cuts(drive: Drive, tmp_path: Path) -> None:
    """The blocks of an ext4 file system, copied at random instants, its journal replayed."""
    problems, releases = _power_cuts(drive, tmp_path, 200, lazy=False)
    assert not problems
    assert releases > 100, "the cuts fall into different installs"


@pytest.mark.slow
def test_without_syncs_power_cuts_are_not_survived(drive: Drive, tmp_path: Path) -> None:
    """The harness sees what the syncs are there for: with the same code and a disk that syncs nothing."""
    problems, _ = _power_cuts(drive, tmp_path, 50, lazy=True)
    assert len(problems) >= 45
