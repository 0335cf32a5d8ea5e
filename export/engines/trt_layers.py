"""The layers of a parsed network; those of the engine built from it are in `export.engines.trt_built`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

# Layers whose arithmetic a precision is chosen for.
_COMPUTE = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "FULLY_CONNECTED")


class NetworkTensor(TypedDict):
    """What a layer writes."""

    name: str
    dtype: str
    shape: list[int]
    """Empty where the rank is not known before the network is built."""


class NetworkLayer(TypedDict):
    """A layer of a parsed network."""

    name: str
    type: str
    inputs: list[str]
    """Names of tensors."""
    outputs: list[NetworkTensor]


class NetworkSummary(TypedDict):
    """What a network consists of."""

    layers: int
    types: dict[str, int]
    """A count of each."""
    compute: int
    """Convolutions and products."""
    quantised: int
    """Those of them that read dequantised tensors, so that TensorRT can run them in INT8."""
    half: int
    """Those of the others that write FP16 or BF16."""
    float: int


class NetworkDocument(TypedDict):
    """A parsed network in `<engine>.layers.json`."""

    summary: NetworkSummary
    layers: list[NetworkLayer]


def layers_path(engine: Path) -> Path:
    """`<engine>.layers.json`."""
    engine = Path(engine)
    return engine.with_name(f"{engine.name}.layers.json")


def network_layers(network: Any) -> list[NetworkLayer]:
    """Each layer of a parsed network."""
    layers: list[NetworkLayer] = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        layers.append(
            {
                "name": layer.name,
                "type": layer.type.name,
                "inputs": [tensor.name for tensor in inputs if tensor is not None],
                "outputs": [
                    {"name": t.name, "dtype": t.dtype.name.lower(), "shape": _shape(t)}
                    for t in outputs
                    if t is not None
                ],
            }
        )
    return layers


def _shape(tensor: Any) -> list[int]:
    try:
        return [int(dim) for dim in tuple(tensor.shape)]
    except (TypeError, ValueError):  # the rank is not known before the network is built
        return []


def network_summary(layers: Sequence[NetworkLayer]) -> NetworkSummary:
    """What a network consists of."""
    makers = {output["name"]: layer for layer in layers for output in layer["outputs"]}
    compute = [layer for layer in layers if layer["type"] in _COMPUTE]
    counts: Counter[str] = Counter()
    for layer in compute:
        maker = makers.get(layer["inputs"][0]) if layer["inputs"] else None
        # Weights and activations may be shuffled on their way from the DequantizeLinear.
        while maker is not None and maker["type"] in ("SHUFFLE", "IDENTITY") and maker["inputs"]:
            maker = makers.get(maker["inputs"][0])
        if maker is not None and maker["type"] == "DEQUANTIZE":
            counts["quantised"] += 1
        elif layer["outputs"] and layer["outputs"][0]["dtype"] in ("half", "bf16"):
            counts["half"] += 1
        else:
            counts["float"] += 1
    return {
        "layers": len(layers),
        "types": dict(sorted(Counter(layer["type"] for layer in layers).items())),
        "compute": len(compute),
        "quantised": counts["quantised"],
        "half": counts["half"],
        "float": counts["float"],
    }
