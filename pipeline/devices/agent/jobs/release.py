"""`release`: releases on this device, by the program that ships in every bundle.

The agent brings the files and starts the program; what is verified, tested, watched and taken back is decided by the
program alone, whether or not a host listens. Where a release serves already, its program installs the next one: it
was verified by the device's own trust.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from typing import IO, Any, Iterator

from export.runtime.files import sha256

from .. import files
from ..errors import JobError
from ..requests import Answer, Emit, ReleaseRequest

PROGRAM = "run.pyz"
_ID = re.compile(r"^[0-9a-f]{64}$")
_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._+/-]{0,199}$")
_MANIFEST = "manifest.json"
_MOST_ANSWER = 1 << 20


def run(request: ReleaseRequest, folder: str, emit: Emit) -> Answer:
    """Do one thing with the releases.

    Args:
        request: what is asked.
        folder: work folder.
        emit: receives the program's lines.

    Returns:
        `missing`, or `code` and `answer` (what the program printed as JSON) and `root`.

    Raises:
        JobError: a file is missing, or no release was ever installed and so no program is here.
    """
    root = os.path.expanduser(request["root"] or default_root())
    if request["do"] == "missing":
        return {"missing": _missing(request, folder, root), "root": root}
    words = [str(word) for word in request["arguments"]]
    if request["do"] == "install":
        bundle = _assemble(request, folder, root)
        words = [words[0], bundle, *words[1:]]
    else:
        bundle = ""
    program = _program(root, bundle)
    if not program:
        raise JobError("nothing was installed in {}".format(root), "ship a bundle to it first", "missing")
    code, answer = _call([sys.executable, "-B", program, *words, "--root", root, "--json"], emit)
    if request["do"] == "install" and code == 0:
        for digest in set(
            digest for _, digest in _wanted(request, folder, root)
        ):  # the release holds them now
            files.remove(os.path.join(folder, "blobs", digest))
    return {"code": code, "answer": answer, "root": root}


def default_root() -> str:
    """Where the program keeps releases by default; see `export.runtime.install.main.default_root`."""
    return "/var/lib/figkd" if os.geteuid() == 0 else "~/.local/share/figkd"


def _program(root: str, bundle: str) -> str:
    """The program of the release that serves, else that of the bundle; empty where there is none."""
    for place in (os.path.join(root, "current", "bundle"), bundle):
        if place and os.path.isfile(os.path.join(place, PROGRAM)):
            return os.path.join(place, PROGRAM)
    return ""


def _missing(request: ReleaseRequest, folder: str, root: str) -> list[str]:
    if not _find(folder, root, request["release"]):
        return [request["release"]]
    wanted = sorted(set(digest for _, digest in _wanted(request, folder, root)))
    return [digest for digest in wanted if not _find(folder, root, digest)]


def _wanted(request: ReleaseRequest, folder: str, root: str) -> list[tuple[str, str]]:
    """Path in the job's folder and sha256 of each file of a bundle whose manifest is here."""
    manifest = files.read_json(_find(folder, root, request["release"]))
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict):
        raise JobError("the bundle's manifest is invalid", "make the bundle again", "request")
    found = [("bundle/" + _MANIFEST, request["release"])]
    for name, entry in listed.items():
        found.append(("bundle/" + name, str(entry.get("sha256")) if isinstance(entry, dict) else ""))
    return found + [("bundle." + name, digest) for name, digest in request["signatures"].items()]


def _assemble(request: ReleaseRequest, folder: str, root: str) -> str:
    """The bundle in the job's folder, from what was sent and what releases hold; its folder."""
    for name, digest in _wanted(request, folder, root):
        if not _NAME.match(name) or ".." in name.split("/"):
            raise JobError("'{}' is no name of a file in a bundle".format(name), kind="request")
        found = _find(folder, root, digest)
        if not found:
            raise JobError("a file of the bundle is not here: {}".format(name), "run again", "damaged")
        os.makedirs(os.path.dirname(name), exist_ok=True)
        try:
            os.link(found, name)
        except OSError:  # on another disk
            _copy(found, name)
    return os.path.abspath("bundle")


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as old, open(target, "wb") as new:
        for block in iter(lambda: old.read(1 << 20), b""):
            new.write(block)


def _find(folder: str, root: str, digest: str) -> str:
    """Where a file lies by its sha256; empty if it does not."""
    if not _ID.match(digest):
        raise JobError("'{}' is no sha256".format(digest), kind="request")
    sent = os.path.join(folder, "blobs", digest)
    if files.is_plain(sent):
        return sent
    for path in _in_releases(root, digest):
        if files.is_plain(path) and sha256(path) == digest:
            return path
    return ""


def _in_releases(root: str, digest: str) -> Iterator[str]:
    """Files of releases that are said to have a digest."""
    releases = os.path.join(root, "releases")
    for id in sorted(os.listdir(releases)) if os.path.isdir(releases) else ():
        place = os.path.join(releases, id, "bundle")
        if id == digest:
            yield os.path.join(place, _MANIFEST)
        manifest = files.read_json(os.path.join(place, _MANIFEST))
        listed = manifest.get("files") if isinstance(manifest, dict) else None
        for name, entry in listed.items() if isinstance(listed, dict) else ():
            plain = _NAME.match(name) and ".." not in name.split("/")
            if plain and isinstance(entry, dict) and entry.get("sha256") == digest:
                yield os.path.join(place, name)


def _call(command: list[str], emit: Emit) -> tuple[int, Any]:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
    )
    assert process.stdout is not None and process.stderr is not None
    parts: list[bytes] = []
    reader = threading.Thread(target=_read, args=(process.stdout, parts), daemon=True)
    reader.start()
    for line in process.stderr:
        emit({"log": line.decode("utf-8", "replace").rstrip("\n")[:2000]})
    code = process.wait()
    reader.join(5.0)
    try:
        return code, json.loads(b"".join(parts).decode("utf-8"))
    except ValueError:
        raise JobError(
            "the program printed no result, exit code {}".format(code), "see the job's log"
        ) from None


def _read(pipe: IO[bytes], parts: list[bytes]) -> None:
    size = 0
    for block in iter(lambda: pipe.read(65536), b""):
        size += len(block)
        if size <= _MOST_ANSWER:
            parts.append(block)
