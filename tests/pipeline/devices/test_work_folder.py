"""The one folder on a device that is touched: whose it is, who may write to it, and what in it is ever removed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault
from pipeline.devices.faults import JobFailed
from pipeline.devices.session import connect
from tests.pipeline.devices.jobs import COUNT_JOB, agent_for_tests

NOBODY = 65534
QUICK = {"count": 1, "pause_s": 0.0}
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to others")


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A user whose new files everybody may write to."""
    before = os.umask(0)
    yield
    os.umask(before)


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _work(device: Device) -> None:
    with connect(device, agent=agent_for_tests()) as session:
        session.run(COUNT_JOB, QUICK)


def test_a_folder_of_somebody_elses_files_is_refused(local_device: Device) -> None:
    """Names that are the agent's too do not make a folder the agent's: neither a session nor cleaning touches it."""
    folder = Path(local_device.folder)
    for name in ("agent", "blobs", "cache", "jobs"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            (folder / name / f"{number:064x}").write_text("mine")
    (folder / "lock.json").write_text("{}")
    before = _tree(folder)
    for force in (False, True):
        with (
            pytest.raises(DeviceFault, match="it holds files, and no agent made it") as told,
            connect(local_device) as session,
        ):
            session.clean(force=force)
        assert told.value.exit_code == 5 and "remote.folder" in told.value.fix
    with pytest.raises(DeviceFault):
        _work(local_device)
    assert _tree(folder) == before


def test_what_a_user_puts_into_our_folder_stays(local_device: Device) -> None:
    """Also under the agent's own folders, also behind links; cleaning says what it left, and the folder stays ours."""
    _work(local_device)
    folder = Path(local_device.folder)
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    mine = [
        "notes.txt",
        "agent/notes.txt",
        "agent/mine.pyz",
        "blobs/labels.txt",
        "blobs/" + "1" * 64,
        "cache/x.timing.bak",
        "jobs/x/y",
    ]
    for name in mine:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (folder / "blobs" / ("0" * 64)).symlink_to(outside / "precious")
    (folder / "jobs" / ("count-" + "0" * 16)).symlink_to(outside)
    (folder / "cache" / "gone").symlink_to("/nonexistent")
    _work(replace(local_device, keep_mb=0))
    with connect(local_device) as session:
        assert {entry.name for entry in session.inventory().entries} >= {"agent/notes.txt", "cache/gone"}
        left = session.clean().left
    assert set(left) >= {
        "notes.txt",
        "agent/mine.pyz",
        "blobs/labels.txt",
        "blobs/" + "0" * 64,
        "blobs/" + "1" * 64,
        "jobs/x",
    }
    assert all((folder / name).read_text() == "mine" for name in mine)
    assert (outside / "precious").read_text() == "mine" and (folder / "blobs" / ("0" * 64)).is_symlink()
    _work(local_device)


def test_nothing_is_left_where_there_was_nothing(local_device: Device) -> None:
    _work(local_device)
    with connect(local_device) as session:
        assert session.clean().left == []
    assert not Path(local_device.folder).exists()


def test_an_empty_folder_is_taken(local_device: Device) -> None:
    Path(local_device.folder).mkdir()
    _work(local_device)
    assert (Path(local_device.folder) / ".figkd-device").is_file()


def test_every_level_is_private(local_device: Device, open_umask: None) -> None:
    """Whatever the umask: nobody else may read or write what was sent, nor the levels above that we made."""
    device = replace(local_device, folder=f"{local_device.folder}/deep/er/work")
    _work(device)
    made = [Path(local_device.folder), *Path(local_device.folder).rglob("*")]
    assert len(made) > 5
    for path in made:
        assert not path.lstat().st_mode & 0o077, path


def _give_to_a_group(path: Path) -> None:
    os.chown(path, -1, NOBODY)
    path.chmod(0o770)


def _link(path: Path) -> None:
    elsewhere = path.with_name(f"{path.name}-elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


# (what is done to the folder, or what is on the way; what is said)
ATTACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "others may write to it": (lambda work: work.chmod(0o777), "other users may write to"),
    "another group may write to it": (_give_to_a_group, "other users may write"),
    "others may write above it": (lambda work: work.parent.chmod(0o777), "other users may write to"),
    "others may write to agent/": (lambda work: (work / "agent").chmod(0o777), "other users may write to"),
    "it belongs to another user": (lambda work: os.chown(work, NOBODY, NOBODY), "belongs to another user"),
    "agent/ belongs to another user": (lambda work: os.chown(work / "agent", NOBODY, -1), "belongs to another"),
    "another's mark": (lambda work: os.chown(work / ".figkd-device", NOBODY, -1), "belongs to another"),
    "the folder above belongs to another user": (lambda work: os.chown(work.parent, NOBODY, -1), "belongs to another"),
    "it is a link": (lambda work: _link(work), "leads elsewhere"),
    "agent/ is a link": (lambda work: _link(work / "agent"), "leads elsewhere"),
    "the mark is a link": (lambda work: _link(work / ".figkd-device"), "leads elsewhere"),
    "the mark says something else": (lambda work: (work / ".figkd-device").write_text("x"), "no agent made it"),
    "blobs/ is a link": (lambda work: _link(work / "blobs"), "leads elsewhere"),
    "others may write to jobs/": (lambda work: (work / "jobs").chmod(0o777), "other users may write to"),
}  # fmt: skip


@as_root
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_another_users_hand_in_it_is_refused(local_device: Device, attack: str) -> None:
    """Before anything there is executed, written or removed; the message says what, and what to do."""
    act, said = ATTACKS[attack]
    device = replace(local_device, folder=f"{local_device.folder}/own/work")
    _work(device)
    act(Path(device.folder))
    with pytest.raises(DeviceFault, match=said) as told:
        _work(device)
    assert told.value.exit_code == 5 and told.value.fix


def test_a_sticky_folder_like_tmp_serves(local_device: Device) -> None:
    """There nobody can move what others made."""
    shared = Path(local_device.folder).parent / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    _work(replace(local_device, folder=f"{shared}/work"))


def test_an_agent_that_was_changed_never_runs(local_device: Device) -> None:
    """Its digest is compared before it runs; it is sent again."""
    _work(local_device)
    (program,) = (Path(local_device.folder) / "agent").glob("*.pyz")
    good = program.read_bytes()
    for bad, mode in ((b"print('owned')", 0o600), (good, 0o666)):
        program.write_bytes(bad)
        program.chmod(mode)
        _work(local_device)
        assert program.read_bytes() == good and stat.S_IMODE(program.stat().st_mode) == 0o600


def test_an_agent_that_was_changed_while_it_ran_starts_no_job(local_device: Device) -> None:
    with connect(local_device, agent=agent_for_tests()) as session:
        session.run(COUNT_JOB, QUICK)
        (program,) = (Path(local_device.folder) / "agent").glob("*.pyz")
        program.write_bytes(program.read_bytes() + b"x")
        with pytest.raises(JobFailed, match="the agent's program was changed"):
            session.run(COUNT_JOB, QUICK)


@pytest.mark.parametrize(
    "folder", ["~", "~/", "~/.", "~/..", "~/../../x", "/", "/.", "/tmp/../x", "x", "./x", "//", "/tmp/x/"]
)
def test_folders_that_are_none_of_ours(local_device: Device, folder: str) -> None:
    """The config refuses them; so does the device."""
    from pipeline.config.check import _is_work_folder

    assert not _is_work_folder(folder)
    with (
        pytest.raises(DeviceFault, match="cannot be used: it is not a folder below"),
        connect(replace(local_device, folder=folder)),
    ):
        pass


# What another user tries in a folder like /tmp; it prints what succeeded.
_OTHER = """
import os, sys
work = sys.argv[1]
os.setgroups([]); os.setgid(65534); os.setuid(65534)
agent = work + "/agent"
def replace():
    for name in os.listdir(agent):
        os.rename(agent + "/" + name, agent + "/" + name + ".old")
        open(agent + "/" + name, "w").write("print('owned')")
tries = {
    "list it": lambda: os.listdir(work),
    "move it": lambda: os.rename(work, work + ".old"),
    "replace the agent": replace,
    "write into blobs/": lambda: open(work + "/blobs/x", "w").close(),
    "put a link there": lambda: os.symlink("/etc", work + "/jobs/x"),
    "make it writable": lambda: os.chmod(work, 0o777),
}
for name, attempt in tries.items():
    try:
        attempt()
        print(name)
    except OSError:
        pass
"""


@as_root
def test_another_user_of_a_shared_folder_gets_nowhere(local_device: Device) -> None:
    """Below a folder like /tmp nobody can read, move or change it; and one that they made before us is refused."""
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:
        os.chmod(shared, 0o1777)
        device = replace(local_device, folder=f"{shared}/work")
        _work(device)
        done = subprocess.run(
            [sys.executable, "-c", _OTHER, device.folder], capture_output=True, text=True, timeout=30
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        _work(device)
        theirs = Path(shared) / "theirs"
        theirs.mkdir()
        os.chown(theirs, NOBODY, NOBODY)
        with pytest.raises(DeviceFault, match="belongs to another user"):
            _work(replace(device, folder=str(theirs)))


def test_the_mark_has_one_name() -> None:
    """The bootstrap, which is sent as text and imports nothing of ours, and the agent, which removes the mark last."""
    from pipeline.devices import archive
    from pipeline.devices.agent.tidy import MARK

    bootstrap = Path(archive.__file__).with_name("bootstrap.py").read_text(encoding="utf-8")
    assert f'\nMARK = "{MARK}"\n' in bootstrap
