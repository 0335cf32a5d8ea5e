"""What a config's `store.remote` may say, and opening it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from pipeline.core.errors import EnvironmentFault
from pipeline.core.remotes import sftp
from pipeline.core.remotes.files import Files
from pipeline.core.remotes.folder import FolderFiles
from pipeline.core.remotes.objects import PACKAGES, PROTOCOLS, object_files

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_OBJECTS = re.compile(r"[a-z0-9]+://[A-Za-z0-9][A-Za-z0-9._@-]*(?:/[A-Za-z0-9._=-]+)*/?")
_PASSWORD = re.compile(r"^[a-z0-9]+://[^@/]*:[^@/]*@")


def remote_problem(url: str) -> str:
    """What is wrong with a `store.remote`; empty if nothing is. Asks nobody."""
    found = _SCHEME.match(url)
    if found is None or found[1] == "file":
        return "" if "::" not in url and url.strip() else "is no folder"
    if _PASSWORD.match(url):
        return "holds a password: use a key (ssh), or the storage's own credentials"
    if found[1] in ("ssh", "sftp"):
        return "" if sftp.URL.fullmatch(url) else "is not ssh://[user@]host[:port]/path of plain characters"
    if found[1] not in PROTOCOLS:
        return f"is of an unknown kind: a folder, ssh://, or {', '.join(f'{p}://' for p in PROTOCOLS)}"
    return "" if _OBJECTS.fullmatch(url) else f"is not {found[1]}://bucket/path of plain characters"


def open_remote(url: str, ssh_config: Path | None) -> Files:
    """The remote of a URL for which `remote_problem` has nothing to say; nothing is connected yet.

    Raises:
        EnvironmentFault: a package for it is missing.
    """
    scheme = found[1] if (found := _SCHEME.match(url)) else ""
    if scheme in ("ssh", "sftp"):
        return sftp.SftpFiles(url, ssh_config)
    if scheme not in PROTOCOLS:
        return FolderFiles(Path(url.removeprefix("file://")))
    package = PACKAGES[scheme]
    if importlib.util.find_spec(package) is None:
        fix = "pip install 'figkd-pipeline[s3]'" if scheme == "s3" else f"pip install {package}"
        raise EnvironmentFault(f"the package {package} is not installed", where="store.remote", fix=fix)
    return object_files(url)
