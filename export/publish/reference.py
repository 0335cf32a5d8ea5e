"""Where an artifact lies: in a registry, or in a folder of the OCI image layout.

Source: https://github.com/opencontainers/distribution-spec (names, tags, digests).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from export.errors import ExportError

LATEST = "latest"
_HOST = re.compile(r"(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?\Z")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_MOST_NAME = 255
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB = "registry-1.docker.io"


class BadReference(ExportError):
    """A text that names no place for an artifact."""


@dataclass(frozen=True)
class Reference:
    """An artifact in a registry."""

    host: str
    """With its port where one was given."""
    name: str
    """Of the repository."""
    tag: str
    digest: str
    """Of the manifest, `sha256:...`; empty where the tag says which."""

    @property
    def loopback(self) -> bool:
        """The registry is on this machine, where nobody listens in."""
        return is_loopback(self.host if self.host.endswith("]") else self.host.rsplit(":", 1)[0])

    def __str__(self) -> str:
        return f"{self.host}/{self.name}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


@dataclass(frozen=True)
class LayoutPath:
    """An artifact in a folder of the OCI image layout."""

    folder: str
    tag: str

    def __str__(self) -> str:
        return f"{self.folder}:{self.tag}"


def is_loopback(host: str) -> bool:
    """Whether a host, without its port, is this machine."""
    return host in ("localhost", "[::1]", "::1") or bool(re.match(r"127(\.[0-9]{1,3}){3}\Z", host))


def parse(text: str) -> Reference | LayoutPath:
    """`HOST[:PORT]/NAME[:TAG][@DIGEST]`, or `[oci:]FOLDER[:TAG]`.

    As with Docker, the first part of a name in a registry has a dot or a port, or is `localhost`; everything else is a
    folder, as is what begins with `/`, `./`, `../` or `oci:`.

    Raises:
        BadReference: it is neither.
    """
    text, forced = (text[4:], True) if text.startswith("oci:") else (text, False)
    first, slash, rest = text.partition("/")
    if forced or first in ("", ".", "..", "~") or not slash or not re.search(r"[.:]|\Alocalhost\Z", first):
        return _layout(text)
    rest, _, digest = rest.partition("@")
    name, colon, tag = rest.partition(":")
    host = first.lower()
    fix = "write HOST[:PORT]/NAME[:TAG], such as registry.example.com/team/photos:1"
    if not _HOST.match(host):
        raise BadReference(f"'{first}' is no name of a registry", fix)
    if not _NAME.match(name) or len(name) > _MOST_NAME:
        raise BadReference(f"'{name}' is no name of a repository: it has small letters and digits only", fix)
    if colon and not _TAG.match(tag):
        raise BadReference(f"'{tag}' is no tag", fix)
    if "@" in text and not DIGEST.match(digest):
        raise BadReference(f"'{digest}' is no digest", "write @sha256: and 64 hexadecimal digits")
    if host in _DOCKER_HUB:
        host, name = _HUB, name if "/" in name else f"library/{name}"
    return Reference(host, name, tag or LATEST, digest)


def _layout(text: str) -> LayoutPath:
    folder, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        folder, tag = text, LATEST
    if not folder or not _TAG.match(tag):
        raise BadReference(f"'{text}' names no folder", "write FOLDER, or FOLDER:TAG")
    return LayoutPath(folder, tag)
