"""What an install, a rollback and a collection leave on a real disk, and what they refuse."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from export.runtime.install.disk import Disk, LocalDisk
from export.runtime.install.errors import Environment, InstallError, Refused, TakenBack, Usage
from export.runtime.install.primitive import Installed, Prove, Watch, collect, install, rollback
from export.runtime.install.recovery import recover
from export.runtime.install.site import Site, is_locked, load, locked
from export.runtime.install.source import FolderSource, stage
from tests.export.runtime.bundle.made import FILES, write_bundle
from tests.export.runtime.install.made import bundle_at, failing, fine, site_at


def _install(site: Site, folder: str, prove: Prove = fine, watch: Watch = fine) -> Installed:
    return install(site, FolderSource(folder, LocalDisk()), prove, watch, 60)


def _bundles(tmp_path: Path, count: int) -> list[str]:
    return [bundle_at(tmp_path / f"b{n}", n) for n in range(1, count + 1)]


def _current(site: Site) -> str:
    return os.path.basename(os.readlink(site.path("current")))


def test_a_first_and_a_second_release(tmp_path: Path) -> None:
    site, (first, second) = site_at(tmp_path / "root"), _bundles(tmp_path, 2)
    one = _install(site, first).release
    assert (_current(site), os.path.lexists(site.path("previous"))) == (one.id, False)
    two = _install(site, second).release
    assert (_current(site), os.path.basename(os.readlink(site.path("previous")))) == (two.id, one.id)
    assert (tmp_path / "root/current/bundle/labels.json").read_bytes() == b'["a","2"]\n'
    mode = os.stat(tmp_path / "root/current/bundle/labels.json").st_mode
    assert mode & 0o222 == 0  # nobody writes; who else reads is the umask's
    assert not os.listdir(site.path("staging")) and not os.listdir(site.path("trash"))


def test_the_same_release_again_changes_nothing(tmp_path: Path) -> None:
    site, (first,) = site_at(tmp_path / "root"), _bundles(tmp_path, 1)
    assert _install(site, first).is_new
    assert not _install(site, first, prove=failing, watch=failing).is_new


def test_the_old_model_serves_while_the_new_one_is_tested_and_the_new_one_while_it_is_watched(
    tmp_path: Path,
) -> None:
    site, (first, second) = site_at(tmp_path / "root"), _bundles(tmp_path, 2)
    old = _install(site, first).release.id
    seen: dict[str, str] = {}
    new = _install(
        site,
        second,
        lambda folder: seen.update(prove=_current(site)),
        lambda id: seen.update(watch=_current(site), trial=str(load(site).trial and load(site).trial.to)),  # type: ignore[union-attr]
    ).release.id
    assert seen == {"prove": old, "watch": new, "trial": new}


@pytest.mark.parametrize("step", ["prove", "watch"])
def test_a_release_that_fails_is_taken_back(tmp_path: Path, step: str) -> None:
    site, (first, second) = site_at(tmp_path / "root"), _bundles(tmp_path, 2)
    old = _install(site, first).release.id
    with pytest.raises(TakenBack, match="label 3 instead of 5"):
        _install(site, second, **{step: failing})
    state = load(site)
    assert (_current(site), state.active, state.trial) == (old, old, None)
    assert list(state.failed.values()) == ["label 3 instead of 5"]
    assert _install(site, second).is_new, "it may be tried again"
    assert not load(site).failed


def test_a_first_release_that_fails_leaves_nothing_linked(tmp_path: Path) -> None:
    site, (first,) = site_at(tmp_path / "root"), _bundles(tmp_path, 1)
    with pytest.raises(TakenBack):
        _install(site, first, watch=failing)
    assert not os.path.lexists(site.path("current")) and load(site).active is None


@pytest.mark.parametrize("step", ["prove", "watch"])
def test_an_interrupted_install_is_taken_back(tmp_path: Path, step: str) -> None:
    def interrupted(word: str) -> None:
        raise KeyboardInterrupt

    site, (first, second) = site_at(tmp_path / "root"), _bundles(tmp_path, 2)
    old = _install(site, first).release.id
    with pytest.raises(KeyboardInterrupt):
        _install(site, second, **{step: interrupted})
    assert (_current(site), load(site).trial) == (old, None)


def test_an_older_release_is_refused_and_can_be_rolled_back_to(tmp_path: Path) -> None:
    site, (first, second, third) = site_at(tmp_path / "root"), _bundles(tmp_path, 3)
    one, _ = _install(site, first).release.id, _install(site, third)
    with pytest.raises(Refused, match="sequence 2 of small is older than 3"):
        _install(site, second)
    assert rollback(site).id == one == _current(site)
    with pytest.raises(Refused, match="older"):
        _install(site, second)
    with pytest.raises(Usage, match="no earlier release"):
        rollback(site)
    assert _install(site, third).is_new, "what was rolled back may come again, if it is asked for"


def test_a_rollback_to_a_release_by_its_id(tmp_path: Path) -> None:
    site, folders = site_at(tmp_path / "root"), _bundles(tmp_path, 3)
    one, two, three = [_install(site, folder).release.id for folder in folders]
    assert rollback(site, one[:12]).id == one
    assert (load(site).withdrawn, load(site).previous) == ((three,), None)
    assert rollback(site, two).id == two
    for unknown in ("ffff", "", "f"):
        with pytest.raises(Usage):
            rollback(site, unknown)


def test_a_changed_bundle_is_refused_and_nothing_of_it_stays(tmp_path: Path) -> None:
    site, (first, second) = site_at(tmp_path / "root"), _bundles(tmp_path, 2)
    old = _install(site, first).release.id
    Path(second, "labels.json").write_bytes(b'["a","X"]\n')
    with pytest.raises(Refused, match="labels"):
        _install(site, second, prove=failing)
    assert os.listdir(site.path("releases")) == [old] and not os.listdir(site.path("staging"))


def test_a_damaged_release_gives_way_to_the_one_before_and_is_repaired_by_an_install(tmp_path: Path) -> None:
    site, (first, second) = site_at(tmp_path / "root"), _bundles(tmp_path, 2)
    one, two = [_install(site, folder).release.id for folder in (first, second)]
    labels = Path(site.bundle(two), "labels.json")
    labels.chmod(0o644)
    labels.write_bytes(b"")
    done = recover(site)
    assert done.state.active == one == _current(site)
    assert "damaged or no longer trusted" in done.notes[0]
    assert _install(site, second).is_new
    assert _current(site) == two and site.is_good(two)


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format":9}', b"\xff" * 9, b"[" * 100_000, None])
def test_a_damaged_state_is_made_again_from_the_releases(tmp_path: Path, damage: bytes | None) -> None:
    site, (first, second, third) = site_at(tmp_path / "root"), _bundles(tmp_path, 3)
    for folder in (first, third):
        _install(site, folder)
    rollback(site)
    serves = _current(site)
    path = Path(site.path("state.json"))
    path.unlink() if damage is None else path.write_bytes(damage)
    done = recover(site)
    assert done.state.active == serves == _current(site)
    assert "state.json is damaged" in done.notes[0]
    with pytest.raises(Refused, match="older"):
        _install(site, second)


def test_a_lost_state_counts_only_what_was_proven(tmp_path: Path) -> None:
    """Neither a release that failed on trial, nor one that was rolled back, nor one that an install was cut off at."""
    site, (first, second, third, fourth) = site_at(tmp_path / "root"), _bundles(tmp_path, 4)
    one, two = _install(site, first).release, _install(site, second).release
    rollback(site)
    with pytest.raises(TakenBack):
        _install(site, third, watch=failing)
    stage(site.disk, FolderSource(fourth, LocalDisk()), site.path("staging", "next"))
    id = site.verify(site.path("staging", "next", "bundle")).id
    os.rename(site.path("staging", "next"), site.path("releases", id))
    os.unlink(site.path("state.json"))
    state = recover(site).state
    assert {release.id for release in state.committed} == {one.id, two.id}
    assert (state.active, state.withdrawn, state.previous) == (one.id, (two.id,), None)
    assert _install(site, third).is_new, "what failed can be tried again"


def test_marks_that_a_power_cut_took_are_written_again(tmp_path: Path) -> None:
    site, (first,) = site_at(tmp_path / "root"), _bundles(tmp_path, 1)
    id = _install(site, first).release.id
    os.unlink(site.path("releases", id, "proven"))
    recover(site)
    os.unlink(site.path("state.json"))
    assert recover(site).state.active == id


def test_an_equal_sequence_is_another_bundle_of_the_same_run(tmp_path: Path) -> None:
    """One run makes bundles for several engines; a device may change from one to the other, and back."""
    site, (first,) = site_at(tmp_path / "root"), _bundles(tmp_path, 1)
    other = str(write_bundle(tmp_path / "other", {**FILES, "labels.json": b"[]"}, sequence=1))
    one, two = _install(site, first).release, _install(site, other).release
    assert one.id != two.id and _current(site) == two.id
    assert _install(site, first).is_new and _current(site) == one.id


def test_collection_keeps_what_serves_the_one_before_and_the_last(tmp_path: Path) -> None:
    site, folders = site_at(tmp_path / "root"), _bundles(tmp_path, 5)
    ids = [_install(site, folder).release.id for folder in folders]
    Path(site.path("releases", "notes.txt")).write_text("not ours")
    rollback(site, ids[1])
    assert set(collect(site, keep=1)) == {ids[2], ids[4]}
    assert set(os.listdir(site.path("releases"))) == {ids[0], ids[1], ids[3], "notes.txt"}
    assert load(site).previous == ids[0]
    assert collect(site, keep=1) == ()


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/thesis.tex").write_text("mine")
    with pytest.raises(Environment, match="holds other things"):
        recover(site_at(tmp_path / "root"))
    assert os.listdir(tmp_path / "root") == ["thesis.tex"]
    (tmp_path / "file").write_text("")
    with pytest.raises(Environment, match="no folder"):
        recover(site_at(tmp_path / "file"))


def test_one_install_at_a_time(tmp_path: Path) -> None:
    recover(site_at(tmp_path / "root"))
    assert not is_locked(str(tmp_path / "root"))
    with locked(str(tmp_path / "root")):
        assert is_locked(str(tmp_path / "root"))
        with pytest.raises(Environment, match="another install is at work"), locked(str(tmp_path / "root")):
            pass
    assert not is_locked(str(tmp_path / "root"))


@dataclass
class _FullDisk:
    """A disk that is full from a given change on."""

    left: int

    def __getattr__(self, name: str) -> object:
        found = getattr(LocalDisk(), name)
        if name not in ("make_folder", "write", "append", "symlink", "rename"):
            return found

        def counted(*words: object) -> object:
            self.left -= 1
            if self.left < 0:
                raise Environment("the disk is full", str(words[0]))
            return found(*words)

        return counted


def test_a_disk_that_is_full_from_any_change_on_leaves_the_old_model(tmp_path: Path) -> None:
    """Whatever the install could not write; and once there is room, it goes on."""
    first, second = _bundles(tmp_path, 2)
    for count in range(100):
        site = site_at(tmp_path / f"root{count}")
        old = _install(site, first).release.id
        full: Disk = _FullDisk(count)  # type: ignore[assignment]
        try:
            done = _install(site_at(tmp_path / f"root{count}", disk=full), second)
        except InstallError as error:
            assert error.what == "the disk is full"
        else:
            assert done.is_new and load(site).active == done.release.id
            break
        assert load(site).active == old
        assert recover(site).state.active == old == _current(site)
        assert _install(site, second).is_new
    assert 15 < count < 90


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path) -> None:
    class Small(LocalDisk):
        def free(self, folder: str) -> int:
            return 1000

    site, (first,) = site_at(tmp_path / "root", disk=Small()), _bundles(tmp_path, 1)
    with pytest.raises(Environment, match=r"needs 1\.1 MB, and 0\.0 MB are free"):
        _install(site, first)


def test_what_the_system_says_of_a_write_becomes_one_clear_error(tmp_path: Path) -> None:
    def blocks() -> Iterable[bytes]:
        yield b"x"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Environment, match="the disk is full"):
        LocalDisk().write(str(tmp_path / "a"), blocks())
    with pytest.raises(Environment, match="File exists"):
        LocalDisk().write(str(tmp_path / "a"), [])
