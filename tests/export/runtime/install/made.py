"""Bundles as folders and tar files, and a place to install them, for tests on the real disk."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from export.runtime.bundle import UNSIGNED
from export.runtime.install.bundles import verifier
from export.runtime.install.disk import Disk, LocalDisk
from export.runtime.install.errors import TakenBack
from export.runtime.install.site import Machine, Site
from tests.export.runtime.bundle.made import FILES, write_bundle


def site_at(root: Path, boot: str = "one", disk: Disk | None = None) -> Site:
    return Site(
        str(root), disk or LocalDisk(), verifier(UNSIGNED), Machine(boot, lambda: 5.0, lambda s: None)
    )


def bundle_at(folder: Path, sequence: int) -> str:
    """Write a bundle whose content depends on its sequence; its folder."""
    files = {**FILES, "labels.json": b'["a","%d"]\n' % sequence}
    return str(write_bundle(folder, files, sequence=sequence))


def header(
    name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, form: int = tarfile.USTAR_FORMAT
) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(form)


def tar_of(entries: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    for name, content in entries:
        buffer.write(header(name, len(content)) + content + bytes(-len(content) % 512))
    return buffer.getvalue() + bytes(1024)


def entries_of(folder: str, top: str = "small") -> list[tuple[str, bytes]]:
    root = Path(folder)
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return [(f"{top}/{path.relative_to(root).as_posix()}", path.read_bytes()) for path in paths]


def fine(word: str) -> None:
    """A self-test, or a watch, that passes."""


def failing(word: str) -> None:
    raise TakenBack("label 3 instead of 5")
