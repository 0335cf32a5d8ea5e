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


def several_at(folder: Path, sequence: int, *needs: dict[str, object]) -> Path:
    """A bundle of two engines, `first` and `second`, with these needs."""
    none = {"architecture": "", "compute_capability": [], "l4t": "", "versions": {}, "cpu_features": []}
    engines = [
        {"name": name, "file": f"engine/{name}", "backend": "onnxruntime", "precision": "fp32", "threads": 0,
         "answers": "", "needs": {**none, **needs[number]}}
        for number, name in enumerate(("first", "second"))
    ]  # fmt: skip
    files = {f"engine/{name}{end}": b"x" for name in ("first", "second") for end in ("", ".json")}
    program = _PROGRAM.format(root=str(ROOT), self_test=PASSES).encode()
    changes = {"format": 2, "counts": 1, "engines": engines, "engine": None, "needs": None}
    return write_bundle(folder, {**FILES, **files, "run.pyz": program}, sequence=sequence, **changes)
