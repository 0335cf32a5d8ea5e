"""What a file says about its inputs and outputs: class names, the image that it takes, and who reads its INT8.

In an ONNX file it stands in the model's metadata, one JSON value a key, which every runtime hands out; of an engine in
the sidecar beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import onnx

    from export.cpu_layouts import CpuLayout
    from export.runtime.bundle.preprocess import Preprocessing

CLASSES = "figkd.classes"
"""JSON list: the class of each logit, in the order of the outputs."""
INPUT = "figkd.input"
"""JSON object: the image that the graph takes (`ImageInput`)."""
INT8_LAYOUT = "figkd.int8_layout"
"""`tensorrt` or `onnxruntime`: whose layout of Q/DQ nodes it is."""
INT8_CPUS = "figkd.int8_cpus"
"""JSON object of an INT8 file for ONNX Runtime's CPU: for which CPUs it is, and how it is stored."""
NOTE = "figkd.note"
"""A sentence for people."""
MOST_CLASSES = 1_000_000

_TENSORRT_NOTE = (
    "INT8 in TensorRT's layout, with FP16 scales. ONNX Runtime computes it wrongly unless its optimizer "
    "WeightBiasQuantization is disabled: take the file whose figkd.int8_layout is onnxruntime there."
)
_ONNXRUNTIME_NOTE = (
    "INT8 in the layout that ONNX Runtime's CPU fuses. "
    "For TensorRT take the file whose figkd.int8_layout is tensorrt. For CPUs: {cpus}."
)


@dataclass(frozen=True)
class ImageInput:
    """The image that a graph takes, and how a photo becomes one; decoding, resizing and cropping are the caller's."""

    layout: Literal["NHWC", "NCHW"]
    dtype: Literal["uint8", "float32"]
    height: int
    width: int
    channels: str = "RGB"
    normalisation: str = "inside the graph"
    """`inside the graph`: values of 0 to 255 as they are. `(x / 255 - mean) / std`: to be done before."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int = 0
    """Side of the square that a photo's central square is resized to (bicubic, antialiased) before its centre is cut to
    `height` x `width`; 0 where that is not known."""
    levels: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Which values of more than 8 bits become black and white, by kind (`integer`, `float`)."""


@dataclass(frozen=True)
class Contract:
    """What a file tells; empty where it does not."""

    classes: tuple[str, ...] = ()
    """Class names by output."""
    image: Mapping[str, Any] | None = None
    """`ImageInput` as plain values."""


def metadata(classes: Sequence[str], image: ImageInput) -> dict[str, str]:
    """Metadata of an ONNX file with these classes and this input."""
    return {CLASSES: json.dumps(list(classes), ensure_ascii=False), INPUT: json.dumps(asdict(image))}


def mark_layout(model: onnx.ModelProto, source: onnx.ModelProto, cpu: CpuLayout | None) -> None:
    """Give an INT8 model the metadata of its source, and say who reads its layout; in place.

    Args:
        model: the INT8 model.
        source: what it was made from.
        cpu: the layout of a file for ONNX Runtime's CPU; None for TensorRT's.
    """
    from export import graph

    said: dict[str, str] = {INT8_LAYOUT: "tensorrt", NOTE: _TENSORRT_NOTE}
    if cpu is not None:
        said = {
            INT8_LAYOUT: "onnxruntime",
            INT8_CPUS: json.dumps(cpu.facts()),
            NOTE: _ONNXRUNTIME_NOTE.format(cpus=cpu.cpus),
        }
    graph.set_metadata(model, {item.key: item.value for item in source.metadata_props} | said)


def contract_of(model: onnx.ModelProto) -> Contract:
    """What an ONNX model's metadata tells; what is no such value counts as untold."""
    metadata = {item.key: item.value for item in model.metadata_props}
    classes, image = (_parsed(metadata.get(key, "")) for key in (CLASSES, INPUT))
    return Contract(
        classes=tuple(classes) if is_names(classes) else (), image=image if isinstance(image, dict) else None
    )


def preprocessing_of(image: Mapping[str, Any] | None) -> Preprocessing | None:
    """How a photo becomes the input of a file with `image` in its metadata; None if there is none, or it is invalid.

    Args:
        image: `Contract.image`, or the same of a sidecar.
    """
    from export.runtime.bundle.errors import BundleRefused
    from export.runtime.bundle.preprocess import Preprocessing, from_json

    try:
        found = dict(image or {})
        levels = {str(kind): (float(low), float(high)) for kind, (low, high) in found["levels"].items()}
        made = Preprocessing(
            side=found["resize"],
            size=found["height"],
            dtype=found["dtype"],
            mean=tuple(float(value) for value in found["mean"]),
            std=tuple(float(value) for value in found["std"]),
            **({"levels": levels} if levels else {}),
        )
        square = found["height"] == found["width"] and found["channels"] == "RGB"
        return from_json(made.to_json()) if square else None
    except (KeyError, TypeError, ValueError, AttributeError, BundleRefused):
        return None


def is_names(value: Any) -> bool:
    """Whether a value is a list of class names, each once."""
    return (
        isinstance(value, list | tuple)
        and len(value) <= MOST_CLASSES
        and all(isinstance(name, str) and len(name) <= 4096 for name in value)
        and len(set(value)) == len(value)
    )


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
