"""The install runs on the Python that a JetPack 5 has, with nothing but the standard library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
SOURCES = sorted((ROOT / "export/runtime/install").glob("*.py"))
_CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from export.runtime.bundle import UNSIGNED
from export.runtime.install.bundles import verifier
from export.runtime.install.disk import LocalDisk
from export.runtime.install.primitive import install, rollback
from export.runtime.install.site import Site, locked, prepare, this_machine
from export.runtime.install.source import FolderSource
disk = LocalDisk()
site = Site(sys.argv[2], disk, verifier(UNSIGNED), this_machine())
prepare(site)
with locked(site.root):
    for folder in sys.argv[3:]:
        print(install(site, FolderSource(folder, disk), lambda f: None, lambda i: None, 60).release.sequence)
    print(rollback(site).sequence)
"""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_python_3_8_reads_it_and_the_standard_library_suffices(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 8))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] in sys.stdlib_module_names, f"line {node.lineno}: {name}"


def test_two_releases_and_back_on_an_old_python(tmp_path: Path) -> None:
    from tests.export.runtime.install.made import bundle_at

    old = next(iter(sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))), None)
    if old is None:
        pytest.skip("no Python 3.8 here")
    folders = [bundle_at(tmp_path / f"b{n}", n) for n in (1, 2)]
    done = subprocess.run(
        [old, "-I", "-c", _CODE, ROOT, tmp_path / "root", *folders],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.split(), done.stderr) == (["1", "2", "1"], "")
