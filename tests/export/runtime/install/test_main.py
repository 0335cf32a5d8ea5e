"""The commands on a device: what they print, their exit codes, and that the device goes on alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from export.runtime.install.health import Heartbeat, beat
from export.runtime.install.site import this_machine
from tests.export.runtime.bundle.made import FILES, write_bundle

ROOT = Path(__file__).parents[4]
_CODE = "import sys; from export.runtime.install.main import main; sys.exit(main(sys.argv[1:]))"
_PASSES = b"print('self-test passed')\n"
_FAILS = b"print('image 3: label b instead of a')\nraise SystemExit(1)\n"
_HANGS = b"import time\ntime.sleep(60)\n"


@dataclass
class Board:
    """A device: the folder of its releases, and commands that run on it."""

    folder: Path

    @property
    def root(self) -> str:
        return str(self.folder / "root")

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _CODE, *words, "--root", self.root, "--unsigned"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def bundle(self, sequence: int, self_test: bytes = _PASSES) -> str:
        files = {**FILES, "run.pyz": self_test}
        return str(write_bundle(self.folder / f"bundle-{sequence}", files, sequence=sequence))

    def status(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.run("status", "--json")[1])
        return found

    def serves(self) -> str:
        return os.path.basename(os.readlink(os.path.join(self.root, "current")))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.fixture
def runtime(board: Board) -> Iterator[list[Heartbeat]]:
    """A runtime that serves whatever is linked, and beats; the test says how it goes: `[Heartbeat]` without ids."""
    how = [Heartbeat("serve", "", "", 0.0, 1000, 0)]
    machine, stopped = this_machine(), threading.Event()

    def go_on() -> None:
        while not stopped.wait(0.05):
            if os.path.lexists(os.path.join(board.root, "current")):
                beat(
                    board.root,
                    replace(how[0], release=board.serves(), boot_id=machine.boot_id, at=machine.now()),
                )

    thread = threading.Thread(target=go_on)
    thread.start()
    yield how
    stopped.set()
    thread.join()


def test_install_status_rollback_and_collection(board: Board) -> None:
    code, out, err = board.run("install", board.bundle(1))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("self-test passed in ") and lines[-1].startswith("committed: small ")
    assert board.run("install", board.bundle(1))[1].startswith("serves already: small ")
    assert board.run("install", board.bundle(2))[0] == 0
    code, out, _ = board.run("status")
    assert code == 0 and [line.split()[0] for line in out.splitlines()[1:]] == ["serves", "previous"]
    code, out, _ = board.run("rollback", "--json")
    assert (code, json.loads(out)["sequence"]) == (0, 1)
    assert board.run("gc", "--keep", "0")[1] == "1 releases removed\n"
    assert board.run("recover")[1].endswith("serves\n")
    assert board.status()["active"] == board.serves()


def test_refusals_and_their_exit_codes(board: Board) -> None:
    assert board.run("status")[0] == 4
    assert board.run("install", board.bundle(2))[0] == 0
    serves = board.serves()
    code, out, err = board.run("install", board.bundle(1), "--json")
    assert code == 6 and "sequence 1 of small is older than 2" in err and "fix: use `rollback`" in err
    assert "older" in json.loads(out)["error"]
    code, _, err = board.run("install", board.bundle(3, _FAILS))
    assert code == 1 and "error: the self-test failed: image 3: label b instead of a (exit code 1)" in err
    code, _, err = board.run("install", board.bundle(4, _HANGS), "--self-test-s", "0.5")
    assert code == 1 and "took longer than 0.5 s" in err
    Path(board.bundle(5), "labels.json").write_bytes(b"[]")
    assert board.run("install", str(board.folder / "bundle-5"))[0] == 6
    assert board.run("install", str(board.folder / "nowhere"))[0] == 6
    assert (
        board.run("install")[0] == board.run("rollback", "--to", "ffffffff")[0] == board.run("dance")[0] == 2
    )
    assert board.serves() == serves
    failed = board.status()["failed"]
    assert isinstance(failed, dict) and len(failed) == 2


@pytest.mark.parametrize(
    ("needs", "word"),
    [
        ({"architecture": "vax"}, "the engine is for vax, this machine is"),
        ({"l4t": "36.4.3"}, "the engine is for L4T 36.4.3, here is none"),
        ({"versions": {"numpy": "0.1"}}, "the engine is for numpy 0.1, here is"),
    ],
)
def test_an_engine_that_needs_what_the_device_lacks_is_refused_before_anything_is_linked(
    board: Board, needs: dict[str, object], word: str
) -> None:
    """A bundle from a USB stick: no host looked before. Its self-test would pass."""
    assert board.run("install", board.bundle(1))[0] == 0
    serves, before = board.serves(), sorted(os.listdir(os.path.join(board.root, "releases")))
    none = {"architecture": "", "compute_capability": [], "l4t": "", "versions": {}}
    files = {**FILES, "run.pyz": _PASSES}
    stick = write_bundle(board.folder / "stick", files, sequence=2, needs={**none, **needs})
    code, out, err = board.run("install", str(stick), "--json")
    assert code == 4 and word in err and "take the bundle that was made for this machine" in err
    assert word in json.loads(out)["error"]
    assert board.serves() == serves and board.status()["failed"] == {}
    assert sorted(os.listdir(os.path.join(board.root, "releases"))) == before
    assert not os.listdir(os.path.join(board.root, "staging"))


def test_of_several_engines_the_install_says_which_it_takes_and_why_not_the_others(board: Board) -> None:
    needs = {"architecture": "", "compute_capability": [], "l4t": "", "versions": {}, "cpu_features": []}
    engines = [
        {"name": name, "file": f"engine/{name}", "backend": "onnxruntime", "precision": "fp32", "threads": 0,
         "answers": "", "needs": {**needs, "architecture": machine}}
        for name, machine in (("orin", "vax"), ("cpu", ""))
    ]  # fmt: skip
    parts = {f"engine/{name}{end}": b"x" for name in ("orin", "cpu") for end in ("", ".json")}
    changes = {"format": 2, "counts": 1, "engines": engines, "engine": None, "needs": None}
    folder = write_bundle(board.folder / "two", {**FILES, **parts, "run.pyz": _PASSES}, **changes)
    code, out, err = board.run("install", str(folder))
    assert (code, err) == (0, "")
    assert "orin is for vax, this machine is" in out and "takes the engine cpu" in out
    engines[1]["needs"] = {**needs, "architecture": "pdp11"}
    folder = write_bundle(
        board.folder / "none", {**FILES, **parts, "run.pyz": _PASSES}, **{**changes, "sequence": 9}
    )
    code, _, err = board.run("install", str(folder))
    assert code == 4 and "none of the bundle's engines fits this machine: orin is for vax, " in err
    assert "cpu is for pdp11" in err


def test_trust_is_never_left_out_silently(board: Board) -> None:
    done = subprocess.run([sys.executable, "-c", _CODE, "status"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "whose signatures count is not known" in done.stderr


def test_a_folder_that_others_may_write_to_is_not_used(board: Board) -> None:
    Path(board.root).mkdir(mode=0o777)
    Path(board.root).chmod(0o777)
    code, _, err = board.run("install", board.bundle(1))
    assert code == 4 and "others may write" in err


def test_a_release_that_a_runtime_serves_well_is_committed(board: Board, runtime: list[Heartbeat]) -> None:
    board.run("install", board.bundle(1))
    time.sleep(0.5)
    code, out, _ = board.run("install", board.bundle(2), "--window", "1")
    assert code == 0 and "watched for 1 s in serve" in out
    assert board.run("status")[1].splitlines()[-1].endswith("1000 requests, 0 errors")


def test_a_release_that_fails_in_service_is_taken_back_within_two_seconds(
    board: Board, runtime: list[Heartbeat]
) -> None:
    board.run("install", board.bundle(1))
    old = board.serves()
    time.sleep(0.5)
    process = board.start("install", board.bundle(2), "--window", "30")
    _until(lambda: board.serves() != old)
    runtime[0] = replace(runtime[0], errors=500)
    begun = time.monotonic()
    _until(lambda: board.serves() == old)
    assert time.monotonic() - begun < 2
    assert "500 of 1000 requests failed in serve" in process.communicate(timeout=60)[1]
    assert process.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_stops_an_install_on_trial_gives_the_old_release_back(
    board: Board, runtime: list[Heartbeat], number: int
) -> None:
    board.run("install", board.bundle(1))
    old = board.serves()
    time.sleep(0.5)
    process = board.start("install", board.bundle(2), "--window", "30")
    _until(lambda: board.serves() != old)
    process.send_signal(number)
    process.communicate(timeout=60)
    if number == signal.SIGKILL:
        code, out, _ = board.run("recover")
        assert code == 0 and "the install was stopped while release" in out
    else:
        assert process.returncode == 130
    assert board.serves() == old and board.status()["trial"] is None


def test_a_lost_connection_stops_nothing(board: Board, runtime: list[Heartbeat]) -> None:
    """The terminal is gone (SIGHUP), and nobody reads what is printed: the device judges alone."""
    board.run("install", board.bundle(1))
    old = board.serves()
    time.sleep(0.5)
    process = board.start("install", board.bundle(2), "--window", "1")
    _until(lambda: board.serves() != old)
    assert process.stdout and process.stderr
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert board.status()["active"] == board.serves() != old


def test_two_installs_at_once(board: Board, runtime: list[Heartbeat]) -> None:
    board.run("install", board.bundle(1))
    old = board.serves()
    time.sleep(0.5)
    process = board.start("install", board.bundle(2), "--window", "300")
    _until(lambda: board.serves() != old)
    new = board.serves()
    code, _, err = board.run("install", board.bundle(3))
    assert code == 4 and "another install is at work" in err
    status = board.status()
    assert status["at_work"] is True and status["trial"] is not None and board.serves() == new
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130 and board.serves() == old


def _until(holds: object) -> None:
    end = time.monotonic() + 30
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)
