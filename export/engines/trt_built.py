"""The layers of a built TensorRT engine in one form, whoever lists them: pure functions.

TensorRT's inspector (its Python API, or trtexec's `--exportLayerInfo`) tells them as JSON. TensorRT-RTX's inspector
sees one fused node; its builder lists what is in it in the verbose log, without a GPU. Both need an engine that was
built with `ProfilingVerbosity.DETAILED`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

from export.runtime.trt_library import LAYERS_MARK

_LONGEST_NAME = 300
_MOST_LAYERS = 100_000

# Marks of types in the libraries' texts; the first that occurs counts, so the longer ones come first.
_TYPES = (
    ("uint8", "uint8"), ("bfloat16", "bf16"), ("bf16", "bf16"), ("float16", "half"), ("fp16", "half"), ("half", "half"),
    ("fp8", "fp8"), ("int8", "int8"), ("float", "float"), ("fp32", "float"), ("int64", "int64"), ("int32", "int32"),
    ("bool", "bool"),
)  # fmt: skip
_BYTES = {
    "half": 2,
    "bf16": 2,
    "float": 4,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "int8": 1,
    "fp8": 1,
    "bool": 1,
}
_FLOATING = frozenset({"half", "bf16", "float"})

# Parts of the names of layers and tactics that convolve or multiply matrices.
_COMPUTE = ("conv", "correlation", "gemm", "matmul", "matrix", "fullyconnected", "fprop", "dgrad")
# Words in the names of fused kernels, `__myl_CastTranCorr_myl0_3`: those that compute, and those that only move.
_FUSED = re.compile(r"^__myl_(\w+?)_(?:myl)?\d")
_FUSED_WORD = re.compile(r"[A-Z][a-z0-9]*")
_FUSED_COMPUTE = frozenset({"Corr", "Conv", "Gemm", "Mat"})
_FUSED_MOVE = frozenset({"Cast", "Copy", "Move", "Resh", "Tran"})

_LOG_LINE = re.compile(r"^Name: (.*?), LayerType: ([^,]*), Inputs: \[(.*)$")
_LOG_TENSOR = re.compile(r"Dimensions: \[([-\d, ]{0,200})\][^{}]{0,2000}?Datatype: (\w{1,40})")
_LOG_TACTIC = re.compile(r"\], TacticName: ([^,]{0,300})")


@dataclass(frozen=True)
class BuiltLayer:
    """One layer, or fused kernel, of a built engine."""

    name: str
    kind: str
    """As the library calls it: `CaskConvolution`, `correlation`, `kgen`."""
    inputs: tuple[str, ...]
    """Types of the activations that it reads: `int8`, `half`, `bf16`, `float` and so on; '' where unknown."""
    outputs: tuple[str, ...]
    """Types of what it writes."""
    written: int | None
    """Bytes that it writes, without padding to a vector's width; None where a shape or type is not known."""
    tactic: str = ""

    @property
    def compute(self) -> bool:
        """It convolves or multiplies matrices."""
        texts = (self.kind.lower(), self.tactic.lower())
        return any(mark in text for mark in _COMPUTE for text in texts) or bool(
            self._fused() & _FUSED_COMPUTE
        )

    @property
    def reformat(self) -> bool:
        """It only changes a tensor's type or layout."""
        fused = self._fused()
        named = "Reformat" in self.name if not self.kind else self.kind in ("Reformat", "NoOp")
        return named or (bool(fused) and fused <= _FUSED_MOVE)

    @property
    def requantise(self) -> bool:
        """It makes INT8 of floating point for a layer that follows, and is not that layer itself."""
        return not self.compute and "int8" in self.outputs and bool(_FLOATING & set(self.inputs))

    def _fused(self) -> set[str]:
        found = _FUSED.match(self.name)
        return set(_FUSED_WORD.findall(found[1])) if found else set()


def from_inspector(text: str) -> tuple[BuiltLayer, ...]:
    """Layers in the engine inspector's JSON, with details or names alone.

    Raises:
        ValueError: it is not that.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    layers = found.get("Layers") if isinstance(found, dict) else found
    if not isinstance(layers, list) or len(layers) > _MOST_LAYERS:
        raise ValueError("no list of layers")
    return tuple(_inspected(layer) for layer in layers)


def from_builder_log(text: str) -> tuple[BuiltLayer, ...]:
    """Layers in the message of TensorRT-RTX's builder that begins with `LAYERS_MARK`.

    Raises:
        ValueError: it is not that.
    """
    if not text.startswith(LAYERS_MARK):
        raise ValueError("no list of layers")
    layers = []
    for line in text.splitlines()[1:]:
        match = _LOG_LINE.match(line)
        if match is None:  # the tensors of the whole engine follow
            break
        read, _, written = match[3].rpartition("], Outputs: [")
        read = read.partition("], Constants: [")[0]
        tactic = _LOG_TACTIC.search(written)
        inputs, outputs = _LOG_TENSOR.findall(read), _LOG_TENSOR.findall(written)
        layers.append(
            BuiltLayer(
                name=match[1][:_LONGEST_NAME],
                kind=match[2][:_LONGEST_NAME],
                inputs=tuple(_type(dtype) for _, dtype in inputs),
                outputs=tuple(_type(dtype) for _, dtype in outputs),
                written=_bytes((_numbers(shape.split(",")), _type(dtype)) for shape, dtype in outputs),
                tactic=tactic[1] if tactic else "",
            )
        )
        if len(layers) > _MOST_LAYERS:
            raise ValueError("too many layers")
    return tuple(layers)


def read_layers(text: str) -> tuple[BuiltLayer, ...]:
    """Layers in either form.

    Raises:
        ValueError: it is none of them.
    """
    return from_builder_log(text) if text.startswith(LAYERS_MARK) else from_inspector(text)


class Summary(TypedDict):
    """What a built engine consists of; both counts are empty where it was built without details."""

    layers: int
    reformats: int
    """Those that only change a tensor's type or layout."""
    requantise: int
    """Those that make INT8 of floating point between the layers that compute."""
    compute: dict[str, int]
    """Convolutions and products by the types that they read and write (`int8 -> float`)."""
    by_output: dict[str, int]
    """All by the type of the first output."""
    written_bytes: int | None
    """What all of them write for one inference; None where it is not known of one."""


class Document(TypedDict):
    """A built engine in `<engine>.layers.json`."""

    summary: Summary
    layers: list[dict[str, Any]]
    """`BuiltLayer` as plain values."""


def summary(layers: Sequence[BuiltLayer]) -> Summary:
    """What a built engine consists of."""
    written = [layer.written for layer in layers]
    typed = Counter(layer.outputs[0] for layer in layers if layer.outputs and layer.outputs[0])
    compute = Counter(
        f"{layer.inputs[0]} -> {layer.outputs[0]}"
        for layer in layers
        if layer.compute and layer.inputs and layer.outputs
    )
    known = [count for count in written if count is not None]
    return {
        "layers": len(layers),
        "reformats": sum(layer.reformat for layer in layers),
        "requantise": sum(layer.requantise for layer in layers),
        "compute": dict(sorted(compute.items())),
        "by_output": dict(sorted(typed.items())),
        "written_bytes": sum(known) if layers and len(known) == len(layers) else None,
    }


def document(layers: Sequence[BuiltLayer]) -> Document:
    """Layers and what they amount to, as JSON values."""
    return {"summary": summary(layers), "layers": [asdict(layer) for layer in layers]}


def _inspected(layer: object) -> BuiltLayer:
    if not isinstance(layer, dict):  # built without details: names alone
        return BuiltLayer(str(layer)[:_LONGEST_NAME], "", (), (), None)
    outputs = _tensors(layer, "Outputs")
    kinds = [str(layer.get(key, ""))[:_LONGEST_NAME] for key in ("LayerType", "ParameterType")]
    kind = kinds[0] or kinds[1]
    if kinds[1] and not any(mark in kind.lower() for mark in _COMPUTE):
        # Such as the type `CudaDepthwise` with the parameters of a convolution.
        kind = kind if kinds[1] in kind else f"{kind} ({kinds[1]})"
    return BuiltLayer(
        name=str(layer.get("Name", ""))[:_LONGEST_NAME],
        kind=kind,
        inputs=tuple(_tensor_type(tensor) for tensor in _tensors(layer, "Inputs")),
        outputs=tuple(_tensor_type(tensor) for tensor in outputs),
        written=_bytes((_numbers(_shape(tensor)), _tensor_type(tensor)) for tensor in outputs),
        tactic=str(layer.get("TacticName", ""))[:_LONGEST_NAME],
    )


def _tensors(layer: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = layer.get(key)
    return [tensor for tensor in found if isinstance(tensor, dict)] if isinstance(found, list) else []


def _shape(tensor: Mapping[str, Any]) -> Sequence[object]:
    found = tensor.get("Dimensions")
    return found if isinstance(found, list) else ["unknown"]


def _tensor_type(tensor: Mapping[str, Any]) -> str:
    # 10.x: "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"; 11.x also has "DataType".
    return _type(str(tensor.get("DataType") or tensor.get("Format/Datatype") or ""))


def _type(text: str) -> str:
    return next((name for mark, name in _TYPES if mark in text.lower()), "")


def _numbers(shape: Iterable[object]) -> list[int] | None:
    """A shape's numbers; None where one is not known, as with shapes decided at run time."""
    try:
        numbers = [int(str(dim)) for dim in shape if str(dim).strip()]
    except ValueError:
        return None
    return numbers if all(0 <= number < 1 << 40 for number in numbers) else None


def _bytes(tensors: Iterable[tuple[list[int] | None, str]]) -> int | None:
    total = 0
    for shape, dtype in tensors:
        if shape is None or dtype not in _BYTES:
            return None
        total += math.prod(shape) * _BYTES[dtype]
    return total
