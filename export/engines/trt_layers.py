"""The layers of a parsed network; those of the engine built from it are in `export.engines.trt_built`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Layers whose arithmetic a precision is chosen for.
_COMPUTE = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "FULLY_CONNECTED")

Layer = dict[str, Any]


def layers_path(engine: Path) -> Path:
    """`<engine>.layers.json`."""
    engine = Path(engine)
    return engine.with_name(f"{engine.name}.layers.json")


def network_layers(network: Any) -> list[Layer]:
    """Each layer of a parsed network.

    Returns:
        `name`, `type`, `inputs` (tensor names) and `outputs` (`name`, `dtype`, `shape`) of each.
    """
    layers = []
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


def network_summary(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a network consists of.

    Returns:
        `layers`; `types`, a count of each; `compute`, convolutions and products; `quantised`, those of them that read
        dequantised tensors, so that TensorRT can run them in INT8; `half` (FP16 or BF16) and `float`, the others by the
        type of their output.
    """
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
