"""Protects: what an install lets serve is taken up without losing a request, and an install hears how it goes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export.runtime.bundle.errors import BundleRefused, CannotRun
from export.runtime.install.health import Rules, fault, heartbeats
from export.runtime.install.primitive import install, rollback
from export.runtime.install.site import locked, prepare
from export.runtime.install.source import FolderSource
from export.runtime.install.state import Trial
from export.runtime.serve.releases import RETRY_S, Counts, Follower
from tests.export.bundle.tiny import bundle
from tests.export.runtime.install.made import bundle_at, fine, site_at
from tests.export.runtime.serve.made import ask, process
from tests.pipeline.devices.tiny import images

ROOT = Path(__file__).parents[4]


class Runtime:
    """A follower of real releases with a loader that does what the test wants, a step at a time."""

    def __init__(self, folder: Path) -> None:
        self.site = site_at(folder / "root")
        self.folder, self.clock = folder, 100.0
        self.site = replace(self.site, machine=replace(self.site.machine, now=lambda: self.clock))
        prepare(self.site)
        self.bad: dict[str, Exception] = {}
        self.serves, self.loads = "", [0]
        self.said: list[str] = []
        self.refusals: list[int] = []
        self.is_stuck = False
        self.follower = Follower(
            self.site, "serve-1", self.load, self.swap, lambda: self.refusals.append(1),
            lambda: Counts(self.serves, 60, 0, 2.5, self.is_stuck), self.said.append,
        )  # fmt: skip

    def load(self, folder: str) -> Any:
        self.loads[0] += 1
        id = Path(folder).parent.name
        if id in self.bad:
            raise self.bad[id]
        return SimpleNamespace(release=id, signature=SimpleNamespace(name="small"))

    def swap(self, served: Any) -> None:
        self.serves = served.release

    def install(self, sequence: int) -> str:
        folder = bundle_at(self.folder / f"b{sequence}", sequence)
        with locked(self.site.root):
            return install(self.site, FolderSource(folder, self.site.disk), fine, fine, 60).release.id

    def beat(self) -> Any:
        self.follower.beat()
        (found,) = heartbeats(self.site, 5)
        return found


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def test_it_begins_with_what_is_installed_and_follows(runtime: Runtime) -> None:
    assert runtime.follower.first() is None and "no release here" in runtime.said[0]
    first = runtime.install(1)
    runtime.follower.look()
    assert runtime.serves == first
    second = runtime.install(2)
    runtime.follower.look()
    assert runtime.serves == second
    runtime.follower.look()
    assert runtime.loads == [2]
    with locked(runtime.site.root):
        rollback(runtime.site)
    runtime.follower.look()
    assert runtime.serves == first
    again = Runtime(runtime.folder)
    served = again.follower.first()
    assert served is not None and served.release == first


def test_heartbeats_say_what_serves(runtime: Runtime) -> None:
    first = runtime.install(1)
    runtime.follower.look()
    found = runtime.beat()
    assert (found.name, found.release, found.requests, found.p99_ms) == ("serve-1", first, 60, 2.5)
    assert fault(Rules(), first, ["serve-1"], [found], 30.0) == ""
    runtime.is_stuck = True
    runtime.clock += 6
    runtime.follower.beat()
    assert heartbeats(runtime.site, 5) == []
    assert "no sign of life" in fault(Rules(), first, ["serve-1"], [], 6.0)


def test_a_release_that_cannot_be_loaded_is_left_out_and_the_install_hears_why(runtime: Runtime) -> None:
    first = runtime.install(1)
    runtime.follower.look()
    second = runtime.install(2)
    for error in (BundleRefused("its digest differs"), CannotRun("no GPU"), MemoryError(), OSError("disk")):
        runtime.bad[second] = error
        runtime.clock += RETRY_S + 1
        runtime.follower.look()
        assert runtime.serves == first
    assert f"release {first[:12]} goes on" in runtime.said[-1]
    assert len(runtime.refusals) == 4
    found = runtime.beat()
    assert (found.release, found.refused, found.reason) == (first, second, "disk")
    assert "could not load it: disk" in fault(Rules(), second, ["serve-1"], [found], 0.5)
    loads = runtime.loads[0]
    runtime.follower.look()
    assert runtime.loads == [loads], "it is not tried twice a second"
    with locked(runtime.site.root):
        rollback(runtime.site)
    runtime.follower.look()
    assert runtime.beat().refused == ""


def test_a_release_on_trial_serves_only_while_its_install_is_at_work(runtime: Runtime) -> None:
    first = runtime.install(1)
    runtime.follower.look()
    tried: list[str] = []

    def watch(id: str) -> None:
        runtime.follower.look()
        tried.append(runtime.serves)
        raise KeyboardInterrupt

    folder = bundle_at(runtime.folder / "b2", 2)
    with locked(runtime.site.root), pytest.raises(KeyboardInterrupt):
        install(runtime.site, FolderSource(folder, runtime.site.disk), fine, watch, 60)
    assert tried != [first]
    runtime.follower.look()
    assert runtime.serves == first


def test_what_cannot_be_read_changes_nothing(runtime: Runtime) -> None:
    first = runtime.install(1)
    runtime.follower.look()
    Path(runtime.site.root, "state.json").write_bytes(b"{")
    runtime.follower.look()
    assert runtime.serves == first and runtime.loads == [1]


def test_to_look_does_not_hold_the_lock(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """An install that begins at this very instant would find it held; only a trial is a reason to look."""
    runtime.install(1)
    looked: list[str] = []
    monkeypatch.setattr("export.runtime.install.choice.is_locked", lambda root: bool(looked.append(root)))
    runtime.follower.look()
    assert looked == []
    from export.runtime.install.site import load, save

    save(runtime.site, replace(load(runtime.site), trial=Trial("0" * 64, "one", 1e9)))
    runtime.follower.look()
    assert looked == [runtime.site.root]


def _command(program: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(program), *map(str, words)], cwd="/", capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
def test_no_request_is_lost_while_releases_change(tmp_path: Path) -> None:
    """10,000 requests of four clients while five releases are installed and one is rolled back."""
    bundles = [bundle(tmp_path / str(n), sequence=n) for n in range(1, 6)]
    root, program = tmp_path / "root", tmp_path / "root/current/bundle/run.pyz"
    common = ("--root", root, "--unsigned")
    done = _command(bundles[0] / "run.pyz", "install", bundles[0], *common)
    assert done.returncode == 0, done.stderr
    data = images(2).tobytes()
    answers: list[tuple[int, str]] = []
    failures: list[str] = []
    ended = threading.Event()

    def client(port: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        while not ended.is_set() or len(answers) < 10_000:
            try:
                connection.request(
                    "POST", "/v2/models/tiny/infer", data, {"Inference-Header-Content-Length": "0"}
                )
                response = connection.getresponse()
                body = response.read()
                length = int(response.headers["Inference-Header-Content-Length"])
                answers.append((response.status, json.loads(body[:length])["model_version"]))
                assert len(body) - length == 2 * 5 * 4
            except Exception as error:
                failures.append(repr(error))
                connection.close()
            time.sleep(0.002)

    with process(*common, program=program) as (running, port):
        clients = [threading.Thread(target=client, args=(port,)) for _ in range(4)]
        for thread in clients:
            thread.start()
        codes = []
        try:
            for folder in bundles[1:]:
                done = _command(program, "install", folder, *common, "--window", "1")
                assert "watched for 1 s in serve-" in done.stdout, done.stderr
                codes.append(done.returncode)
            codes.append(_command(program, "rollback", *common).returncode)
            _until(lambda: ask(port, "GET", "/v2/models/tiny")[1]["versions"] == ["4"])
        finally:
            ended.set()
            for thread in clients:
                thread.join(300)
        assert codes == [0] * 5
        assert failures == []
        assert len(answers) >= 10_000 and {status for status, _ in answers} == {200}
        assert {version for _, version in answers} == {"1", "2", "3", "4", "5"}
        running.terminate()
        assert running.wait(20) == 0


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
