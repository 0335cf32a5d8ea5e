"""Faults at each step of a shipment over a real sshd: a verified release serves at every moment; shipping again works.

The host is killed, the connection is cut, the device's processes are killed, its disk (a tmpfs) is full; each while
files are sent, in the self-test, and while the release is on trial.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from export.runtime.files import sha256
from export.runtime.install.choice import bundle_to_serve, chosen_id
from pipeline.core.errors import Exit
from tests.export.runtime.install.made import site_at
from tests.pipeline.devices.conftest import sshd  # noqa: F401
from tests.pipeline.devices.sshd import Sshd
from tests.pipeline.shipping.made import ROOT, bundle_at

pytestmark = pytest.mark.slow
STEPS, FAULTS = ("sent", "tested", "on trial"), ("host", "link", "processes", "disk")
SELF_TEST = """import os, time
    place = os.path.abspath(os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "../../../.."))
    number = sum(name.startswith("began") for name in os.listdir(place))
    open(place + "/began%d" % number, "w").close()
    while os.path.exists(place + "/STOP%d" % number):
        time.sleep(0.05)"""
_HOST = """
import json, os, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from export.runtime.bundle import UNSIGNED
from pipeline.core.address import Device
from pipeline.core.errors import PipelineError
from pipeline.devices import session, transfer
from pipeline.shipping.bundle import local_bundle
from pipeline.shipping.ship import There, ship
given = json.load(sys.stdin)
if given["slowly"]:
    transfer.CHUNK = 65536
    send, put = transfer.send, session.Session.put
    session.Session.put = lambda self, path: put(self, path, lambda done, total: time.sleep(0.02 * (total > 10**6)))
device = Device(
    given["url"], folder=given["folder"], ssh_config=Path(given["ssh_config"]), python=sys.executable, silence_s=5
)
try:
    with session.connect(device) as found, local_bundle(Path(given["bundle"]), UNSIGNED) as bundle:
        ship(found, [bundle], There(given["releases"], ("--unsigned",), ("--window", "0")), print)
except PipelineError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@dataclass
class Shipping:
    """A device on the server, and shipments to it by processes of their own."""

    server: Sshd
    place: Path

    @property
    def root(self) -> Path:
        """Of the releases."""
        return self.place / "releases"

    def begin(self, bundle: Path, slowly: bool = False) -> subprocess.Popen[str]:
        """Start to ship."""
        given = {
            "url": self.server.url, "folder": str(self.place / "work"), "ssh_config": str(self.server.config),
            "bundle": str(bundle), "releases": str(self.root), "slowly": slowly,
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-c", _HOST.format(root=str(ROOT))], text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(given))
        process.stdin.close()
        process.stdin = None
        return process

    def reached(self, step: str) -> bool:
        """Whether the device is in this step."""
        if step == "sent":
            return any(_size(path) > 200_000 for path in (self.place / "work/blobs").glob("*"))
        return (self.place / f"began{STEPS.index(step) - 1}").exists()

    def check(self, *allowed: str) -> None:
        """A verified release serves, by reading alone and to whoever recovers."""
        site = site_at(self.root, boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        for id in (chosen_id(site), os.path.basename(os.path.dirname(bundle_to_serve(site) or ""))):
            assert id in allowed and site.is_good(id), (id, allowed)

    def reset(self) -> None:
        """Forget what the self-tests of the last shipment left."""
        for path in (*self.place.glob("began*"), *self.place.glob("STOP*")):
            path.unlink()

    def end_processes(self, host: int) -> None:
        """Kill all that works for the device, the agent and the installing program included."""
        for process in psutil.process_iter(["pid", "cmdline"]):
            if str(self.place) in " ".join(process.info["cmdline"] or ()) and process.pid != host:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.server.cut()


@pytest.fixture
def shipping(sshd: Sshd, tmp_path: Path) -> Iterator[Shipping]:  # noqa: F811
    place = tmp_path / "device"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=120m", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    found = Shipping(sshd, place)
    try:
        yield found
    finally:
        found.end_processes(0)
        subprocess.run(["umount", "-l", place], check=False)


@pytest.mark.parametrize("step", STEPS)
def test_a_verified_release_serves_whatever_happens(shipping: Shipping, tmp_path: Path, step: str) -> None:
    bundles = [
        bundle_at(tmp_path / f"b{n}", n, SELF_TEST, engine=os.urandom(2_000_000))
        for n in range(1, len(FAULTS) + 2)
    ]
    assert shipping.begin(bundles[0]).wait(120) == 0
    old = sha256(bundles[0] / "manifest.json")
    for fault, bundle in zip(FAULTS, bundles[1:], strict=True):
        new = sha256(bundle / "manifest.json")
        _one(shipping, bundle, step, fault, old, new)
        shipping.check(new)
        old = new


def _one(shipping: Shipping, bundle: Path, step: str, fault: str, old: str, new: str) -> None:
    what = f"{fault}, while it is {step}"
    shipping.reset()
    stop = shipping.place / f"STOP{STEPS.index(step) - 1}"
    if step != "sent":
        stop.touch()
    host = shipping.begin(bundle, slowly=step == "sent")
    _until(lambda: shipping.reached(step) or host.poll() is not None, what)
    assert host.poll() is None, (what, host.communicate()[1])
    filler = _injected(shipping, fault, host)
    site = site_at(shipping.root, boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    now = chosen_id(site)
    assert now in (old, new) and site.is_good(now), what
    stop.unlink(missing_ok=True)
    code = host.wait(120)
    if fault == "link" or (fault, step) == ("processes", "sent"):
        assert code == 0, (what, host.communicate()[1])  # it goes on by itself
    elif fault == "host" and step != "sent":
        _until(lambda: chosen_id(site) == new and not _at_work(shipping), what + ": it decides alone")
    elif fault == "disk":
        assert code in (Exit.DEVICE, Exit.ENVIRONMENT), (what, host.communicate()[1])
    filler.unlink(missing_ok=True)
    shipping.check(old, new)
    shipping.reset()
    again = shipping.begin(bundle)
    assert again.wait(120) == 0, (what, again.communicate()[1])


def _injected(shipping: Shipping, fault: str, host: subprocess.Popen[str]) -> Path:
    """Let it happen; the file that fills the disk."""
    filler = shipping.place / "filler"
    if fault == "host":
        os.killpg(host.pid, signal.SIGKILL)
    elif fault == "link":
        shipping.server.cut()
    elif fault == "processes":
        shipping.end_processes(host.pid)
    else:
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        assert os.statvfs(shipping.place).f_bavail == 0, errno.ENOSPC
    return filler


def _at_work(shipping: Shipping) -> bool:
    from export.runtime.install.site import is_locked

    return is_locked(str(shipping.root))


def _size(path: Path) -> int:
    """0 of a file that has got its final name since it was listed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _until(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.02)
