"""`run.pyz`: the runtime as one file that any Python 3.8 runs; and a bundle as one tar file. The same bytes each time.

Nothing is compressed: two versions of a compression library write different bytes.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import export
from export.runtime.bundle.manifest import names_of
from export.runtime.bundle.verify import UNSIGNED, open_bundle, signatures_of
from export.runtime.files import write_bytes

RUNTIME = "run.pyz"
_START = '''"""Run the bundle in whose folder this file lies: python3 run.pyz --help."""

import sys

if sys.version_info < (3, 8):
    sys.exit("run.pyz needs Python 3.8 or newer, this is %d.%d" % sys.version_info[:2])

from export.runtime.install import COMMANDS
from export.runtime.serve import COMMAND

if sys.argv[1:] and sys.argv[1] in COMMANDS:
    from export.runtime.install.main import main
elif sys.argv[1:] and sys.argv[1] == COMMAND:
    from export.runtime.serve.main import main

    sys.exit(main(sys.argv[2:]))
else:
    from export.runtime.bundle.cli import main

sys.exit(main(sys.argv[1:]))
'''
_PAST = (1980, 1, 1, 0, 0, 0)


def runtime_archive() -> bytes:
    """The content of `run.pyz`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, text in sorted(_sources()):
            entry = zipfile.ZipInfo(name, _PAST)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, text)
    return buffer.getvalue()


def _sources() -> Iterator[tuple[str, str]]:
    root = Path(str(export.__file__)).parent
    yield "__main__.py", _START
    yield "export/__init__.py", '"""The part of the package that runs engines."""\n'
    for path in (root / "runtime").rglob("*.py"):
        inside = path.relative_to(root / "runtime")
        yield f"export/runtime/{inside.as_posix()}", path.read_text(encoding="utf-8")


def write_tar(folder: Path, out: Path) -> None:
    """Write a bundle and the signatures beside it as one tar file, after checking that it is whole.

    Raises:
        BundleRefused: it is not what its manifest says.
    """
    bundle = open_bundle(folder, UNSIGNED)
    place = Path(bundle.folder)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names_of(bundle.manifest.files):
            _add(archive, f"{place.name}/{name}", bundle.read(name))
        for name, data in sorted(signatures_of(bundle.folder).items()):
            _add(archive, name, data)
    write_bytes(out, buffer.getvalue())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    archive.addfile(entry, io.BytesIO(data))
