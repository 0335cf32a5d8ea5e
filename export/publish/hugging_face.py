"""A model repository as Hugging Face reads it: card with front matter, `config.json`, the ONNX file.

Source: https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from export.bundle.documents import RUN, RUNS, TASK
from export.publish.folder import Content
from export.publish.source import NO_LICENCE, CannotExport, Source
from export.runtime.bundle import strict_json
from export.runtime.bundle.model import PREPROCESS

KIND = "hf"
ONNX = "model.onnx"
# Of the hub's own list; others are `other`, with their name.
_LICENCES = (
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "lgpl-3.0", "gpl-2.0", "gpl-3.0", "agpl-3.0",
    "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "unlicense",
)  # fmt: skip
_METRICS = {"top1": ("accuracy", "Top-1 accuracy"), "top5": ("accuracy", "Top-5 accuracy")}
_BICUBIC = 3
"""As Pillow and `transformers` number it."""
_KEPT = ("measured.json", "sbom.cdx.json", "provenance.json")
_MOST = 1 << 24


def repository(source: Source) -> dict[str, Content]:
    """The files of a repository, by path.

    Raises:
        CannotExport: the engine is not an ONNX file.
    """
    manifest = source.manifest
    if not source.kind.onnx:
        raise CannotExport(
            f"{source.entry.file} is an engine for one kind of GPU, and a repository holds what runs anywhere",
            "take the bundle of a target with `engine: onnxruntime`, or export-to oci",
        )
    licences = [name for name in manifest.files if name.startswith("LICENSES/")]
    kept = [name for name in (*_KEPT, *licences) if name in manifest.files]
    return {
        "README.md": (_front(source) + _body(source)).encode("utf-8"),
        "config.json": _json(_config(source)),
        "preprocessor_config.json": _json(_processor(source)),
        ONNX: source.engine,
        PREPROCESS: source.bundle.read(PREPROCESS),
        **{name: source.bundle.read(name) for name in kept},
    }


def _front(source: Source) -> str:
    """The front matter: YAML whose values are JSON, which is YAML too."""
    fields: dict[str, Any] = {**_licence(source.licence), "pipeline_tag": TASK, "library_name": "onnx"}
    fields["tags"] = ["onnx", "knowledge-distillation", source.entry.precision]
    metrics = _metrics(source)
    if metrics:
        data = _data_set(source)
        result = {
            "task": {"type": TASK},
            "dataset": {"name": data, "type": data},
            "metrics": metrics,
        }
        fields["model-index"] = [{"name": source.manifest.name, "results": [result]}]
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---", ""])


def _licence(spdx: str) -> dict[str, str]:
    if spdx == NO_LICENCE:
        return {"license": "unknown"}
    if spdx.lower() in _LICENCES:
        return {"license": spdx.lower()}
    return {"license": "other", "license_name": spdx}


def _metrics(source: Source) -> list[dict[str, Any]]:
    measured = _document(source, "measured.json")
    accuracy = measured.get(source.entry.name, measured).get("accuracy", {})
    found = []
    for key, (kind, name) in _METRICS.items():
        try:
            value = float(accuracy[key]) / 100
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(value):
            found.append({"type": kind, "name": name, "value": round(value, 6)})
    return found


def _data_set(source: Source) -> str:
    try:
        component = _document(source, "sbom.cdx.json")["metadata"]["component"]
        (data,) = component["modelCard"]["modelParameters"]["datasets"]
        return str(data["name"])
    except (KeyError, TypeError, ValueError):
        return "unknown"


def _document(source: Source, name: str) -> dict[str, Any]:
    if name not in source.manifest.files:
        return {}
    found = strict_json.read(source.bundle.read(name), name, _MOST)
    return found if isinstance(found, dict) else {}


def _config(source: Source) -> dict[str, Any]:
    return {
        "id2label": {str(i): name for i, name in enumerate(source.classes)},
        "label2id": {name: i for i, name in enumerate(source.classes)},
        "num_labels": len(source.classes),
        "num_channels": 3,
        "image_size": source.preprocessing.size,
        "problem_type": "single_label_classification",
        "onnx": {
            "file": ONNX,
            "input": source.input.name,
            "output": source.output.name,
            "precision": source.entry.precision,
        },
        "release": source.manifest.release,
    }


def _processor(source: Source) -> dict[str, Any]:
    """The preprocessing in the words of `transformers`; what they cannot say stands in `preprocess.json`."""
    spec = source.preprocessing
    outside = spec.dtype == "float32"
    return {
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": spec.side},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": spec.size, "width": spec.size},
        "do_rescale": outside,
        "rescale_factor": 1 / 255,
        "do_normalize": outside,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
        "data_format": "channels_first" if outside else "channels_last",
    }


def _body(source: Source) -> str:
    """The bundle's own card, with how it is run from here instead of from a bundle."""
    card = source.bundle.read("card.md").decode("utf-8") if "card.md" in source.manifest.files else ""
    body = card.split("---\n", 2)[-1] if card.startswith("---\n") else card
    own = body.replace(RUN, "").replace(RUNS, "")
    return "\n".join([own, "## Use", "", "```python", *_program(source), "```", *_after(source)]) + "\n"


def _program(source: Source) -> list[str]:
    spec = source.preprocessing
    batch = "batch = view[None]  # uint8 [1, H, W, 3]; normalised inside of the graph"
    if spec.dtype == "float32":
        batch = (
            f"batch = ((view / np.float32(255) - np.float32({list(spec.mean)})) / np.float32({list(spec.std)}))"
            ".transpose(2, 0, 1)[None]"
        )
    return [
        "import json",
        "",
        "import numpy as np",
        "import onnxruntime",
        "from PIL import Image, ImageOps",
        "",
        'image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")',
        "short = min(image.size)",
        "left, top = (image.width - short) / 2, (image.height - short) / 2",
        "box = (left, top, left + short, top + short)",
        f"square = image.resize(({spec.side}, {spec.side}), Image.Resampling.BICUBIC, box=box)",
        f"start = {(spec.side - spec.size) // 2}",
        f"view = np.asarray(square)[start : start + {spec.size}, start : start + {spec.size}]",
        batch,
        f'session = onnxruntime.InferenceSession("{ONNX}")',
        f'logits = session.run(None, {{"{source.input.name}": batch}})[0][0]',
        'names = json.load(open("config.json"))["id2label"]',
        "print(names[str(logits.argmax())])",
    ]


def _after(source: Source) -> list[str]:
    return [
        "",
        "A PNG gives the very pixels of the measurement, a JPEG nearly: `preprocess.json` says the steps to the bit. "
        "`transformers.pipeline` does not load this file: it is an ONNX graph with an input of its own.",
        "",
        f"Release `{source.manifest.release}`. Its bundle, with golden data, signatures and runtime, is what "
        "`figkd-pipeline bundle` makes.",
    ]


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
