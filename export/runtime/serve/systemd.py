"""What systemd and a service that it started tell each other: sd_notify(3), sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
from typing import Optional

_FIRST = 3


def notify(state: str) -> None:
    """Send a state such as `READY=1`; nothing where systemd did not start this, which the environment says."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode("ascii"), path if path[0] == "/" else "\0" + path[1:])
    except OSError:
        pass


def listening() -> Optional[socket.socket]:
    """The socket that systemd listens on for this process (a unit `.socket`); None where there is none."""
    environment = os.environ
    is_ours = environment.get("LISTEN_PID") == str(os.getpid()) and environment.get("LISTEN_FDS") == "1"
    return socket.socket(fileno=_FIRST) if is_ours else None
