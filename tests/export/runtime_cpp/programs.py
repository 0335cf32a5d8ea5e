"""What the test programs of the C++ runtime say."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.export.runtime_cpp.built import SANITIZERS

ENVIRONMENT = {**os.environ, **SANITIZERS}


def read_by_cpp(programs: Path, kind: str, documents: Iterable[bytes]) -> list[str]:
    """`ok ...` or `refused` for each document of a kind of `fuzz.cpp`; all are read by one process."""
    stream = b"".join(struct.pack("<I", len(data)) + data for data in documents)
    done = subprocess.run(
        [programs / "fuzz", kind], input=stream, capture_output=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return done.stdout.decode().splitlines()


def verified(
    programs: Path, folders: Iterable[Path], trust: str | Path = "unsigned"
) -> list[tuple[int, str]]:
    """Status, and release id or message, of each bundle."""
    done = subprocess.run(
        [programs / "verify_bundles", trust],
        input="".join(f"{folder}\n" for folder in folders),
        text=True, capture_output=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found = [line.partition(" ") for line in done.stdout.splitlines()]
    return [(int(status), words) for status, _, words in found]
