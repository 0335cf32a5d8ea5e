"""The agent as one file: a zip archive that Python runs, the same bytes for the same sources."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export import runtime
from pipeline.core.address import Device

OLDEST_PYTHON = (3, 8)
_HERE = Path(__file__).parent
_RUNTIME = Path(runtime.__file__).parent
_PACKAGE = "figkd_agent"
# Whatever the device's Python imported by this common name when it started is not the one in the archive.
_MAIN = f"""\
import sys
for name in [name for name in sys.modules if name.split(".")[0] in ("export", "{_PACKAGE}")]:
    del sys.modules[name]
from {_PACKAGE}.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Archive:
    """The agent's archive and its name."""

    content: bytes

    @functools.cached_property
    def digest(self) -> str:
        """sha256 (hex)."""
        return hashlib.sha256(self.content).hexdigest()


@functools.cache
def agent_archive() -> Archive:
    """The agent of this version."""
    sources = {
        path.relative_to(_HERE / "agent").as_posix(): path.read_text(encoding="utf-8")
        for path in (_HERE / "agent").rglob("*.py")
    }
    return archive(sources)


def archive(sources: Mapping[str, str]) -> Archive:
    """An archive of the agent's modules, by their path below `agent/`, with `export.runtime` beside them."""
    buffer = io.BytesIO()
    files = {"__main__.py": _MAIN, "export/__init__.py": ""}
    files |= {
        f"export/runtime/{path.relative_to(_RUNTIME).as_posix()}": path.read_text(encoding="utf-8")
        for path in (*_RUNTIME.glob("*.py"), *(_RUNTIME / "bundle").glob("*.py"))
    }
    files |= {f"{_PACKAGE}/{name}": text for name, text in sources.items()}
    with zipfile.ZipFile(buffer, "w") as packed:
        for name in sorted(files):
            packed.writestr(zipfile.ZipInfo(name, _LONG_AGO), files[name], zipfile.ZIP_DEFLATED)
    return Archive(buffer.getvalue())


def remote_command(device: Device) -> str:
    """What the device's shell runs: whatever shell it is, there is nothing in it to quote but Python's place."""
    return (
        f"exec {device.python_word()} -c "
        '\'import json,sys;given=json.loads(sys.stdin.readline());order=given["order"];exec(given["bootstrap"])\''
    )


def order(device: Device, agent: Archive) -> bytes:
    """The first line that the device's Python reads: a program that receives the agent, and becomes it."""
    words = {
        "folder": device.folder,
        "digest": agent.digest,
        "size": len(agent.content),
        "silence_s": device.silence_s,
        "oldest": OLDEST_PYTHON,
    }
    program = base64.b64encode(zlib.compress((_HERE / "bootstrap.py").read_bytes(), 9)).decode()
    unpack = f'import base64,zlib;exec(zlib.decompress(base64.b64decode("{program}")).decode())'
    return json.dumps({"bootstrap": unpack, "order": words}).encode() + b"\n"
