"""A bundle of a tiny classifier of 8 x 8 images, which runs in ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle.content import Content, Lineage, Measured
from export.bundle.pictures import photograph, png_bytes
from export.bundle.write import write_bundle
from export.engines import BACKENDS
from export.runtime.bundle.manifest import EngineEntry, Needs
from export.runtime.bundle.preprocess import Preprocessing
from tests.pipeline.devices.tiny import CLASSES, classifier, images

NAMES = ["ant", "bée", "cat <b>", "dog|x", "eel"]
STEP = {"step": "data", "key": "1", "digest": "2"}
SPEC = Preprocessing(side=8, size=8)


def content(folder: Path, layout: str = "uint8_nhwc", **changes: Any) -> Content:
    """What `write_bundle` takes; `folder` gets the engine."""
    folder.mkdir(parents=True, exist_ok=True)
    file = classifier(folder / "source.onnx", batch=None, layout=layout)
    engine = folder / "fp32.onnx"
    BACKENDS["onnxruntime"].build(file, engine, batch_sizes=(1, 4))
    spec = (
        SPEC if layout == "uint8_nhwc" else replace(SPEC, dtype="float32", mean=(0.5,) * 3, std=(0.25,) * 3)
    )
    stored = images(4)
    pictures = {"0.png": png_bytes(stored[0]), "1.jpg": photograph(stored[1], orientation=6)}
    views = np.stack([*(spec.view(data) for data in pictures.values()), *stored[2:]])
    loaded = BACKENDS["onnxruntime"].load(engine, threads=1)
    logits = loaded.infer(spec.batch(list(views)))
    loaded.close()
    assert len(NAMES) == CLASSES
    made = Content(
        name="tiny",
        target="cpu",
        channel="stable",
        sequence=3,
        created="2025-01-02T03:04:05Z",
        verdict="ship",
        summary="Tiny.",
        engine=EngineEntry("engine/fp32.onnx", "onnxruntime", "fp32", 1),
        needs=Needs("", (), "", {}),
        files={"engine/fp32.onnx": engine, "engine/fp32.onnx.json": engine.with_name("fp32.onnx.json")},
        classes=NAMES,
        preprocessing=spec,
        inputs=views,
        logits=logits,
        source="engine",
        pictures=pictures,
        measured=Measured(
            {"top1": "71.5", "n": "200", "source": "engine"},
            [{"boundary": "engine", "batch": "1", "n": "1000", "median_ms": "0.5", "p99_ms": ""}],
            [{"metric": "top1", "goal": "min", "limit": "60", "value": "71.5", "verdict": "pass"}],
            {"cpu": "some"},
            {"numpy": "2.0", "PyWavelets": "1.6"},
        ),
        lineage=Lineage(
            "fonts", "big", "small", "figkd", "0" * 64, "abc", [{"step": "data", "key": "1", "digest": "2"}]
        ),
        parameters=960,
    )
    return replace(made, **changes)


def bundle(folder: Path, **changes: Any) -> Path:
    """A bundle in `folder`."""
    return write_bundle(content(folder / "made", **changes), folder)[0]
