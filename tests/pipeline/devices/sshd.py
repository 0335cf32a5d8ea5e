"""A real sshd on the loopback with its own port, keys and client config: a device to test with."""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.core.address import Device

ALIAS = "figkd-test"
PROGRAM = shutil.which("sshd", path=os.defpath + ":/usr/sbin:/sbin:/usr/local/sbin")


@dataclass
class Sshd:
    """The server. `device()` is what a config's target would be."""

    place: Path
    port: int
    address: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """As a config names it: a Host alias of the client config."""
        return f"ssh://{ALIAS}"

    @property
    def config(self) -> Path:
        """Client config: alias, key, known hosts."""
        return self.place / "ssh_config"

    @property
    def folder(self) -> Path:
        """The work folder of `device()`."""
        return self.place / "work"

    def device(self, **changes: Any) -> Device:
        """The device, with this interpreter as its Python."""
        values: dict[str, Any] = {
            "folder": str(self.folder), "ssh_config": self.config, "python": sys.executable, "silence_s": 5
        }  # fmt: skip
        return Device(self.url, **(values | changes))

    def start(self, prefix: tuple[str, ...] = ()) -> None:
        """Start (again), and wait until it accepts connections."""
        assert PROGRAM is not None
        self.process = subprocess.Popen(
            [
                *prefix,
                PROGRAM,
                "-D",
                "-f",
                str(self.place / "sshd_config"),
                "-E",
                str(self.place / "sshd.log"),
            ]
        )
        if prefix:  # elsewhere: it cannot be asked from here
            time.sleep(0.5)
            return
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError((self.place / "sshd.log").read_text())

    def stop(self) -> None:
        """End the server and every connection."""
        if self.process is not None:
            self.cut()
            self.process.kill()
            self.process.wait()
            self.process = None

    def cut(self) -> None:
        """Kill the server's side of every connection, as a router in between would."""
        if self.process is None:
            return
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end before it is asked
                if child.name().startswith("sshd"):
                    child.kill()


def make_sshd(place: Path, address: str = "127.0.0.1") -> Sshd:
    """Keys and configs of a server that is not started yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name], check=True)
    shutil.copy(place / "user_key.pub", place / "authorized_keys")
    host_key = " ".join((place / "host_key.pub").read_text().split()[:2])
    (place / "known_hosts").write_text(f"[{address}]:{port} {host_key}\n")
    (place / "sshd_config").write_text(
        f"ListenAddress {address}\nPort {port}\nHostKey {place}/host_key\nPidFile {place}/pid\n"
        f"AuthorizedKeysFile {place}/authorized_keys\nStrictModes no\nUsePAM no\nLogLevel VERBOSE\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
    )
    (place / "ssh_config").write_text(
        f"Host {ALIAS}\n  HostName {address}\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {place}/user_key\n  IdentitiesOnly yes\n  IdentityAgent none\n"
        f"  UserKnownHostsFile {place}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
    )
    return Sshd(place, port, address)


@contextlib.contextmanager
def running_sshd(place: Path) -> Iterator[Sshd]:
    """A started server, ended at the end."""
    shell = Path(pwd.getpwuid(os.getuid()).pw_shell).name
    if shell in ("nologin", "false"):
        pytest.skip(f"this account may not log in: its shell is {shell}")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it shuts its unprivileged part in
    server = make_sshd(place)
    server.start()
    try:
        yield server
    finally:
        server.stop()
