"""The tar file that a bundle is written to is one that an installer on a device takes, whole."""

from __future__ import annotations

from pathlib import Path

from export.bundle.archive import write_tar
from export.runtime.bundle import UNSIGNED, open_bundle
from export.runtime.bundle.manifest import names_of
from export.runtime.install.tar import TarSource
from tests.export.bundle.tiny import bundle


def test_an_installer_reads_what_is_written(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    opened = open_bundle(folder, UNSIGNED)
    write_tar(folder, tmp_path / "one.tar")
    found = {entry.path: b"".join(entry.blocks) for entry in TarSource(str(tmp_path / "one.tar")).entries()}
    assert found == {f"bundle/{name}": opened.read(name) for name in names_of(opened.manifest.files)}
