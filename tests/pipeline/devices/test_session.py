"""Sessions, with the agent as a process of this machine: files by digest, jobs, what is left behind."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault
from pipeline.devices import channel
from pipeline.devices.conversation import Conversation
from pipeline.devices.faults import JobFailed
from pipeline.devices.messages import Event, Job
from pipeline.devices.session import Session, connect
from tests.pipeline.devices.jobs import BREAK_JOB, COUNT_JOB, agent_for_tests, progress_of

QUICK = {"count": 3, "pause_s": 0.0}


def _files(folder: str) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file()}


def test_a_job_runs_reports_and_its_file_comes_back(local_device: Device, tmp_path: Path) -> None:
    """Events come in order, the result is the job's, an output file is the same byte for byte."""
    events: list[Event] = []
    with connect(local_device, agent=agent_for_tests()) as session:
        done = session.run(COUNT_JOB, QUICK | {"bytes": 3_000_000}, events.append)
        assert done.result == {"asked": QUICK | {"bytes": 3_000_000}} and not done.found
        assert [progress_of(event) for event in events] == [0, 1, 2]
        got = session.fetch(done.job, "out.bin", tmp_path / "deep/out.bin", 1 << 24)
        assert got.read_bytes() == b"x" * 3_000_000
        with pytest.raises(JobFailed, match="left no file 'none'"):
            session.fetch(done.job, "none", tmp_path / "none", 1 << 24)
        with pytest.raises(JobFailed, match="outside the job's folder"):
            session.fetch(done.job, "../../lock", tmp_path / "lock", 1 << 24)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "work"]


def test_a_file_is_sent_once(local_device: Device, tmp_path: Path) -> None:
    """By content: another name costs nothing, and a second session neither."""
    content = os.urandom(2_000_000)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(content)
    with connect(local_device) as session:
        digest = session.put(tmp_path / "a")
        assert digest == hashlib.sha256(content).hexdigest()
        assert (Path(local_device.folder) / "blobs" / digest).read_bytes() == content
        sent = session.sent
        assert sent > len(content)
        session.put(tmp_path / "b")
        assert session.sent - sent < 200
    with connect(local_device) as session:
        session.put(tmp_path / "a")
        assert session.sent < 5000


@pytest.mark.parametrize("where", ["before the device says go", "between the pieces"])
def test_a_host_that_pauses_puts_no_ping_into_a_file(
    local_device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A slow disk or a loaded machine, here or there: signs of life are not taken for bytes of the file."""
    monkeypatch.setattr(channel, "_PINGS", 1000)
    say = Conversation.say

    def pausing(conversation: Conversation, operation: str, **words: Any) -> None:
        say(conversation, operation, **words)
        if operation == "put" and where.startswith("before"):
            time.sleep(0.2)

    monkeypatch.setattr(Conversation, "say", pausing)
    pause = 0.2 if where.startswith("between") else 0.0
    (tmp_path / "a").write_bytes(os.urandom(600_000))
    with connect(local_device) as session:
        digest = session.put(tmp_path / "a", lambda done, total: time.sleep(pause))
        assert session.sent < 1_100_000, "sent once"
        assert (Path(local_device.folder) / "blobs" / digest).stat().st_size == 600_000
        after = session.sent
        time.sleep(0.2)
        assert session.sent > after, "signs of life go on"


def test_an_upload_goes_on_where_it_stopped(local_device: Device, tmp_path: Path) -> None:
    """What came before a cut is kept, and only the rest is sent; a damaged part is noticed and sent again."""
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    blobs = Path(local_device.folder) / "blobs"
    with connect(local_device):
        pass
    (blobs / f"{digest}.part").write_bytes(content[:2_000_000])
    with connect(local_device) as session:
        session.put(tmp_path / "a")
        assert session.sent < 1_100_000
    (blobs / digest).unlink()
    (blobs / f"{digest}.part").write_bytes(bytes(2_000_000))
    with connect(local_device) as session:
        session.put(tmp_path / "a")
    assert (blobs / digest).read_bytes() == content


def test_what_a_run_leaves_behind(local_device: Device, tmp_path: Path) -> None:
    """The agent, the files within the limit, the lock; no job, no part. Cleaning leaves nothing at all."""
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(os.urandom(700_000))
    limited = replace(local_device, keep_mb=1)
    with connect(limited, agent=agent_for_tests()) as session:
        session.put(tmp_path / "old")
        time.sleep(0.02)
        new = session.put(tmp_path / "new")
        session.run(COUNT_JOB, QUICK)
        session.release(session.run(COUNT_JOB, QUICK, detached=True).job)
    kept = _files(local_device.folder)
    assert {name for name in kept if not name.startswith("agent/")} == {
        ".figkd-device",
        "lock",
        "lock.json",
        f"blobs/{new}",
    }
    (Path(local_device.folder) / "mine.txt").write_text("not the agent's")
    with connect(limited) as session:
        assert session.inventory().entries[-1].name == f"blobs/{new}"
        assert session.clean().left == ["mine.txt"]
    assert _files(local_device.folder) == {"mine.txt", ".figkd-device"}


def test_a_detached_job_is_found_by_what_it_was_asked(local_device: Device) -> None:
    """The same request finds the outcome, another one runs; released, it is made again."""
    agent = agent_for_tests()
    with connect(local_device, agent=agent) as session:
        first = session.run(COUNT_JOB, QUICK, detached=True)
    with connect(local_device, agent=agent) as session:
        again = session.run(COUNT_JOB, QUICK, detached=True)
        assert again.found and again.job == first.job and again.result == first.result
        assert not session.run(COUNT_JOB, QUICK | {"count": 1}, detached=True).found
        session.release(first.job)
        assert not session.run(COUNT_JOB, QUICK, detached=True).found


def test_failures_of_a_job_are_told(local_device: Device) -> None:
    """A job's own words, a defect, a process that was killed: each with its kind, and the end of the log."""
    with connect(local_device, agent=agent_for_tests()) as session:
        with pytest.raises(JobFailed, match="another GPU") as told:
            session.run(BREAK_JOB, {"how": "error"})
        assert told.value.kind == "missing" and told.value.fix == "build it here"
        assert told.value.log == "what the log says\n"
        with pytest.raises(JobFailed, match="unexpected KeyError: 'nothing'") as defect:
            session.run(BREAK_JOB, {"how": "defect"})
        assert "Traceback" in defect.value.log
        with pytest.raises(JobFailed, match=r"the job was killed \(137: usually out of memory\)") as killed:
            session.run(BREAK_JOB, {"how": "killed"})
        assert "swap" in killed.value.fix
        with pytest.raises(JobFailed, match="this agent has no job 'nonsense'"):
            session.run(Job("nonsense", dict[str, Any]), {})


def test_a_job_that_takes_too_long(local_device: Device) -> None:
    """It is given up, and ended there."""
    with connect(replace(local_device, silence_s=2), agent=agent_for_tests()) as session:
        with pytest.raises(JobFailed, match="did not end in time"):
            session.run(COUNT_JOB, {"count": 1, "pause_s": 60}, limit_s=0.5, detached=True)
        assert not list((Path(local_device.folder) / "jobs").iterdir())
        assert session.run(COUNT_JOB, QUICK).result


def test_a_second_host_waits_or_is_told(local_device: Device) -> None:
    """While one works there, another gets one message that says who and for how long; when it is free, it goes on."""
    agent, notes = agent_for_tests(), []
    with connect(local_device, agent=agent) as first:
        first.run(COUNT_JOB, QUICK)
        with connect(replace(local_device, wait_s=0.2), agent=agent, note=notes.append) as second:
            second.facts()
            with pytest.raises(DeviceFault, match=r"busy: .*@.* works there for 0 min") as busy:
                second.run(COUNT_JOB, QUICK)
            assert "clean local --force" in busy.value.fix and len(notes) == 1
        waiting = threading.Timer(1.0, first.close)
        with connect(local_device, agent=agent) as second:
            waiting.start()
            assert second.run(COUNT_JOB, QUICK).result
        waiting.join()


def test_a_lock_of_the_dead_holds_nobody(local_device: Device) -> None:
    """After a reboot or a kill only the text is left of it: the kernel's lock went with its processes."""
    folder = Path(local_device.folder)
    with connect(local_device):
        pass
    (folder / "lock").touch()
    (folder / "lock.json").write_text('{"session": "x", "host": "gone", "user": "u", "pid": 1, "since": 0}')
    with connect(replace(local_device, wait_s=0), agent=agent_for_tests()) as session:
        assert session.hello.holder is None
        session.run(COUNT_JOB, QUICK)


def test_the_agent_speaks_another_version(local_device: Device) -> None:
    """One clear message."""
    from tests.pipeline.devices.jobs import AGENT, archive

    sources = {p.relative_to(AGENT).as_posix(): p.read_text() for p in AGENT.rglob("*.py")}
    sources["wire.py"] = sources["wire.py"].replace("PROTOCOL = 1", "PROTOCOL = 99")
    session = Session(local_device, archive(sources), lambda text: None)
    with pytest.raises(DeviceFault, match="speaks version 99 of the protocol, this program 1"):
        session.open()
