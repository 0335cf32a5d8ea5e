"""Bundles whose engine is a stand-in: right in every file but the engine, which nothing here can load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.bundle.write import write_bundle
from export.runtime.bundle.manifest import EngineEntry, Needs
from export.runtime.files import sha256
from tests.export.bundle.tiny import content


def plan_bundle(
    folder: Path,
    capabilities: Sequence[str] = ("SM87",),
    *,
    backend: str = "tensorrt",
    version: str = "10.3.0.26",
    batch_sizes: Sequence[int] = (1,),
    l4t: str = "",
    facts: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A bundle of a TensorRT engine; `facts` change its sidecar."""
    folder.mkdir(parents=True)
    made = content(folder / "made")
    sidecar = json.loads(made.engines[0].files["engine/fp32.onnx.json"].read_bytes())
    engine = folder / "fp32.engine"
    engine.write_bytes(b"ftrt" + " ".join(capabilities).encode())
    batch = "batch" if len(batch_sizes) > 1 else batch_sizes[0]
    for port in (*sidecar["inputs"], *sidecar["outputs"]):
        port["shape"][0] = batch
    sidecar |= {
        "name": engine.name,
        "backend": backend,
        "bytes": engine.stat().st_size,
        "sha256": sha256(engine),
        "versions": {backend: version},
        "compute_capability": list(capabilities),
        "batch_sizes": list(batch_sizes),
        **(facts or {}),
    }
    beside = engine.with_name("fp32.engine.json")
    beside.write_text(json.dumps(sidecar))
    needs = Needs("", tuple(capabilities), l4t, {backend: version})
    packed = replace(
        made.engines[0],
        entry=EngineEntry("engine/fp32.engine", backend, "fp32", 0, needs),
        files={"engine/fp32.engine": engine, "engine/fp32.engine.json": beside},
    )
    whole = {"target": "-".join(capabilities).lower() or "several", **changes}
    return write_bundle(replace(made, engines=[packed], **whole), folder)[0]
