"""What TensorRT made of a network, counted, and what that says of INT8 before anyone measures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.results.evidence import Part

# INT8 engines of that many times the layers lose in starting kernels what INT8 wins in them.
_MANY_MORE = 1.25


class ParsedNetwork(Part):
    """The network that the parser made of the ONNX file."""

    layers: int
    types: dict[str, int] = Field(default_factory=dict)
    """Type of layer to its count."""
    compute: int = 0
    """Convolutions and matrix products."""
    quantised: int = 0
    """Those of them that read dequantised tensors, so that TensorRT can run them in INT8."""
    half: int = 0
    """Those of the others that write FP16 or BF16."""
    float: int = 0
    """Those that write FP32."""


class BuiltEngine(Part):
    """The engine that the builder made of it; counts of layers as it has fused them."""

    layers: int
    reformats: int = 0
    """Those that only change a tensor's type or layout."""
    requantise: int | None = None
    """Those that make INT8 of floating point between the layers that compute; null in earlier results."""
    compute: dict[str, int] = Field(default_factory=dict)
    """Convolutions and matrix products by the types that they read and write, such as `int8 -> float`."""
    by_output: dict[str, int] = Field(default_factory=dict)
    """All by the type that they write; empty if the builder lists no types."""
    written_bytes: int | None = None
    """What all layers write for one inference; null where a shape or type is not known."""


class Composition(Part):
    """What a TensorRT engine consists of; its file `.layers.json` lists every layer."""

    network: ParsedNetwork | None = None
    engine: BuiltEngine | None = None
    """Null where nobody could be asked: TensorRT tells on the GPU that the engine is for, TensorRT-RTX anywhere."""


class Outlook(Part):
    """What the layers of an INT8 engine let expect, against those of another precision; no measurement."""

    rival: str
    """Id of the engine of the other precision."""
    expect: Literal["no_faster", "maybe_no_faster"]


def int8_outlook(int8: BuiltEngine, rival: BuiltEngine) -> Literal["no_faster", "maybe_no_faster"] | None:
    """Whether an INT8 engine's layers speak against it.

    INT8 pays through faster arithmetic and half the traffic. It cannot where no layer computes in INT8, and hardly
    where there are many more layers to start *and* no fewer bytes to write. One of the two alone is a doubt.

    Args:
        int8: the INT8 engine.
        rival: the engine of the same network in another precision.

    Returns:
        None where nothing speaks against it, or where one of the two was listed without types.
    """
    if not (int8.by_output and rival.by_output):
        return None
    if int8.compute and not any(types.startswith("int8 ") for types in int8.compute):
        return "no_faster"
    more = int8.layers >= _MANY_MORE * rival.layers
    known = int8.written_bytes is not None and rival.written_bytes is not None
    heavier = known and (int8.written_bytes or 0) >= (rival.written_bytes or 0)
    if more and heavier:
        return "no_faster"
    return "maybe_no_faster" if more or heavier else None
