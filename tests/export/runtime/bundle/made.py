"""Small bundles for tests: the manifest and files of any content, without an engine that runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from export.runtime.bundle import canonical
from export.runtime.bundle.manifest import NAME

FILES = {
    "engine/fp32.onnx": b"an engine" * 100,
    "engine/fp32.onnx.json": b"{}\n",
    "labels.json": b'["a","b"]\n',
    "golden/images/0.png": b"\x89PNG" + bytes(range(256)),
    "LICENSES/Apache-2.0.txt": b"licence\n",
}


def manifest_of(contents: dict[str, bytes], **changes: Any) -> dict[str, Any]:
    whole = {
        "format": 1,
        "name": "small",
        "target": "cpu",
        "channel": "stable",
        "sequence": 7,
        "created": "2025-01-02T03:04:05Z",
        "verdict": "ship",
        "runtime": 1,
        "engine": {"file": "engine/fp32.onnx", "backend": "onnxruntime", "precision": "fp32", "threads": 1},
        "needs": {"architecture": "", "compute_capability": [], "l4t": "", "versions": {}},
        "licences": ["Apache-2.0"],
        "files": {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in contents.items()},
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def write_bundle(folder: Path, files: dict[str, bytes] | None = None, **changes: Any) -> Path:
    files = FILES if files is None else files
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / NAME).write_bytes(canonical.encode(manifest_of(files, **changes)))
    return folder
