"""Bundles whose program is this working copy's, with a self-test that does what the test wants."""

from __future__ import annotations

from pathlib import Path

from tests.export.runtime.bundle.made import FILES, write_bundle

ROOT = Path(__file__).parents[3]
PASSES = "print('self-test passed')"
FAILS = "print('image 3: label b instead of a'); sys.exit(1)"
_PROGRAM = """import sys
sys.path.insert(0, {root!r})
if sys.argv[1] == "self-test":
    {self_test}
    sys.exit(0)
from export.runtime.install.main import main
sys.exit(main(sys.argv[1:]))
"""


def bundle_at(
    folder: Path, sequence: int, self_test: str = PASSES, engine: bytes = b"an engine" * 100, **more: object
) -> Path:
    program = _PROGRAM.format(root=str(ROOT), self_test=self_test).encode()
    return write_bundle(
        folder, {**FILES, "run.pyz": program, "engine/fp32.onnx": engine}, sequence=sequence, **more
    )
