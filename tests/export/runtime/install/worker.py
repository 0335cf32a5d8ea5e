"""Installs one release after another, until it is killed. Prints `try ID` before, and `done ID` after each.

Arguments: root, folder with the bundles, sequence to begin with, and `lazy` for a disk that syncs nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from export.runtime.bundle.manifest import NAME, parse_manifest
from export.runtime.install.disk import Disk, LocalDisk
from export.runtime.install.primitive import collect, install
from export.runtime.install.site import locked, prepare
from export.runtime.install.source import FolderSource
from tests.export.runtime.install.made import bundle_at, fine, site_at


class Lazy:
    """A disk whose syncs do nothing, to show what they are there for."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> object:
        return getattr(self._disk, name)

    def sync(self, path: str) -> None:
        pass


def main(root: str, bundles: str, first: str, *lazy: str) -> None:
    disk: Disk = Lazy(LocalDisk()) if lazy else LocalDisk()  # type: ignore[assignment]
    site = site_at(Path(root), boot="worker", disk=disk)
    prepare(site)
    with locked(root):
        for sequence in range(int(first), int(first) + 100_000):
            folder = bundle_at(Path(bundles) / str(sequence), sequence)
            id = parse_manifest(Path(folder, NAME).read_bytes()).release
            print("try", id, flush=True)
            install(site, FolderSource(folder, disk), fine, fine, 60)
            print("done", id, flush=True)
            collect(site, keep=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
