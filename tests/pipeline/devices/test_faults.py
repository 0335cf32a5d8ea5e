"""What goes wrong with devices, caused for real on a real sshd: one clear message or a finished retry, and no mess."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipeline.core.errors import DeviceFault
from pipeline.devices import session as session_module
from pipeline.devices.faults import JobFailed
from pipeline.devices.messages import Event
from pipeline.devices.session import Events, connect
from tests.pipeline.devices.jobs import BREAK_JOB, COUNT_JOB, agent_for_tests, progress_of
from tests.pipeline.devices.sshd import ALIAS, PROGRAM, Sshd, make_sshd

LONG = {"count": 20, "pause_s": 0.15}
AGENT = agent_for_tests()


def _agents(sshd: Sshd, role: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if role in words and str(sshd.folder) in words:
            found.append(process)
    return found


def _once(action: Callable[[], object], when: Callable[[Event], bool]) -> Events:
    """A progress callback that does something the first time that `when` holds."""
    done: list[bool] = []

    def progress(event: Event) -> None:
        if not done and when(event):
            done.append(True)
            action()

    return progress


def _tidy(sshd: Sshd) -> None:
    """Nothing of a job is left on the device: neither a process nor a file."""
    assert not _agents(sshd, "work")
    assert not list((sshd.folder / "jobs").iterdir())
    assert not list((sshd.folder / "blobs").glob("*.part"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon."""
    monkeypatch.setattr(session_module, "RETRY_PAUSES_S", (0.1, 0.1))


# Connecting


def test_a_changed_host_key(sshd: Sshd) -> None:
    """The connection is refused, and the line that holds the old key is named, with a warning."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", sshd.place / "other"], check=True)
    other = " ".join((sshd.place / "other.pub").read_text().split()[:2])
    (sshd.place / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {other}\n")
    with (
        pytest.raises(DeviceFault, match="the host key is not the one that was known") as told,
        connect(sshd.device()),
    ):
        pass
    assert f"Offending ED25519 key in {sshd.place}/known_hosts:1" in told.value.what
    assert "make sure which it is; then remove that line" in told.value.fix and told.value.exit_code == 5


def test_an_unknown_host_key(sshd: Sshd) -> None:
    """Never accepted by itself."""
    (sshd.place / "known_hosts").write_text("")
    with pytest.raises(DeviceFault, match="its host key is not known here") as told, connect(sshd.device()):
        pass
    assert "compare the fingerprint: ssh -F" in told.value.fix
    assert (sshd.place / "known_hosts").read_text() == ""


def test_authentication_is_refused(sshd: Sshd) -> None:
    """No password is asked for: the message says what must work first."""
    (sshd.place / "authorized_keys").write_text("")
    with (
        pytest.raises(DeviceFault, match=r"authentication was refused \(.*Permission denied") as told,
        connect(sshd.device()),
    ):
        pass
    assert "BatchMode=yes" in told.value.fix


def test_a_name_that_does_not_exist(sshd: Sshd) -> None:
    device = replace(sshd.device(), url="ssh://no-such-host.invalid", ssh_config=None)
    with pytest.raises(DeviceFault, match="there is no host of that name"), connect(device):
        pass


def test_an_ssh_config_that_is_broken(sshd: Sshd) -> None:
    sshd.config.write_text("Nonsense yes\n")
    with pytest.raises(DeviceFault, match="the ssh config cannot be used"), connect(sshd.device()):
        pass


def test_no_python(sshd: Sshd) -> None:
    with (
        pytest.raises(DeviceFault, match=r"there is no Python: .*python3\.99") as told,
        connect(sshd.device(python="python3.99")),
    ):
        pass
    assert "remote.python" in told.value.fix


def test_python_is_too_old(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bootstrap says so before anything of the agent is sent."""
    monkeypatch.setattr("pipeline.devices.archive.OLDEST_PYTHON", (9, 0))
    with (
        pytest.raises(DeviceFault, match=r"its Python \(.*\) is 3\.\d+\.\d+; .* or later is needed"),
        connect(sshd.device()),
    ):
        pass
    assert not sshd.folder.exists()


@pytest.mark.parametrize("name", ["python2.7", "python3.6", "python3.7", "python3.8"])
def test_pythons_that_are_here(sshd: Sshd, name: str) -> None:
    """Old ones are told to be old by their own mouth; 3.8 works."""
    program = shutil.which(name)
    if program is None or subprocess.run([program, "-V"], capture_output=True).returncode != 0:
        pytest.skip(f"no {name} here")
    if name == "python3.8":
        with connect(sshd.device(python=program), agent=AGENT) as session:
            assert session.run(COUNT_JOB, {"count": 1, "pause_s": 0}).result
        return
    with pytest.raises(DeviceFault, match=r"or later is needed"), connect(sshd.device(python=program)):
        pass


def test_a_login_shell_that_talks(sshd: Sshd) -> None:
    """What a shell's start-up file prints does not disturb the protocol."""
    (sshd.place / "rc").write_text('echo Welcome to figkd-land; echo \'{"type": "hello"}\'\n')
    with (sshd.place / "sshd_config").open("a") as config:
        config.write(f"SetEnv BASH_ENV={sshd.place}/rc\n")
    sshd.stop()
    sshd.start()
    with connect(sshd.device(), agent=AGENT) as session:
        assert session.run(COUNT_JOB, {"count": 1, "pause_s": 0}).result


def test_a_folder_that_cannot_be_made(sshd: Sshd) -> None:
    with (
        pytest.raises(DeviceFault, match=r"the work folder /proc/x cannot be used"),
        connect(sshd.device(folder="/proc/x")),
    ):
        pass


def test_one_authentication_serves_many_sessions(sshd: Sshd) -> None:
    """Connections are reused."""
    for _ in range(3):
        with connect(sshd.device()) as session:
            session.facts()
    assert (sshd.place / "sshd.log").read_text().count("Accepted publickey") == 1


def test_a_users_own_sharing_is_left_alone(sshd: Sshd) -> None:
    """Who shares connections (for a second factor, say) has made one that we must use."""
    mine = sshd.place / "mine"
    with sshd.config.open("a") as config:
        config.write(f"  ControlMaster auto\n  ControlPath {mine}\n  ControlPersist 30\n")
    for _ in range(2):
        with connect(sshd.device()) as session:
            session.facts()
    assert mine.exists() and (sshd.place / "sshd.log").read_text().count("Accepted publickey") == 1
    subprocess.run(["ssh", "-F", sshd.config, "-O", "exit", ALIAS], capture_output=True)


# Cut connections


def test_cut_in_an_upload(sshd: Sshd, tmp_path: Path) -> None:
    """It goes on at the byte where it stopped."""
    content = os.urandom(40_000_000)
    (tmp_path / "a").write_bytes(content)
    notes: list[str] = []
    cut = iter([sshd.cut])

    def progress(done: int, total: int) -> None:
        if done > total / 2:
            next(cut, lambda: None)()

    with connect(sshd.device(), note=notes.append) as session:
        digest = session.put(tmp_path / "a", progress)
        assert session.sent < 1.6 * len(content)
    assert len(notes) == 2 and "the connection was lost in sending a" in notes[0] and "MB sent" in notes[1]
    assert hashlib.sha256((sshd.folder / "blobs" / digest).read_bytes()).hexdigest() == digest


def test_cut_in_a_detached_job(sshd: Sshd, tmp_path: Path) -> None:
    """The build goes on without us, and we find it again: one run, every event once."""
    events: list[int] = []
    cut = _once(sshd.cut, lambda event: progress_of(event) == 5)

    def progress(event: Event) -> None:
        events.append(progress_of(event))
        cut(event)

    with connect(sshd.device(), agent=AGENT) as session:
        done = session.run(COUNT_JOB, LONG, progress, detached=True)
        assert events == list(range(20)) and not done.found
        session.fetch(done.job, "out.bin", tmp_path / "out", 1 << 24)
        session.release(done.job)
    _tidy(sshd)


def test_cut_in_an_attached_job(sshd: Sshd) -> None:
    """What needs its host is ended with it, and started again."""
    notes: list[str] = []
    events: list[int] = []
    cut = _once(sshd.cut, lambda event: progress_of(event) == 5)

    def progress(event: Event) -> None:
        events.append(progress_of(event))
        cut(event)

    with connect(sshd.device(), agent=AGENT, note=notes.append) as session:
        assert session.run(COUNT_JOB, LONG, progress).result
        assert events[-20:] == list(range(20)) and len(events) > 20
        assert any("started again" in note for note in notes)
        assert len(list((sshd.folder / "jobs").iterdir())) == 1
    _tidy(sshd)


def test_gone_for_good_and_back_for_the_next_run(sshd: Sshd, impatient: None) -> None:
    """One message while the device cannot be reached; the next run takes the build that went on meanwhile."""
    device = sshd.device()
    with connect(device, agent=AGENT) as session:
        stop = _once(sshd.stop, lambda event: progress_of(event) == 3)
        with pytest.raises(
            DeviceFault, match="lost in the job 'count', and could not be made again: unreachable"
        ) as told:
            session.run(COUNT_JOB, LONG, stop, detached=True)
        assert "run again" in told.value.fix
    assert len(_agents(sshd, "work")) > 0
    sshd.start()
    with connect(replace(device, wait_s=0), agent=AGENT) as session:
        with pytest.raises(DeviceFault, match=r"running count; its connection is gone"):
            session.run(COUNT_JOB, LONG | {"count": 1})
        done = session.run(COUNT_JOB, LONG, detached=True)
        assert done.found
        session.release(done.job)
    _tidy(sshd)


def test_the_agent_is_killed(sshd: Sshd) -> None:
    """Another one takes over."""
    with connect(sshd.device(), agent=AGENT) as session:

        def kill() -> None:
            for agent in _agents(sshd, "serve"):
                agent.kill()

        done = session.run(COUNT_JOB, LONG, _once(kill, lambda event: progress_of(event) == 3), detached=True)
        assert done.result
        session.release(done.job)
    _tidy(sshd)


def test_the_agent_is_stopped(sshd: Sshd) -> None:
    """It is silent and holds the device's lock: the session notices, ends it, and goes on with another."""
    notes: list[str] = []

    def stop() -> None:
        for agent in _agents(sshd, "serve"):
            agent.suspend()

    with connect(sshd.device(silence_s=2), agent=AGENT, note=notes.append) as session:
        assert session.run(COUNT_JOB, LONG, _once(stop, lambda event: progress_of(event) == 3)).result
        assert len(_agents(sshd, "serve")) == 1
    assert "no answer for 2 s" in notes[0] and "started again" in notes[1]
    _tidy(sshd)


def test_the_job_is_stopped(sshd: Sshd) -> None:
    """A job that somebody stopped will never end: that is said, and it is ended."""

    def stop() -> None:
        for job in _agents(sshd, "work"):
            job.suspend()

    told = pytest.raises(JobFailed, match=r"the job was stopped \(SIGSTOP\) for 2 s")
    with connect(sshd.device(silence_s=2), agent=AGENT) as session, told:
        session.run(COUNT_JOB, LONG, _once(stop, lambda event: progress_of(event) == 3), detached=True)
    _tidy(sshd)


def test_the_job_is_killed_and_all_that_it_started(sshd: Sshd) -> None:
    """Its parent says so; what the job left running is ended before the next one."""
    with connect(sshd.device(), agent=AGENT) as session:
        with pytest.raises(JobFailed, match="137") as told:
            session.run(
                BREAK_JOB, {"how": "orphan"}, lambda event: os.kill(progress_of(event), signal.SIGKILL)
            )
        assert told.value.kind == "killed"
    _tidy(sshd)
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "300"]]


@pytest.fixture
def little_memory(sshd: Sshd) -> Iterator[None]:
    """Everything of the server, and what it starts, has 100 MB together."""
    root = Path("/sys/fs/cgroup")
    root = root / "memory" if (root / "memory").is_dir() else root
    group, assigned = root / f"figkd{os.getpid()}", sshd.process
    assert assigned is not None
    try:
        group.mkdir()
        old = (group / "memory.limit_in_bytes").exists()
        (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(100 << 20))
        (group / "cgroup.procs").write_text(str(assigned.pid))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no memory control groups here: {error}")
    yield
    sshd.stop()
    for _ in range(100):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.05)


def test_out_of_memory(sshd: Sshd, little_memory: None) -> None:
    """The kernel takes the job and not the agent, which says what happened and what helps."""
    with connect(sshd.device(), agent=AGENT) as session:
        with pytest.raises(JobFailed, match=r"the job was killed \(137: .* memory ran out\)") as told:
            session.run(BREAK_JOB, {"how": "eat"}, detached=True)
        assert told.value.kind == "memory" and "swap" in told.value.fix
        assert session.run(COUNT_JOB, {"count": 1, "pause_s": 0}).result
    _tidy(sshd)


def test_interrupted(sshd: Sshd) -> None:
    """Ctrl-C ends the build on the device: nobody waits for it any more."""

    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), connect(sshd.device(), agent=AGENT) as session:
        session.run(COUNT_JOB, LONG, interrupt, detached=True)
    _tidy(sshd)


def test_rebooted_in_the_middle(sshd: Sshd, impatient: None) -> None:
    """Every process is gone and the boot is another one: it is said, and the next run starts again."""
    device = sshd.device()

    def reboot() -> None:
        sshd.stop()
        for process in _agents(sshd, "serve") + _agents(sshd, "work"):
            process.kill()
        for path in (sshd.folder / "jobs").glob("*/state.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "an earlier one"}))
        sshd.start()

    with connect(device, agent=AGENT) as session:
        with pytest.raises(JobFailed, match="the device was rebooted while the job ran") as told:
            session.run(COUNT_JOB, LONG, _once(reboot, lambda event: progress_of(event) == 3), detached=True)
        assert "power" in told.value.fix
        assert not session.run(COUNT_JOB, LONG | {"pause_s": 0}, detached=True).found


# Disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_is_too_small(sshd: Sshd, small_disk: Path, tmp_path: Path) -> None:
    """An upload is refused before a byte is sent; a job that fills the disk can still say so; both leave room."""
    (tmp_path / "a").write_bytes(bytes(20_000_000))
    device = sshd.device(folder=str(small_disk / "work"))
    with connect(device, agent=AGENT) as session:
        sent = session.sent
        with pytest.raises(
            JobFailed, match=r"the disk of the work folder is full: .* MB more are needed, .* are free"
        ) as told:
            session.put(tmp_path / "a")
        assert told.value.kind == "disk" and "remote.folder" in told.value.fix and session.sent - sent < 500
        with pytest.raises(JobFailed, match="the disk of the work folder is full: the job could not write"):
            session.run(BREAK_JOB, {"how": "fill"}, detached=True)
        assert session.run(COUNT_JOB, {"count": 1, "pause_s": 0}).result
    assert shutil.disk_usage(small_disk).free > 20_000_000


def test_no_room_for_the_agent(sshd: Sshd, small_disk: Path) -> None:
    """Not even that fits."""
    with (small_disk / "full").open("wb") as file:
        file.write(bytes(os.statvfs(small_disk).f_bavail * 4096))
    with (
        pytest.raises(DeviceFault, match=r"work folder .* cannot be used: No space left") as told,
        connect(sshd.device(folder=str(small_disk / "work"))),
    ):
        pass
    assert "free some space there" in told.value.fix


# The network


@pytest.fixture
def far_sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server in a network namespace of its own, whose link can be taken down."""
    name, place = f"figkd{os.getpid()}", tmp_path / "far"
    # Of this process: one that was killed leaves its own behind.
    net = f"10.{211 + os.getpid() // 256 % 40}.{os.getpid() % 256}"

    def ip(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", *words], capture_output=True, text=True)

    if (
        PROGRAM is None
        or shutil.which("ip") is None
        or os.getuid() != 0
        or ip("netns", "add", name).returncode != 0
    ):
        pytest.skip("no sshd, or no network namespaces here")
    try:
        here, there = f"fk{os.getpid()}a", f"fk{os.getpid()}b"
        for words in (
            f"link add {here} type veth peer name {there} netns {name}",
            f"addr add {net}.1/30 dev {here}",
            f"link set {here} up",
            f"-n {name} addr add {net}.2/30 dev {there}",
            f"-n {name} link set {there} up",
            f"-n {name} link set lo up",
        ):
            done = ip(*words.split())
            if done.returncode != 0:
                pytest.skip(f"ip {words}: {done.stderr.strip()}")
        place.mkdir()
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        server = make_sshd(place, f"{net}.2")
        server.start(("ip", "netns", "exec", name))
        server.link = lambda up: ip("-n", name, "link", "set", there, "up" if up else "down")  # type: ignore[attr-defined]
        yield server
        server.stop()
    finally:
        ip("link", "del", f"fk{os.getpid()}a")
        ip("netns", "del", name)


def test_the_link_goes_down_and_comes_back(far_sshd: Sshd) -> None:
    """Nobody says anything: silence is noticed at both ends, and the build is found again."""
    notes: list[str] = []
    link = far_sshd.link  # type: ignore[attr-defined]

    def pull() -> None:
        link(False)

    def note(text: str) -> None:
        notes.append(text)
        link(True)

    with connect(far_sshd.device(silence_s=2), agent=AGENT, note=note) as session:
        pulled = _once(pull, lambda event: progress_of(event) == 3)
        done = session.run(COUNT_JOB, {"count": 50, "pause_s": 0.1}, pulled, detached=True)
        assert done.result and "no answer for 2 s" in notes[0]
        session.release(done.job)
    _tidy(far_sshd)


def test_the_link_is_down(far_sshd: Sshd) -> None:
    """No answer is a message, after the time limit of the connection."""
    far_sshd.link(False)  # type: ignore[attr-defined]
    began = time.monotonic()
    with pytest.raises(DeviceFault, match="unreachable: no answer"), connect(far_sshd.device()):
        pass
    assert time.monotonic() - began < 100
