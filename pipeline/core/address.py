"""Where a device is and how it is reached: plain values, no connection."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LOCAL = "local"
URL = re.compile(
    r"^ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\])(?::(?P<port>\d{1,5}))?/?$"
)
PASSWORD = re.compile(r"^ssh://[^@/]*:[^@/]*@")

# A device that is off answers nothing: how long to wait for a connection, in s.
CONNECT_S = 10
# The client gives a connection up after three of these without an answer, in s.
_ALIVE_S = 5


@dataclass(frozen=True)
class Device:
    """A device and what is allowed there.

    Attributes:
        url: `ssh://[user@]host[:port]`, or `local`: the same agent as a process of this machine.
        folder: the work folder on the device; empty for `~/.cache/figkd-device`.
        ssh_config: an OpenSSH client config to use instead of the user's own.
        python: the Python on the device, 3.8 or later; a path may begin with `~/`.
        keep_mb: how much of what was sent may stay for the next run, in MB (10^6 bytes).
        wait_s: how long to wait while another host works there, in s.
        silence_s: an agent that has not answered for this long is given up, in s.
        job_s: a job (a build, a measurement) that has not ended after so long is ended, in s.
    """

    url: str
    folder: str = ""
    ssh_config: Path | None = None
    python: str = "python3"
    keep_mb: int = 4000
    wait_s: float = 600
    silence_s: float = 20
    job_s: float = 86_400

    @property
    def name(self) -> str:
        """What messages call it: `user@host`, without the scheme."""
        return self.url.removeprefix("ssh://").rstrip("/")

    @property
    def by_hand(self) -> str:
        """The command that a person would type to see whether it can be reached."""
        if self.url == LOCAL:
            return shlex.join([self.python, "-V"])
        return shlex.join(["ssh", *self._config(), *self._destination()])

    def command(self, remote: str, options: Sequence[str] = ()) -> list[str]:
        """The command that runs a shell command line on the device.

        Args:
            remote: for the device's shell; its words are quoted already.
            options: further options of ssh.
        """
        if self.url == LOCAL:
            return ["sh", "-c", remote]
        return ["ssh", "-T", *_OPTIONS, *options, *self._config(), *self._destination(), "--", remote]

    def sftp(self) -> list[str]:
        """The command that speaks SFTP with the device: commands on its stdin, ends at the first that fails."""
        host, *rest = reversed(self._destination())
        host = f"[{host}]" if ":" in host else host
        words = [("-P" if word == "-p" else word) for word in reversed(rest)]
        if "-l" in words:  # `sftp -l` limits bandwidth
            at = words.index("-l")
            host = f"{words[at + 1]}@{host}"
            del words[at : at + 2]
        return ["sftp", "-b", "-", *_OPTIONS, *self._config(), *words, host]

    def python_word(self) -> str:
        """The Python on the device as a word for its shell."""
        if self.python.startswith("~/"):
            return f"~/{shlex.quote(self.python[2:])}"
        return shlex.quote(self.python)

    def query(self) -> list[str]:
        """The command that prints what the user's ssh config says about this device."""
        return ["ssh", "-G", *self._config(), *self._destination()]

    def _config(self) -> list[str]:
        return ["-F", str(self.ssh_config)] if self.ssh_config is not None else []

    def _destination(self) -> list[str]:
        found = URL.match(self.url)
        if found is None:
            raise ValueError(f"{self.url} is not ssh://[user@]host[:port]")
        user, host, port = found["user"], found["host"].strip("[]"), found["port"]
        return [*(["-p", port] if port else []), *(["-l", user] if user else []), host]


_OPTIONS = [
    word
    for option in (
        "BatchMode=yes",  # never ask: nobody may be there to answer
        "StrictHostKeyChecking=yes",
        f"ConnectTimeout={CONNECT_S}",
        f"ServerAliveInterval={_ALIVE_S}",
        "ServerAliveCountMax=3",
        "EscapeChar=none",
        "ForwardAgent=no",
        "ForwardX11=no",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "RemoteCommand=none",
        "LogLevel=ERROR",
    )
    for word in ("-o", option)
]
