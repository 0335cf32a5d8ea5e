"""The pipeline while its device's connection is cut, its server gone, or the user impatient; two devices at once."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.pipeline.conftest import FONTS, TINY, command, environment, sets
from tests.pipeline.devices.sshd import Sshd, running_sshd
from tests.pipeline.devices.test_end_to_end import OnDevice, on_device, target  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow


def _when_it_runs(job: str, server: Sshd, action: Callable[[], object]) -> threading.Thread:
    """Do something as soon as a job of that name is on the device."""

    def watch() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if list((server.folder / "jobs").glob(f"{job}-*/alive")):
                action()
                return
            time.sleep(0.002)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def _nothing_runs(server: Sshd) -> bool:
    return not any(
        str(server.folder) in word
        for process in psutil.process_iter(["cmdline"])
        for word in process.info["cmdline"] or []
    )


@pytest.mark.parametrize(("stage", "job"), [("build", "build"), ("validate", "infer"), ("benchmark", "time")])
def test_cut_in_every_stage(on_device: OnDevice, stage: str, job: str) -> None:  # noqa: F811
    """The stage ends as if nothing had been; nothing is left of its jobs."""
    thread = _when_it_runs(job, on_device.server, on_device.server.cut)
    done = on_device.figkd("run", "--force", stage)
    thread.join()
    assert done.code == 0, done.err
    assert "connecting again" in done.err
    assert not list((on_device.server.folder / "jobs").iterdir())


def test_the_server_dies_in_the_measurement_and_the_next_run_goes_on(on_device: OnDevice) -> None:  # noqa: F811
    """Exit 5 with one message; when it is back, the same command ends well and takes what went on meanwhile."""
    thread = _when_it_runs("time", on_device.server, on_device.server.stop)
    done = on_device.figkd("run", "--force", "benchmark")
    thread.join()
    assert done.code == 5 and done.err.count("could not be made again") == 1, done.err
    assert "benchmark@cpu: figkd-test: the connection was lost" in done.err
    assert "run again: what was done is kept" in done.err
    on_device.server.start()
    again = on_device.figkd("run", "--force", "benchmark")
    assert again.code == 0, again.err
    assert not list((on_device.server.folder / "jobs").iterdir())


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Sshd]:
    """Another device."""
    place = tmp_path / "second"
    place.mkdir()
    with running_sshd(place) as server:
        yield server


@pytest.mark.parametrize("devices", [1, 2])
def test_interrupted_ends_the_jobs_on_devices(on_device: OnDevice, second: Sshd, devices: int) -> None:  # noqa: F811
    """Ctrl-C: exit 130, and no device is busy with what nobody wants."""
    keys = TINY | {
        "targets.rtx": "null", "targets.cpu": target(on_device.server), "budgets.engine_mb": "null",
        "benchmark.min_seconds": 8, "benchmark.max_seconds": 9,
    }  # fmt: skip
    servers = [on_device.server, second][:devices]
    if devices == 2:
        (second.place / "ssh_config").write_text(
            (second.place / "ssh_config").read_text().replace("figkd-test", "other")
        )
        keys["targets.other"] = target(second).replace("ssh://figkd-test", "ssh://other")
    process = subprocess.Popen(
        command("run", FONTS, *sets(keys)),
        cwd=on_device.folder,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore Ctrl-C
    )
    for thread in [_when_it_runs("time", server, lambda: None) for server in servers]:
        thread.join()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    for server in servers:
        deadline = time.monotonic() + 60
        while not _nothing_runs(server) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert _nothing_runs(server)
        assert not list((server.folder / "jobs").iterdir())


def test_a_device_that_is_switched_off_keeps_its_results(on_device: OnDevice) -> None:  # noqa: F811
    """What was made there is found by what it was: plan, report and a run with nothing to do still work."""
    server = on_device.server
    assert on_device.figkd("run").code == 0
    server.stop()
    try:
        done = on_device.figkd("run")
        assert done.code == 0 and "taken as it was on" in done.err, done.err
        assert {row["state"] for row in on_device.figkd("plan", "--json").json} == {"cached"}
        forced = on_device.figkd("run", "--force", "validate")
        assert forced.code == 5 and "targets.cpu.device: figkd-test: unreachable" in forced.err
    finally:
        server.start()


def test_two_devices_at_once(on_device: OnDevice, second: Sshd, tmp_path: Path) -> None:  # noqa: F811
    """Both work at the same time, each with its rows; a third that is off fails alone, and the exit code is 5."""
    config = (second.place / "ssh_config").read_text().replace("figkd-test", "other")
    (second.place / "ssh_config").write_text(config + "\nHost nobody\n  HostName 127.0.0.1\n  Port 1\n")
    other = target(second).replace("ssh://figkd-test", "ssh://other")
    targets = {
        "targets.other": other,
        "targets.gone": other.replace("ssh://other", "ssh://nobody"),
        "output": tmp_path / "out",
    }
    done = on_device.figkd("run", "--json", "--force", "build", "--force", "benchmark", **targets)
    assert done.code == 5, done.err
    assert {(e["target"], e["state"]) for e in done.json["engines"]} == {("cpu", "ran"), ("other", "ran")}
    assert set(done.json["failures"]) == {"build@gone"}
    started = {step: done.err.index(f"...  {step}") for step in ("build@cpu", "build@other")}
    finished = {step: done.err.index(f"done   {step}") for step in started}
    assert max(started.values()) < min(finished.values()), done.err
    assert "targets.gone: nobody: unreachable" in done.err and "the other targets go on" in done.err


def test_what_a_second_run_sends(on_device: OnDevice, tmp_path: Path) -> None:  # noqa: F811
    """Measured on the wire, the protocol's own bytes included: questions, and no files."""
    server, fresh = on_device.server, tmp_path / "run"
    shutil.copytree(on_device.folder / ".figkd", fresh / ".figkd")
    shutil.rmtree(server.folder)
    first, second = (
        on_device.figkd("run", *(w for s in ("build", "validate", "benchmark") for w in ("--force", s)))
        for _ in range(2)
    )
    assert first.code == second.code == 0, first.err + second.err
    sent = [
        sum(float(m) for m in re.findall(r"figkd-test: ([\d.]+) MB sent", d.err)) for d in (first, second)
    ]
    assert sent[0] > 0.4 and sent[1] < 0.15 * sent[0], sent
