"""Protects sharing over SSH with a real sshd: the user's own OpenSSH, its known hosts, and servers that fail."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.address import Device
from pipeline.core.remotes.files import RemoteFault, TooLarge, Wanted
from pipeline.core.remotes.sftp import SftpFiles
from tests.pipeline.core.remotes.machines import Machine, shares
from tests.pipeline.devices.sshd import ALIAS, PROGRAM, Sshd, running_sshd

pytestmark = pytest.mark.skipif(PROGRAM is None or shutil.which("sftp") is None, reason="needs sshd and sftp")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    place = tmp_path_factory.mktemp("sshd")
    with running_sshd(place) as sshd:
        sshd.stop()
        with (place / "sshd_config").open("a") as file:
            file.write("Subsystem sftp internal-sftp\n")
        sshd.start()
        yield sshd


def _files(server: Sshd, folder: Path) -> SftpFiles:
    return SftpFiles(f"ssh://{ALIAS}{folder}", server.config)


def test_machines_share_over_ssh(server: Sshd, tmp_path: Path) -> None:
    """The remote's folders are made; what one made the other takes."""
    remote = tmp_path / "remote with a space"
    shares(
        Machine(tmp_path / "one [of 2]", _files(server, remote)),
        Machine(tmp_path / "two", _files(server, remote)),
    )
    assert not list(remote.rglob("*.part"))


def test_each_operation(server: Sshd, tmp_path: Path) -> None:
    files = _files(server, tmp_path / "remote")
    assert files.read("a/b.json", 10) is None
    assert files.create("a/b.json", b"first") and not files.create("a/b.json", b"second")
    assert files.read("a/b.json", 10) == b"first"
    with pytest.raises(TooLarge):
        files.read("a/b.json", 4)
    (tmp_path / "new").write_bytes(b"another")
    files.put([(tmp_path / "new", "a/b.json")], time.monotonic() + 20)
    assert files.read("a/b.json", 10) == b"another"
    there, wrong, gone = Wanted("a/b.json", 7, "x"), Wanted("a/b.json", 8, "x"), Wanted("a/c", 7, "x")
    assert files.lacking([there]) == [] and files.lacking([wrong, gone]) == [wrong, gone]
    files.remove("a/b.json")
    files.remove("a/b.json")
    assert files.read("a/b.json", 10) is None
    assert not list((tmp_path / "remote").rglob("*.part"))


def test_a_host_that_nobody_knows_is_refused(server: Sshd, tmp_path: Path) -> None:
    """Its key is never accepted by itself; one warning, and the artifact is made here."""
    config = tmp_path / "ssh_config"
    config.write_text(server.config.read_text().replace("known_hosts", "nobody"))
    machine = Machine(tmp_path / "one", SftpFiles(f"ssh://{ALIAS}{tmp_path}/remote", config))
    machine.obtain()
    assert machine.made == 1 and len(machine.warnings) == 1 and "verification" in machine.warnings[0]
    assert not (tmp_path / "remote").exists()


def test_a_server_that_is_gone_or_read_only(server: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(server.config.read_text().replace(f"Port {server.port}", "Port 9"))
    gone = Machine(tmp_path / "one", SftpFiles(f"ssh://{ALIAS}{tmp_path}/remote", config))
    gone.obtain()
    assert gone.made == 1 and "refused" in gone.warnings[0]
    occupied = tmp_path / "occupied"
    occupied.write_text("a file")
    odd = Machine(tmp_path / "two", _files(server, occupied))
    odd.obtain()
    assert odd.made == 1 and len(odd.warnings) == 1, odd.notes


def test_a_server_that_sends_too_much_or_hangs(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is ended once more has come than was asked for, or in time."""
    (tmp_path / "remote").mkdir()
    with (tmp_path / "remote/endless").open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(TooLarge):
        _files(server, tmp_path / "remote").fetch(
            [Wanted("endless", 10, "got")], tmp_path, time.monotonic() + 60
        )
    assert (tmp_path / "got").stat().st_size < 1 << 33
    hanging = tmp_path / "sftp"
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(hanging.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("pipeline.core.remotes.sftp._QUICK_S", 0.3)
    with pytest.raises(RemoteFault, match="within"):
        _files(server, tmp_path / "remote").read("a", 10)


def test_the_command() -> None:
    """User, port and IPv6 are as sftp takes them, and nothing asks or forwards."""
    words = Device("ssh://me@[2001:db8::1]:2222").sftp()
    assert words[:3] == ["sftp", "-b", "-"] and words[-3:] == ["-P", "2222", "me@[2001:db8::1]"]
    assert "BatchMode=yes" in words and "StrictHostKeyChecking=yes" in words
    assert Device("ssh://box").sftp()[-1] == "box"


@pytest.mark.parametrize(
    ("url", "root"), [("ssh://h/a/b/", "/a/b"), ("sftp://u@h:22/~/a", "a"), ("ssh://[::1]/a", "/a")]
)
def test_urls(url: str, root: str) -> None:
    assert SftpFiles(url, None)._root == root


@pytest.mark.parametrize(
    "url",
    ["ssh://h", "ssh://h/a\n!id", 'ssh://h/a"', "ssh://h/*", "ssh://-oProxyCommand=x/a", "ssh://u:p@h/a"],
)
def test_no_urls(url: str) -> None:
    """Nothing that sftp would read as a command, an option or a pattern."""
    with pytest.raises(ValueError, match="is not ssh"):
        SftpFiles(url, None)
