"""Ctrl-C while a bundle is shipped: whatever devices are doing, each ends with a verified release."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from export.runtime.bundle import UNSIGNED
from export.runtime.install.site import is_locked
from pipeline.cli.entry import execute
from pipeline.core.address import Device
from pipeline.devices.session import Session, connect
from pipeline.shipping.bundle import local_bundle
from pipeline.shipping.rollout import roll_out
from pipeline.shipping.ship import Shipped, There, ship, status
from tests.pipeline.shipping.made import bundle_at

SELF_TEST = """import os, time
    place = os.path.abspath(os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "../../../.."))
    number = sum(name.startswith("began") for name in os.listdir(place))
    open(place + "/began%d" % number, "w").close()
    if os.path.exists(place + "/STOP%d" % number):
        time.sleep(300)"""
"""The n-th run leaves the file `beganN`, and hangs where there is `STOPN`: 0 is before the switch, 1 in the trial."""


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    """A test that runs in the background of a shell may ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _interrupt_once(happened: Callable[[], bool]) -> None:
    def watch() -> None:
        end = time.monotonic() + 60
        while not happened() and time.monotonic() < end:
            time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def _devices(tmp_path: Path, count: int) -> list[Device]:
    found = []
    for n in range(count):
        (tmp_path / f"cam{n}").mkdir(exist_ok=True)
        found.append(
            Device("local", folder=str(tmp_path / f"cam{n}/work"), python=sys.executable, silence_s=5)
        )
    return found


def _there(device: Device) -> There:
    return There(str(Path(device.folder).parent / "releases"), ("--unsigned",), ("--window", "0"))


def _work(path: Path) -> Callable[[Device], Shipped]:
    def work(device: Device) -> Shipped:
        with connect(device) as session, local_bundle(path, UNSIGNED) as bundle:
            return ship(session, [bundle], _there(device), lambda text: None)

    return work


@pytest.mark.parametrize("step", [0, 1])
def test_while_the_device_tests_or_watches(tmp_path: Path, step: int) -> None:
    devices = _devices(tmp_path, 2)
    old = roll_out(devices, _work(bundle_at(tmp_path / "b1", 1)))[0].result
    assert old is not None
    for n in range(2):
        (tmp_path / f"cam{n}/STOP{step}").touch()
    new = bundle_at(tmp_path / "b2", 2, SELF_TEST)
    _interrupt_once(lambda: all((tmp_path / f"cam{n}/began{step}").exists() for n in range(2)))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        roll_out(devices, _work(new))
    assert time.monotonic() - began < 200
    for device in devices:
        with connect(device) as session:
            found = status(session, _there(device))
        assert (found.serves, found.trial, found.at_work) == (old.id, None, False)
        root = Path(_there(device).root)
        assert os.path.basename(os.readlink(root / "current")) == old.id
        assert not list((root / "staging").iterdir()) and not is_locked(str(root))
    for n in range(2):
        (tmp_path / f"cam{n}/STOP{step}").unlink()
    assert all(one.is_good for one in roll_out(devices, _work(new))), "the same command goes on"


def test_while_a_file_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes that are there stay there; a device that is not connected yet is left alone."""
    devices = _devices(tmp_path, 3)
    path = bundle_at(tmp_path / "b1", 1, engine=os.urandom(3_000_000))
    sending = threading.Event()
    original = Session.put

    def slow(session: Session, file: Path, *more: object) -> str:
        def progress(done: int, total: int) -> None:
            if total > 1_000_000 and done:
                sending.set()
                time.sleep(0.2)

        return original(session, file, progress)

    monkeypatch.setattr(Session, "put", slow)
    monkeypatch.setattr("pipeline.devices.transfer.CHUNK", 4096)
    _interrupt_once(sending.is_set)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        roll_out(devices, _work(path), parallel=1)
    assert time.monotonic() - began < 100
    assert not (tmp_path / "cam0/releases/current").is_symlink()
    assert not (tmp_path / "cam2/work").exists()


def test_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (device,) = _devices(tmp_path, 1)
    (tmp_path / "cam0/STOP0").touch()
    monkeypatch.setattr("pipeline.devices.housekeeping.named_device", lambda name, config: device)
    path = bundle_at(tmp_path / "b1", 1, SELF_TEST)
    _interrupt_once(lambda: (tmp_path / "cam0/began0").exists())
    code = execute(["ship", str(path), "cam1", "--unsigned", "--root", _there(device).root])
    assert code == 130
    assert "interrupted: what served before is put back" in capsys.readouterr().err
