"""What is said of devices before a run, and the commands that look after them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pipeline.devices.session import connect
from pipeline.run.device_check import Look, _connection, judge
from tests.pipeline.conftest import FONTS, figkd, sets
from tests.pipeline.devices.jobs import agent_for_tests
from tests.pipeline.devices.sshd import Sshd

ORIN: dict[str, Any] = {
    "machine": "aarch64",
    "board": "NVIDIA Jetson Orin Nano",
    "os": "Ubuntu 22.04.5 LTS",
    "release": "5.15.148-tegra",
    "l4t": "36.4.3",
    "jetpack": "6.2",
    "cpu": "ARM part 0xd42",
    "cores": 6,
    "gpu": "Orin",
    "compute_capability": "SM87",
    "cuda": "12.6.68",
    "memory_mb": 7620,
    "memory_free_mb": {"available": 640, "swap_free": 0},
    "power_mode": {"name": "15W", "id": 0, "available": ["15W", "25W", "MAXN_SUPER"]},
    "clocks": {"gpu": {"mhz": 306, "max_mhz": 612, "governor": "nvhost_podgov"}},
    "readings": {"temperatures": {"cpu": 51.0, "tj": 81.5}, "throttling": {"state gpu-throttle-alert": 1.0}},
    "gpu_users": ["gnome-shell"],
}


def _targets(sshd: Sshd) -> dict[str, Any]:
    remote = f"{{ssh_config: {sshd.config}, folder: {sshd.folder}, python: {sys.executable}}}"
    return {"targets.cpu.device": sshd.url, "targets.cpu.remote": remote}


def test_what_an_orin_has_and_lacks() -> None:
    """Each with what was found, what is wanted, and what to do."""
    found = {finding.what: finding for finding in judge(ORIN)}
    assert found["JetPack"].found == "6.2, L4T 36.4.3"
    assert found["GPU"].found == "Orin, SM87"
    assert (
        found["memory"].state == "absent"
        and found["memory"].found == "640 of 7,620 MiB free, 0 MiB of swap on disk"
    )
    assert "desktop" in found["memory"].fix and found["memory"].wanted == "1,000 MiB free"
    assert found["power mode"].found == "15W" and "25W" in found["power mode"].wanted
    assert found["GPU clock"].found == "306 MHz of 612 MHz, governor nvhost_podgov"
    assert found["temperature"].state == "absent" and found["temperature"].found.startswith("82 °C (tj")
    assert found["throttling"].found == "gpu-throttle-alert"
    assert found["GPU users"].found == "gnome-shell"


def test_a_plain_machine_is_told_nothing_about_jetpack() -> None:
    """What is not there is not a fault."""
    found = {finding.what for finding in judge({"machine": "x86_64", "release": "6.1", "cores": 4})}
    assert found == {"system", "CPU"}


def test_a_wrong_clock_and_a_full_disk() -> None:
    """A clock that is off is worth knowing and no fault; a disk that holds nothing is one."""
    look = Look(
        latency_s=0.012, skew_s=-86400.0, folder="/data/x", free=10_000_000, holder="me@host works there"
    )
    found = {finding.what: finding for finding in _connection(look, {"python": "3.10.12"})}
    assert found["clock"].state == "absent" and found["clock"].found == "-86400.0 s from this machine's"
    assert found["work folder"].state == "fault" and "remote.folder" in found["work folder"].fix
    assert found["lock"].state == "absent" and found["connection"].found == "ssh, 12 ms round trip"


def test_doctor_looks_at_devices(sshd: Sshd, tmp_path: Path) -> None:
    """One group of rows a device; one that cannot be reached is exit 5, and says what is wanted."""
    done = figkd("doctor", FONTS, "--json", *sets(_targets(sshd)), cwd=tmp_path)
    rows = {row["what"]: row for row in done.json if row["device"] == "figkd-test"}
    assert {"connection", "Python", "work folder", "lock", "clock", "system", "CPU"} <= set(rows), done.err
    assert rows["onnxruntime for cpu"]["state"] == "ok"
    assert rows["lock"]["found"] == "free" and rows["clock"]["state"] == "ok"
    assert str(sshd.folder) in rows["work folder"]["found"]
    sshd.stop()
    done = figkd("doctor", FONTS, *sets(_targets(sshd)), cwd=tmp_path)
    assert done.code == 5 and "\nfigkd-test\n!!  connection" in done.out
    assert "wanted: ssh without questions" in done.out and "fix: is its ssh server running" in done.out


def test_device_show_and_clean(sshd: Sshd, tmp_path: Path) -> None:
    """What was left is listed; cleaning leaves nothing; one at work is not disturbed, unless with --force."""
    (tmp_path / "a").write_bytes(bytes(1_000_000))
    options = ("-c", FONTS, *sets(_targets(sshd)))
    with connect(sshd.device(), agent=agent_for_tests()) as session:
        session.put(tmp_path / "a")
        shown = figkd("device", "show", "cpu", *options, cwd=tmp_path)
        assert shown.code == 0 and "1.0 MB" in shown.out and "works there" in shown.out, shown.err
        wait = sets({"targets.cpu.remote.wait_s": 0.1})
        busy = figkd("device", "clean", sshd.url, *options, *wait, cwd=tmp_path)
        assert busy.code == 5 and "busy" in busy.err and "--force" in busy.err
        forced = figkd("device", "clean", "cpu", *options, "--force", cwd=tmp_path)
        assert forced.code == 0 and "MB removed" in forced.out, forced.err
        assert not sshd.folder.exists()
    none = figkd("device", "show", "gpu", *options, cwd=tmp_path)
    assert none.code == 2 and "no such device" in none.err
    secret = figkd("device", "show", "ssh://me:secret@host", cwd=tmp_path)
    assert secret.code == 2 and "secret" not in secret.err
