"""A bundle of a tiny classifier of 8 x 8 images, which runs in ONNX Runtime."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from export.bundle.content import Content, Lineage, Measured, Packed
from export.bundle.pictures import photograph, png_bytes
from export.bundle.write import write_bundle
from export.engines import BACKENDS
from export.runtime.bundle import canonical
from export.runtime.bundle.golden import npy_bytes
from export.runtime.bundle.manifest import EngineEntry, Needs
from export.runtime.bundle.preprocess import Preprocessing
from export.runtime.counts import counts_of
from tests.pipeline.devices.tiny import CLASSES, classifier, images

NAMES = ["ant", "bée", "cat <b>", "dog|x", "eel"]
STEP = {"step": "data", "key": "1", "digest": "2"}
SPEC = Preprocessing(side=8, size=8)


def content(folder: Path, layout: str = "uint8_nhwc", **changes: Any) -> Content:
    """What `write_bundle` takes; `folder` gets the engine. Changes are of the content, or of its engine."""
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
        engines=[
            Packed(
                EngineEntry("engine/fp32.onnx", "onnxruntime", "fp32", 1),
                {"engine/fp32.onnx": engine, "engine/fp32.onnx.json": engine.with_name("fp32.onnx.json")},
                logits,
                "engine",
                Measured(
                    {"top1": "71.5", "n": "200", "source": "engine"},
                    [{"boundary": "engine", "batch": "1", "n": "1000", "median_ms": "0.5", "p99_ms": ""}],
                    [{"metric": "top1", "goal": "min", "limit": "60", "value": "71.5", "verdict": "pass"}],
                    {"cpu": "some"},
                    {"numpy": "2.0", "PyWavelets": "1.6"},
                ),
            )
        ],
        classes=NAMES,
        preprocessing=spec,
        inputs=views,
        pictures=pictures,
        lineage=Lineage(
            "fonts", "big", "small", "figkd", "0" * 64, "abc", [{"step": "data", "key": "1", "digest": "2"}]
        ),
        parameters=960,
    )
    of_engine = {field.name for field in fields(Packed)}
    own = {name: value for name, value in changes.items() if name in of_engine}
    rest = {name: value for name, value in changes.items() if name not in of_engine}
    return replace(made, engines=[replace(made.engines[0], **own)], **rest)


def bundle(folder: Path, **changes: Any) -> Path:
    """A bundle in `folder`."""
    return write_bundle(content(folder / "made", **changes), folder)[0]


def several(folder: Path, first: Needs | None = None, second: Needs | None = None, **changes: Any) -> Content:
    """A content of two engines that answer a little differently: `cpu-int8`, then `cpu-fp32`, each with its needs."""
    made = content(folder)
    engines = []
    for name, needs, scale in (("int8", first, 1.01), ("fp32", second, 1.0)):
        source, engine = folder / f"{name}.source.onnx", folder / f"cpu-{name}.onnx"
        model = onnx.load(folder / "source.onnx")
        (weights,) = model.graph.initializer
        weights.CopyFrom(numpy_helper.from_array(scale * numpy_helper.to_array(weights), weights.name))
        onnx.save(model, source)
        BACKENDS["onnxruntime"].build(source, engine, batch_sizes=(1, 4))
        loaded = BACKENDS["onnxruntime"].load(engine, threads=1)
        logits = loaded.infer(made.preprocessing.batch(list(made.inputs)))
        loaded.close()
        place = f"engine/cpu-{name}"
        answers = {
            "reference.json": canonical.encode(counts_of(logits).to_json()),
            "canary/answers.npy": npy_bytes(logits.argmax(axis=1).astype("<i4")),
        }
        engines.append(
            replace(
                made.engines[0],
                entry=EngineEntry(f"{place}/x.onnx", "onnxruntime", name, 1, needs or Needs(), f"cpu-{name}"),
                files={f"{place}/x.onnx": engine, f"{place}/x.onnx.json": Path(f"{engine}.json")},
                logits=logits,
                answers=answers,
            )
        )
    labels = engines[0].logits.argmax(axis=1).astype("<i4")
    more = {"canary/inputs.npy": npy_bytes(made.inputs), "canary/labels.npy": npy_bytes(labels)}
    return replace(made, engines=engines, **{"more": more, **changes})
