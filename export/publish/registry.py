"""A registry over HTTP: blobs and manifests brought and fetched, with bounds on all that it answers.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md (v1.1).
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from export.errors import ExportError
from export.publish.modelpack import MANIFEST, MOST_MANIFEST, Descriptor
from export.publish.reference import Reference
from export.publish.registry_login import Authority, Challenge
from export.runtime.bundle.errors import BundleRefused, shown

TIMEOUT_S = 30.0
"""Without a byte."""
_SMALL_S = 60.0
_SLOWEST = 16 << 10
"""Bytes a second; slower than that, the registry is taken for one that never ends."""
_ATTEMPTS = 3
_AGAIN = (429, 500, 502, 503, 504)
_HOPS = 5
_BLOCK = 1 << 18
_MOST_FAULT = 1 << 14
_REDIRECTS = (301, 302, 303, 307, 308)


class RegistryFault(ExportError):
    """A registry that cannot be reached, or does not do what it is asked for."""


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Message
    response: Any
    """The body, to be read; closed by whoever reads it."""


class Registry:
    """An artifact in a registry; see `export.publish.transfer.Place`."""

    def __init__(
        self,
        reference: Reference,
        authority: Authority,
        *,
        plain_http: bool = False,
        context: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT_S,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is asked yet.

        Args:
            reference: of the artifact.
            authority: logs in where the registry asks for it.
            plain_http: HTTP without TLS; a registry on this machine is always asked so.
            context: which certificates count; None: the system's.
            timeout: seconds without a byte.
            wait: sleeps between two attempts.
        """
        self._reference, self._authority = reference, authority
        scheme = "http" if plain_http or reference.loopback else "https"
        self._root = f"{scheme}://{reference.host}/v2/{reference.name}/"
        self._timeout, self._wait = timeout, wait
        proxies: dict[str, str] | None = {} if reference.loopback else None
        self._opener = urllib.request.build_opener(
            _NoRedirects(), urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)
        )
        self._opener.addheaders = [("User-Agent", "figkd-pipeline")]

    def manifest(self) -> bytes:
        """The manifest that the reference names."""
        name = self._reference.digest or self._reference.tag
        answer = self._ask(
            "GET", f"manifests/{name}", headers={"Accept": MANIFEST}, scope="pull", follow=True
        )
        if answer.status == 404:
            answer.response.close()
            raise RegistryFault(f"there is no {self._reference}", "look at its name and tag")
        self._expect(answer, 200)
        with answer.response as response:
            return _bounded(response, MOST_MANIFEST, "the manifest")

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob is there."""
        answer = self._ask("HEAD", f"blobs/{blob.digest}", scope="pull,push", follow=True)
        if answer.status != 404:
            self._expect(answer, 200)
        answer.response.close()
        return answer.status == 200

    def put(self, blob: Descriptor, data: bytes) -> None:
        """Bring a blob in one piece; the registry checks its digest."""
        started = self._ask("POST", "blobs/uploads/", data=b"", scope="pull,push")
        self._expect(started, 202)
        started.response.close()
        place = self._place(started.headers.get("Location", ""))
        joint = "&" if urlsplit(place).query else "?"
        url = f"{place}{joint}digest={quote(blob.digest, safe='')}"
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._ask("PUT", url, data=data, headers=headers, scope="pull,push")
        self._expect(answer, 201)
        answer.response.close()

    def blocks(self, blob: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob in parts, at most one more than it has; not checked."""
        answer = self._ask("GET", f"blobs/{blob.digest}", scope="pull", follow=True)
        self._expect(answer, 200)
        with answer.response as response:
            yield from _limited(response, blob.size, "a blob")

    def put_manifest(self, data: bytes) -> None:
        """Bring the manifest under the reference's tag."""
        url, headers = f"manifests/{self._reference.tag}", {"Content-Type": MANIFEST}
        answer = self._ask("PUT", url, data=data, headers=headers, scope="pull,push")
        self._expect(answer, 201)
        answer.response.close()

    def _ask(
        self,
        method: str,
        where: str,
        *,
        scope: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        follow: bool = False,
    ) -> _Answer:
        """One request, logged in where that is asked for, and again where the registry is busy."""
        url = urljoin(self._root, where)
        wanted = f"repository:{self._reference.name}:{scope}"
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            try:
                answer = self._followed(method, url, data, dict(headers or {}), wanted, follow=follow)
            except (OSError, http.client.HTTPException) as error:
                if last or isinstance(_reason(error), ssl.SSLError):
                    raise self._unreachable(error) from error
                self._wait(2.0**attempt)
                continue
            if answer.status not in _AGAIN or last:
                return answer
            answer.response.close()
            self._wait(_seconds(answer.headers.get("Retry-After", ""), 2.0**attempt))
        raise AssertionError("unreachable")

    def _followed(
        self, method: str, url: str, data: bytes | None, headers: dict[str, str], scope: str, *, follow: bool
    ) -> _Answer:
        """A request and, where it is allowed, the redirects; who is logged in is said to the registry alone."""
        answer = self._sent(method, url, data, headers, scope)
        for _ in range(_HOPS):
            if answer.status not in _REDIRECTS or not follow:
                return answer
            answer.response.close()
            url = self._place(answer.headers.get("Location", ""), url)
            answer = self._sent(method, url, data, headers, scope)
        raise RegistryFault(f"{self._reference.host} redirects for ever", "ask who runs it")

    def _sent(
        self, method: str, url: str, data: bytes | None, headers: dict[str, str], scope: str
    ) -> _Answer:
        home = _origin(url) == _origin(self._root)
        login = self._authority.header(scope) if home else ""
        answer = self._open(method, url, data, headers | ({"Authorization": login} if login else {}))
        if answer.status == 401 and home:
            challenges = answer.response.headers.get_all("WWW-Authenticate") or []
            answer.response.close()
            login = self._authority.answer(Challenge.chosen(challenges), scope, self._root, self._token)
            answer = self._open(method, url, data, headers | {"Authorization": login})
            if answer.status == 401:
                self._authority.forget(scope)
        return answer

    def _open(self, method: str, url: str, data: bytes | None, headers: Mapping[str, str]) -> _Answer:
        request = urllib.request.Request(url, data=data, headers=dict(headers), method=method)
        try:
            response = self._opener.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            return _Answer(error.code, error.headers, error)
        return _Answer(response.status, response.headers, response)

    def _token(self, url: str, headers: Mapping[str, str]) -> bytes:
        """What a server of tokens answers; redirects are not followed."""
        try:
            answer = self._open("GET", url, None, headers)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        self._expect(answer, 200, login=True)
        with answer.response as response:
            return _bounded(response, 1 << 18, "a token")

    def _place(self, location: str, base: str = "") -> str:
        """The address that a registry sends to: absolute, HTTP only, never without TLS where there was TLS.

        Raises:
            RegistryFault: it is none of these.
        """
        url = urljoin(base or self._root, location)
        parts = urlsplit(url)
        fits = location and parts.hostname and parts.scheme in ("http", "https") and not parts.username
        if not fits or (self._root.startswith("https:") and parts.scheme != "https"):
            raise RegistryFault(f"{self._reference.host} sends to {shown(location)}", "ask who runs it")
        return url

    def _expect(self, answer: _Answer, status: int, *, login: bool = False) -> None:
        if answer.status == status:
            return
        with answer.response as response:
            try:
                said = _fault(_bounded(response, _MOST_FAULT, "an error"))
            except (BundleRefused, OSError, http.client.HTTPException):
                said = ""
        host = self._reference.host
        if answer.status in (401, 403) or (login and answer.status < 500):
            raise RegistryFault(
                f"{host} does not let {self._authority.who} do that{said}",
                f"docker login {host}, or oras login {host}",
            )
        raise RegistryFault(
            f"{host} answers {answer.status} for {self._reference.name}{said}", "try again later"
        )

    def _unreachable(self, error: BaseException) -> RegistryFault:
        reason, host = _reason(error), self._reference.host
        if isinstance(reason, ssl.SSLCertVerificationError):
            return RegistryFault(
                f"the certificate of {host} is not trusted: {reason.verify_message}",
                "give its authority with --ca FILE",
            )
        if isinstance(reason, ssl.SSLError):
            return RegistryFault(f"{host} does not speak TLS", "add --plain-http if that is meant")
        return RegistryFault(
            f"{host} cannot be reached: {str(reason)[:200]}", "check its name, port and the network"
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        """None: the redirect is an answer like others, followed where that is allowed."""


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return (
        parts.scheme,
        (parts.hostname or "").lower(),
        parts.port or (443 if parts.scheme == "https" else 80),
    )


def _reason(error: BaseException) -> BaseException:
    reason = getattr(error, "reason", None)
    return reason if isinstance(reason, BaseException) else error


def _limited(response: Any, most: int, what: str) -> Iterator[bytes]:
    """The bytes of a body, and at most one more than `most`, which says that there are too many.

    Raises:
        RegistryFault: it comes too slowly, or stops.
    """
    deadline, left = time.monotonic() + _SMALL_S + most / _SLOWEST, most + 1
    try:
        while left and (block := response.read1(min(left, _BLOCK))):
            left -= len(block)
            yield block
            if time.monotonic() > deadline:
                raise RegistryFault(f"{what} comes too slowly", "try again later")
    except (OSError, http.client.HTTPException) as error:
        raise RegistryFault(
            f"{what} stops in the middle: {str(_reason(error))[:200]}", "try again"
        ) from error


def _bounded(response: Any, most: int, what: str) -> bytes:
    data = b"".join(_limited(response, most, what))
    if len(data) > most:
        raise BundleRefused(
            f"the registry's answer for {what} has more than {most:,} bytes", "ask who runs it"
        )
    return data


def _fault(data: bytes) -> str:
    """The registry's own words, short and harmless to a terminal."""
    try:
        found = json.loads(data)["errors"][0]
        return ": " + shown(str(found.get("message") or found["code"]))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return ""


def _seconds(text: str, otherwise: float) -> float:
    return float(min(int(text), 30)) if text.isascii() and text.isdigit() and len(text) < 6 else otherwise
