"""A fleet to test with: devices in network namespaces, each with a real sshd, and the controller in one of its own.

Nothing of it is in the machine's own network. Names carry the process id, so that runs at the same time do not meet.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.devices.sshd import PROGRAM
from tests.pipeline.shipping.made import bundle_at

SELF_TEST = """import os, time
    place = os.path.abspath(os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "../../../.."))
    time.sleep(4 if os.path.exists(place + "/SLOW") else 0)
    if os.path.exists(place + "/FAILS"):
        print("image 3: label b instead of a"); sys.exit(1)
    print("self-test passed")"""
"""It does what a file beside the releases says: each device is its own kind."""


def needed() -> str:
    """What is missing for a fleet; empty if nothing is."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if PROGRAM is None or shutil.which("ip") is None:
        return "sshd or ip is not installed (apt install openssh-server iproute2)"
    name = f"fk{os.getpid()}t"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return "" if tried.returncode == 0 else "network namespaces cannot be made here"


@dataclass
class Machine:
    """One device."""

    name: str
    number: int
    folder: Path
    """Its disk; releases lie in `releases`."""

    @property
    def address(self) -> str:
        """In the fleet's own network."""
        return f"10.77.0.{self.number + 10}"

    @property
    def state(self) -> dict[str, Any]:
        """`state.json`, or nothing."""
        path = self.folder / "releases/state.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return found

    @property
    def serves(self) -> str | None:
        """Id of the release that the link leads to."""
        link = self.folder / "releases/current"
        return os.path.basename(os.readlink(link)) if link.is_symlink() else None

    @property
    def litter(self) -> list[str]:
        """What an install left behind."""
        places = (self.folder / "releases/staging", self.folder / "releases/trash", self.folder / "incoming")
        return [str(path) for place in places if place.is_dir() for path in place.iterdir()]


@dataclass
class Fleet:
    """The devices, and how the controller reaches them."""

    place: Path
    hub: str
    machines: list[Machine]
    _servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def link(self, machine: Machine, up: bool) -> None:
        """Plug a device's cable in, or out."""
        _ip("-n", self.hub, "link", "set", f"d{machine.number}", "up" if up else "down")

    def play(self, book: str, *words: str, wait_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a playbook to its end."""
        command = self.command(book, *words)
        return subprocess.run(command, capture_output=True, text=True, cwd=self.place / "kit", timeout=wait_s)

    def play_and_kill(self, book: str, *words: str, after_s: float) -> bool:
        """Run a playbook, and kill the controller with all its processes; whether it was still running."""
        process = subprocess.Popen(
            self.command(book, *words), cwd=self.place / "kit", start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        running = process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for master in _pids_with(str(self.place / "cp")):  # its connections end with the host
            with contextlib.suppress(ProcessLookupError):
                os.kill(master, signal.SIGKILL)
        return running

    def command(self, book: str, *words: str) -> list[str]:
        """The command line of a playbook, in the controller's namespace."""
        return [
            "ip", "netns", "exec", self.hub, "env", "-u", "PYTHONPATH", "ANSIBLE_NOCOLOR=1",
            f"ANSIBLE_HOME={self.place / 'home'}", f"ANSIBLE_SSH_CONTROL_PATH_DIR={self.place / 'cp'}",
            "ANSIBLE_TIMEOUT=5", "ansible-playbook", book, "--forks", "4", *words,
        ]  # fmt: skip

    def outcomes(self) -> dict[str, str]:
        """How each device ended, from `fleet.json`."""
        found = json.loads((self.place / "kit/fleet.json").read_text())
        return {name: one["outcome"] for name, one in found["devices"].items()}


def bundle(
    folder: Path, sequence: int, self_test: str = SELF_TEST, size: int = 20_000, **more: object
) -> Path:
    """A bundle whose self-test does what the device's disk says."""
    return bundle_at(folder, sequence, self_test, engine=bytes([sequence % 251]) * size, **more)


@contextlib.contextmanager
def fleet_of(count: int, kit: Path, full: Sequence[int] = ()) -> Iterator[Fleet]:
    """Devices `cam1` and so on.

    Args:
        count: of devices.
        kit: folder that the command wrote; its inventory is replaced.
        full: numbers of the devices whose disk (a tmpfs) has too little room.
    """
    assert PROGRAM is not None
    place = Path(tempfile.mkdtemp(prefix="fk"))
    hub = f"fk{os.getpid()}-hub"
    machines = [Machine(f"cam{n}", n, place / f"cam{n}") for n in range(1, count + 1)]
    fleet = Fleet(place, hub, machines)
    mounts: list[Path] = []
    try:
        shutil.copytree(kit, place / "kit")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name], check=True)
        shutil.copy(place / "user_key.pub", place / "authorized_keys")
        _network(hub, machines)
        for machine in machines:
            machine.folder.mkdir()
            if machine.number in full:
                subprocess.run(
                    ["mount", "-t", "tmpfs", "-o", "size=256k", "none", machine.folder], check=True
                )
                mounts.append(machine.folder)
            fleet._servers.append(_server(place, machine))
        _inventory(place, machines)
        _wait_for_servers(hub, machines)
        yield fleet
    finally:
        for server in fleet._servers:
            server.kill()
            server.wait()
        for name in (hub, *(_space(machine) for machine in machines)):
            _end_of_space(name)
        for mount in mounts:
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(place, ignore_errors=True)


def _space(machine: Machine) -> str:
    return f"fk{os.getpid()}-{machine.number}"


def _network(hub: str, machines: Sequence[Machine]) -> None:
    lines = [
        f"netns add {hub}",
        f"-n {hub} link add br0 type bridge",
        f"-n {hub} addr add 10.77.0.1/24 dev br0",
    ]
    lines += [f"-n {hub} link set br0 up", f"-n {hub} link set lo up"]
    for machine in machines:
        inside, cable = _space(machine), f"d{machine.number}"
        lines += [
            f"netns add {inside}",
            f"-n {hub} link add {cable} type veth peer name eth0 netns {inside}",
            f"-n {hub} link set {cable} master br0 up",
            f"-n {inside} addr add {machine.address}/24 dev eth0",
            f"-n {inside} link set eth0 up",
            f"-n {inside} link set lo up",
        ]
    for line in lines:
        _ip(*line.split())


def _server(place: Path, machine: Machine) -> subprocess.Popen[bytes]:
    config = place / f"sshd_{machine.name}"
    config.write_text(
        f"ListenAddress {machine.address}\nPort 22\nHostKey {place}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {place}/authorized_keys\nStrictModes no\nUsePAM no\nMaxStartups 100\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        "Subsystem sftp internal-sftp\n"
    )
    log = place / f"{machine.name}.log"
    return subprocess.Popen(
        ["ip", "netns", "exec", _space(machine), str(PROGRAM), "-D", "-f", str(config), "-E", str(log)]
    )


def _inventory(place: Path, machines: Sequence[Machine]) -> None:
    ssh = f"-o UserKnownHostsFile={place}/known_hosts -o StrictHostKeyChecking=no -o IdentitiesOnly=yes"
    hosts = {
        one.name: {
            "ansible_host": one.address,
            "figkd_root": str(one.folder / "releases"),
            "figkd_incoming": str(one.folder / "incoming"),
            "ansible_remote_tmp": f"{place}/tmp-{one.name}",
        }
        for one in machines
    }
    values = {
        "ansible_user": "root",
        "ansible_python_interpreter": sys.executable,
        "ansible_ssh_private_key_file": f"{place}/user_key",
        "ansible_ssh_common_args": ssh,
        "figkd_unsigned": True,
        "figkd_window": 0,
    }
    (place / "kit/inventory.yml").write_text(  # JSON is YAML
        json.dumps({"figkd_devices": {"hosts": hosts, "vars": values}}, indent=1)
    )


def _wait_for_servers(hub: str, machines: Sequence[Machine]) -> None:
    program = "import socket, sys\nfor host in sys.argv[1:]: socket.create_connection((host, 22), 2).close()"
    words = ["ip", "netns", "exec", hub, sys.executable, "-S", "-c", program]
    for _ in range(60):
        done = subprocess.run([*words, *(one.address for one in machines)], capture_output=True)
        if done.returncode == 0:
            return
        time.sleep(0.5)
    pytest.fail("the fleet's servers did not start: " + done.stderr.decode()[-300:])


def _end_of_space(name: str) -> None:
    """End what runs in a namespace, and remove it."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _pids_with(text: str) -> list[int]:
    """Processes whose command line holds a path of this fleet."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
