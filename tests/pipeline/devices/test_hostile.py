"""What a device may do to its host: nothing. Driven through a real sshd with a program that lies in Python's place."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import DeviceFault
from pipeline.devices import conversation
from pipeline.devices import session as session_module
from pipeline.devices.messages import Job
from pipeline.devices.session import connect
from tests.memory import growth
from tests.pipeline.devices.hostile import hostile_python
from tests.pipeline.devices.sshd import PROGRAM, Sshd, running_sshd

ANY: Job[dict[str, Any]] = Job("any", dict[str, Any])
ERROR = {"type": "error", "what": "x", "fix": "", "kind": "failed"}


def _ok(**words: Any) -> dict[str, Any]:
    return {"type": "ok", **words}


def _outcome(**words: Any) -> dict[str, Any]:
    return {"type": "outcome", "outcome": {"ok": True, "result": {}, "seconds": 0.1} | words}


def _hello(**words: Any) -> dict[str, Any]:
    honest = {"type": "hello", "protocol": 1, "python": "3.8", "node": "n", "boot_id": "b", "folder": "/f"}
    return honest | {"free": 1, "time": 1.0, "holder": None} | words


NESTED = {"raw": '{"type": "ok", "re": 1, "time": ' + "[" * 200_000 + "]" * 200_000 + "}\n"}
DIGITS = {"raw": '{"type": "ok", "re": 1, "time": ' + "9" * 10_000 + "}\n"}
NO_LINE, LINES, PONGS = {"endless": "x"}, {"endless": "x\n"}, {"slowly": '{"type": "pong"}\n'}
PATHS = ["/tmp/figkd-outside", "../../../figkd-outside", "..", "a/b", "C:\\x", "\0", "~/.ssh/authorized_keys"]

# What is said in the place of the honest answer to an operation. All of it: exit 5, the device named, nothing written.
LIES: dict[str, dict[str, Any]] = {
    "bootstrap: a list": {"ready": {"raw": "figkd-agent []\n"}},
    "bootstrap: {}": {"ready": {"raw": "figkd-agent {}\n"}},
    "bootstrap: not JSON": {"ready": {"raw": "figkd-agent {{{\n"}},
    "bootstrap: an error without words": {"ready": {"type": "error"}},
    "bootstrap: a folder that is a list": {"ready": {"type": "error", "what": "folder", "folder": []}},
    "bootstrap: without end": {"ready": NO_LINE},
    "bootstrap: lines without end": {"ready": LINES},
    "hello: a list": {"hello": []},
    "hello: {}": {"hello": {}},
    "hello: without folder": {"hello": {k: v for k, v in _hello().items() if k != "folder"}},
    "hello: time noon": {"hello": _hello(time="noon")},
    "hello: free is negative": {"hello": _hello(free=-1)},
    "hello: free is many": {"hello": _hello(free="many")},
    "hello: protocol is a list": {"hello": _hello(protocol=[1])},
    "hello: another protocol": {"hello": _hello(protocol=99)},
    "hello: a holder that is a number": {"hello": _hello(holder=7)},
    "hello: more than it has": {"hello": _hello(more=1)},
    "hello: NaN": {"hello": {"raw": '{"type": "hello", "protocol": NaN}\n'}},
    "introduce: time noon": {"introduce": _ok(time="noon")},
    "introduce: time null": {"introduce": _ok(time=None)},
    "introduce: infinite": {"introduce": {"raw": '{"type": "ok", "re": 1, "time": Infinity}\n'}},
    "introduce: without type": {"introduce": {"time": 1.0}},
    "introduce: a list": {"introduce": [1, 2]},
    "introduce: nesting": {"introduce": NESTED},
    "introduce: digits": {"introduce": DIGITS},
    "introduce: not UTF-8": {"introduce": {"raw": '{"type": "\xff\xfe"}\n'}},
    "introduce: no line": {"introduce": NO_LINE},
    "introduce: lines": {"introduce": {"endless": '{"type": "ok", "re": 77}\n'}},
    "introduce: pongs": {"introduce": PONGS},
    "introduce: an error that is a list": {"introduce": {"type": "error", "what": [], "fix": "", "kind": ""}},
    "introduce: an error without words": {"introduce": {"type": "error"}},
    "have: a word": {"have": _ok(have="yes", partial=0)},
    "have: negative": {"have": _ok(have=False, partial=-5)},
    "have: busy": {"have": {"type": "busy"}},
    "put: ok instead of go": {"put": _ok()},
    "put: busy with a list": {"put": {"type": "busy", "holder": [], "running": []}},
    "put: busy with numbers": {"put": {"type": "busy", "holder": {}, "running": [1, 2]}},
    "put: an answer without type": {"received": {}},
    "start: unknown state": {"start": _ok(state="flying", lost=None)},
    "start: lost is text": {"start": _ok(state="started", lost="yes")},
    "attach: an event that is a list": {"event": {"type": "event", "offset": 1, "event": [1]}},
    "attach: progress of words": {
        "event": {"type": "event", "offset": 1, "event": {"progress": ["a", 1, 2]}}
    },
    "attach: offset -1": {"event": {"type": "event", "offset": -1, "event": {}}},
    "attach: events for ever": {
        "event": {"endless": '{"type": "event", "re": 6, "offset": 1, "event": {}}\n'}
    },
    "attach: pongs for ever": {"event": PONGS},
    "attach: an outcome that is null": {"outcome": {"type": "outcome", "outcome": None}},
    "attach: an outcome without ok": {"outcome": {"type": "outcome", "outcome": {"result": {}}}},
    "attach: a result that is a list": {"outcome": _outcome(result=[])},
    "attach: seconds of words": {"outcome": _outcome(seconds="long")},
    "attach: a failure of numbers": {
        "outcome": {"type": "outcome", "outcome": {"ok": False, "what": 1, "fix": 2}}
    },
    "fetch: size -5": {"fetch": {"type": "file", "size": -5}},
    "fetch: size 10^15": {"fetch": {"type": "file", "size": 10**15}},
    "fetch: size 10^30": {"fetch": {"type": "file", "size": 10**30}},
    "fetch: size many": {"fetch": {"type": "file", "size": "many"}},
    "fetch: size 1.5": {"fetch": {"type": "file", "size": 1.5}},
    "fetch: one byte more than it may have": {"fetch": {"type": "file", "size": 1001}},
    "fetch: a digest that is a path": {"fetched": _ok(sha256="../../x")},
    "fetch: another digest": {"fetched": _ok(sha256="0" * 64)},
    "fetch: content of other length": {"content": {"raw": "tr"}},
    "list: entries a number": {"list": _ok(entries=3, jobs={}, holder=None)},
    "list: an entry without size": {"list": _ok(entries=[{"name": "x"}], jobs={}, holder=None)},
    "list: jobs a list": {"list": _ok(entries=[], jobs=[], holder=None)},
    "clean: left a word": {"clean": _ok(removed=1, left="all")},
    "clean: removed many": {"clean": _ok(removed="many", left=[])},
} | {f"fetch: names a path {path!r}": {"fetch": {"type": "file", "size": 4, "name": path}} for path in PATHS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One server for all."""
    if PROGRAM is None:
        pytest.skip("sshd is not installed (apt install openssh-server)")
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small bounds, so that what is bounded ends soon."""
    monkeypatch.setattr(session_module, "RETRY_PAUSES_S", (0.05, 0.05))
    monkeypatch.setattr(conversation, "ANSWER_S", 3.0)
    monkeypatch.setattr(session_module, "FACTS_S", 3.0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    """Smaller ones, for what ends with a fault in any case."""
    monkeypatch.setattr(conversation, "ANSWER_S", 1.0)


def _everything(server: Sshd, python: str, place: Path, job_s: float = 3.0) -> None:
    """What stages do with a device, one after the other."""
    (place / "mine").write_text("a file that is sent")
    with connect(server.device(python=python, job_s=job_s, silence_s=3)) as session:
        session.facts()
        session.put(place / "mine")
        done = session.run(ANY, {}, detached=True)
        session.fetch(done.job, "out.bin", place / "fetched", 1000)
        session.release(done.job)
        session.inventory()
        session.clean()


def test_the_honest_one_is_believed(server: Sshd, tmp_path: Path, impatient: None) -> None:
    """So that the tests below fail for their lie, and not for anything else."""
    _everything(server, hostile_python(tmp_path / "python3", {}), tmp_path)
    assert (tmp_path / "fetched").read_text() == "true"


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lie_is_refused(server: Sshd, tmp_path: Path, hasty: None, lie: str) -> None:
    """Exit 5 with the device's name, in bounded time and memory, and no file but the one that was ours."""
    python = hostile_python(tmp_path / "python3", LIES[lie])
    began = time.monotonic()
    with growth() as taken, pytest.raises(DeviceFault) as told:
        _everything(server, python, tmp_path, job_s=1.0)
    assert told.value.exit_code == 5 and told.value.what.startswith("figkd-test: ") and told.value.fix
    assert "unexpected" not in told.value.what and len(told.value.what) < 400
    assert {p.name for p in tmp_path.iterdir()} <= {"python3", "mine", "fetched"}
    assert not Path("/tmp/figkd-outside").exists()
    assert time.monotonic() - began < 60
    assert taken.bytes < 300e6


def test_a_byte_and_a_break_for_ever(server: Sshd, tmp_path: Path, impatient: None) -> None:
    """A connection that gets nowhere does not start the count of failures again."""
    path = tmp_path / "python3"
    python = hostile_python(path, {"content": {"raw": "t"}})
    path.write_text(path.read_text().replace('say("fetched", number)', "sys.exit(0)"))
    with pytest.raises(DeviceFault, match=r"the connection was lost in fetching out\.bin"):
        _everything(server, python, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"python3", "mine"}


def test_errors_without_end(server: Sshd, tmp_path: Path, impatient: None) -> None:
    """What it writes on stderr fills neither the disk nor memory, and the end of it is not waited for."""
    python = hostile_python(tmp_path / "python3", {})
    path = tmp_path / "python3"
    path.write_text(
        path.read_text().replace("next(lines)", "next(lines)\nwhile True: os.write(2, b'e' * 65536)")
    )
    with pytest.raises(DeviceFault) as told:
        _everything(server, python, tmp_path)
    assert told.value.exit_code == 5


def test_what_is_sent_is_the_file(server: Sshd, tmp_path: Path, impatient: None) -> None:
    """The digest of the test's own constant, so that the honest program is honest."""
    from tests.pipeline.devices import hostile

    assert hashlib.sha256(b"true").hexdigest() == hostile._TRUE
