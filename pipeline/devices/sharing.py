"""One authenticated connection for all sessions of a run (OpenSSH's ControlMaster)."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
import threading

from pipeline.core.address import LOCAL, Device

_used: set[Device] = set()
_guard = threading.Lock()
# A killed run leaves the connection open for so long, in s.
_PERSIST_S = 60


def sharing_options(device: Device) -> list[str]:
    """Options of ssh that share its connections; none where the user's own config does so already."""
    if device.url == LOCAL or _users_own(device):
        return []
    with _guard:
        _used.add(device)
    return [
        "-o", "ControlMaster=auto", "-o", f"ControlPath={_folder()}/%C", "-o", f"ControlPersist={_PERSIST_S}"
    ]  # fmt: skip


def stop_sharing(device: Device) -> None:
    """End the shared connection: it may hang."""
    if device in _used:
        _exit(device)


@functools.cache
def _users_own(device: Device) -> bool:
    try:
        done = subprocess.run(
            device.query(), capture_output=True, encoding="utf-8", errors="replace", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return False  # connecting will tell
    settings = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    return settings.get("controlpath", "none") != "none" and settings.get("controlmaster", "false") != "false"


@functools.cache
def _folder() -> str:
    """A private folder with a short path: a socket's may have about a hundred characters."""
    folder = tempfile.mkdtemp(prefix="figkd-ssh-")
    atexit.register(_leave, folder)
    return folder


def _leave(folder: str) -> None:
    for device in _used:
        _exit(device)
    shutil.rmtree(folder, ignore_errors=True)


def _exit(device: Device) -> None:
    options = ["-o", f"ControlPath={_folder()}/%C", "-O", "exit"]
    try:
        subprocess.run(device.command("", options), capture_output=True, timeout=5, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return
