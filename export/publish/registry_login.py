"""How one logs in at a registry: by HTTP's basic authentication, or by a token of a server that it names.

Source: https://distribution.github.io/distribution/spec/auth/token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from export.publish.docker_auth import Login, LoginFault
from export.publish.reference import is_loopback
from export.runtime.bundle.errors import shown
from export.runtime.files import parse_json

Fetch = Callable[[str, Mapping[str, str]], bytes]
"""From an address and headers to the answer's body."""
_PAIR = re.compile(r'([a-zA-Z]+)="([^"\\]*)"')
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}\Z")


@dataclass(frozen=True)
class Challenge:
    """What a registry asks for."""

    scheme: str
    """`basic`, `bearer`, or empty for what is not known."""
    realm: str = ""
    service: str = ""

    @classmethod
    def chosen(cls, headers: Sequence[str]) -> Challenge:
        """Of several, the one that is known; a token before a password."""
        found = {}
        for header in headers:
            scheme, _, rest = header[:4096].strip().partition(" ")
            pairs = dict(_PAIR.findall(rest))
            found[scheme.lower()] = cls(scheme.lower(), pairs.get("realm", ""), pairs.get("service", ""))
        return found.get("bearer") or found.get("basic") or cls("")


class Authority:
    """Logs in at one registry, with one login or as nobody. A password goes over TLS, or stays on this machine."""

    def __init__(self, login: Login | None, *, loopback: bool) -> None:
        self._login, self._loopback = login, loopback
        self._headers: dict[str, str] = {}

    @property
    def who(self) -> str:
        """In words."""
        return f"the user '{shown(self._login.user)[1:-1]}'" if self._login else "an unknown user"

    def header(self, scope: str) -> str:
        """What was good for this scope before; empty where nothing was."""
        return self._headers.get(scope, "")

    def forget(self, scope: str) -> None:
        """What was answered is not taken."""
        self._headers.pop(scope, None)

    def answer(self, challenge: Challenge, scope: str, root: str, fetch: Fetch) -> str:
        """The header that answers a challenge.

        Args:
            challenge: of the registry.
            scope: what is to be allowed, such as `repository:team/photos:pull`.
            root: address of the registry.
            fetch: asks a server of tokens.

        Raises:
            LoginFault: it cannot be answered, or only by sending a password without TLS.
        """
        if challenge.scheme == "basic":
            if self._login is None:
                raise LoginFault(f"{urlsplit(root).netloc} wants a login, and there is none", self._fix(root))
            self._private(root)
            found = self._login.basic
        elif challenge.scheme == "bearer":
            found = "Bearer " + self._token(challenge, scope, root, fetch)
        else:
            raise LoginFault(
                f"{urlsplit(root).netloc} wants a login of a kind that is not known", self._fix(root)
            )
        self._headers[scope] = found
        return found

    def _token(self, challenge: Challenge, scope: str, root: str, fetch: Fetch) -> str:
        parts = urlsplit(challenge.realm)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise LoginFault(
                f"{urlsplit(root).netloc} names {shown(challenge.realm)} for a login", "ask who runs it"
            )
        if root.startswith("https:") and parts.scheme != "https":
            raise LoginFault(f"{urlsplit(root).netloc} wants a login without TLS", "ask who runs it")
        headers = {}
        if self._login is not None:
            self._private(challenge.realm)
            headers["Authorization"] = self._login.basic
        query = urlencode({"service": challenge.service, "scope": scope})
        data = fetch(f"{challenge.realm}{'&' if parts.query else '?'}{query}", headers)
        try:
            found = parse_json(data)
            token = found.get("token") or found["access_token"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoginFault(f"{parts.netloc} answers with no token", "ask who runs it") from error
        if not isinstance(token, str) or not _TOKEN.match(token):
            raise LoginFault(f"{parts.netloc} answers with no token", "ask who runs it")
        return token

    def _private(self, url: str) -> None:
        """Refuse to send a password where others can read it."""
        parts = urlsplit(url)
        here = self._loopback and is_loopback(parts.hostname or "")
        if parts.scheme != "https" and not here:
            raise LoginFault(
                f"a password would go to {parts.netloc} without TLS",
                "leave --plain-http out, or log out there",
            )

    @staticmethod
    def _fix(root: str) -> str:
        host = urlsplit(root).netloc
        return f"docker login {host}, or oras login {host}"
