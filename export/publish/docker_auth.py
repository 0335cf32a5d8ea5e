"""Who logs in where: what `docker login`, `podman login` and `oras login` leave in a config file.

Source: https://docs.docker.com/reference/cli/docker/login (credential stores and helpers).
"""

from __future__ import annotations

import base64
import binascii
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import ExportError
from export.runtime.files import read_json

CONFIG = "config.json"
_HELPER = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_HELPER_S = 30
_MOST = 1 << 16
_HUB = {"registry-1.docker.io": "https://index.docker.io/v1/"}
_NONE_THERE = "credentials not found"


class LoginFault(ExportError):
    """A login that cannot be read."""


@dataclass(frozen=True)
class Login:
    """Of a registry; its secret is never in a message or in `repr`."""

    user: str
    secret: str

    def __repr__(self) -> str:
        return f"Login({self.user!r})"

    @property
    def basic(self) -> str:
        """The header for HTTP's basic authentication."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode("ascii")


def login_for(host: str, folder: Path) -> Login | None:
    """The login of a registry by Docker's config; None where it has none.

    Args:
        host: of the registry, with its port where one was given.
        folder: of Docker's config, `~/.docker` where nothing else is said.

    Raises:
        LoginFault: the file or a helper that it names does not work.
    """
    path = folder / CONFIG
    try:
        found = read_json(path, 1 << 20)
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LoginFault(
            f"{path} cannot be read: {error}", "log in again with docker, podman or oras"
        ) from error
    key = _HUB.get(host, host)
    helper = _section(found, "credHelpers").get(key) or found.get("credsStore")
    if helper:
        login = _from_helper(str(helper), key)
        if login:
            return login
    for name, entry in _section(found, "auths").items():
        if name == key or _bare(name) == _bare(key):
            return _decoded(entry, path)
    return None


def _section(found: dict[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _bare(name: str) -> str:
    """A registry's name without scheme, version and trailing slash, which older programs wrote."""
    return re.sub(r"\Ahttps?://", "", name).split("/", 1)[0]


def _decoded(entry: Any, path: Path) -> Login | None:
    fields = entry if isinstance(entry, dict) else {}
    if isinstance(fields.get("username"), str) and isinstance(fields.get("password"), str):
        return Login(fields["username"], fields["password"])
    if not fields.get("auth"):
        return None
    try:
        user, colon, secret = (
            base64.b64decode(str(fields["auth"]), validate=True).decode("utf-8").partition(":")
        )
        if not colon:
            raise ValueError
    except (binascii.Error, ValueError) as error:
        raise LoginFault(f"{path} holds an invalid login", "log in again") from error
    return Login(user, secret)


def _from_helper(name: str, key: str) -> Login | None:
    """Ask `docker-credential-NAME`, which keeps logins outside of the file."""
    if not _HELPER.match(name):
        raise LoginFault(
            "Docker's config names an invalid credential helper", "see credsStore in config.json"
        )
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, timeout=_HELPER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LoginFault(f"{program} does not work: {error}", "install it, or log in again") from error
    if done.returncode:
        if _NONE_THERE in (done.stdout + done.stderr).decode("utf-8", "replace"):
            return None
        raise LoginFault(f"{program} ended with {done.returncode}", "log in again")
    from export.runtime.files import parse_json

    try:
        answer = parse_json(done.stdout[:_MOST])
        return Login(str(answer["Username"]), str(answer["Secret"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LoginFault(f"{program} answers with no login", "log in again") from error
