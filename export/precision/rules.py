"""How each kind of layer is treated in INT8, and why: one rule an entry, in one place.

The layouts of the two engines are opposites. TensorRT quantises what convolutions and products *read*, and
nothing else: signed symmetric values, and no Q/DQ between a convolution and the activation or addition after
it, which it fuses. ONNX Runtime's CPU quantises what they *write* too: it fuses a convolution only if its
output is quantised, prefers unsigned asymmetric activations and INT32 biases.

A rule either keeps nodes out of INT8 (`keeps`), which a user may overrule by its name, or says how Q/DQ nodes
are placed; the functions of placement are below the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import onnx

from export import graph
from export.precision.calibration import Ranges
from export.precision.norms import norm_arithmetic

Layout = Literal["tensorrt", "onnxruntime"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
WEIGHTED = ("Conv", "Gemm", "MatMul")
_POOLS = ("GlobalAveragePool", "ReduceMean", "AveragePool")
_ATTENTION = ("LayerNormalization", "Softmax")
# What may stand between the last product and the logits.
_AFTER_CLASSIFIER = ("Add", "Mul", "Div", "Reshape", "Flatten", "Squeeze", "Identity", "Cast")
_HARD_SWISH_ZERO = -3.0


@dataclass(frozen=True)
class Rule:
    """How one kind of layer is treated.

    Attributes:
        name: as a config and a report name it.
        layouts: where it holds.
        does: what happens to the layer.
        because: why.
        keeps: finds the nodes that stay out of INT8, by name; None for a rule of placement.
        optional: a user may switch it off.
    """

    name: str
    layouts: tuple[Layout, ...]
    does: str
    because: str
    keeps: Callable[[onnx.ModelProto], set[str]] | None = None
    optional: bool = False


def kept_out(model: onnx.ModelProto, layout: Layout, *, without: Collection[str] = ()) -> dict[str, set[str]]:
    """Rule name to the nodes that it keeps out of INT8, rules that find nothing left out.

    Args:
        model: FP32 graph with shapes.
        layout: whose rules.
        without: names of rules that are switched off; those that are not optional stay.
    """
    found = {
        rule.name: rule.keeps(model)
        for rule in RULES
        if rule.keeps and layout in rule.layouts and not (rule.optional and rule.name in without)
    }
    return {name: nodes for name, nodes in found.items() if nodes}


def has_attention(model: onnx.ModelProto) -> bool:
    """Whether the rule `attention` applies."""
    return any(node.op_type in _ATTENTION for node in model.graph.node) or bool(norm_arithmetic(model))


def _activation_products(model: onnx.ModelProto) -> set[str]:
    constants = graph.initializers(model)
    return {
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and not any(name in constants for name in node.input[:2])
    }


def _all_but_weighted(model: onnx.ModelProto) -> set[str]:
    if not has_attention(model):
        return set()
    return {node.name for node in model.graph.node if node.op_type not in WEIGHTED}


def _squeeze_excitation(model: onnx.ModelProto) -> set[str]:
    """Nodes between the pooling and the multiplication of `x * gate(pool(x))`."""
    made, shapes = graph.producers(model), graph.value_shapes(model)
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Mul":
            for trunk, gate in (tuple(node.input), tuple(reversed(node.input))):
                found |= _gate(trunk, gate, made, shapes)
    return found


def _gate(
    trunk: str, gate: str, made: dict[str, onnx.NodeProto], shapes: dict[str, list[int | str]]
) -> set[str]:
    """Names of the nodes that make `gate` from the spatial mean of `trunk`; empty if it is no such gate."""
    inside: set[str] = set()
    weighted = pooled = False
    waiting = [gate]
    while waiting:
        name = waiting.pop()
        node = made.get(name)
        if name == trunk or (node is None and not name):
            return set()
        if node is None or node.name in inside:  # a constant or the image, or seen already
            continue
        shape = shapes.get(name, [])
        if node.op_type in _POOLS and node.input[0] == trunk and all(dim == 1 for dim in shape[2:]):
            pooled = True
            continue
        weighted = weighted or node.op_type in WEIGHTED
        inside.add(node.name)
        waiting += [source for source in node.input if source]
    return inside if weighted and pooled else set()


def _classifier(model: onnx.ModelProto) -> set[str]:
    """The products whose results are the logits, but for a bias or a mean of heads."""
    made = graph.producers(model)
    found: set[str] = set()
    waiting = [value.name for value in model.graph.output]
    while waiting:
        node = made.get(waiting.pop())
        if node is None:
            continue
        if node.op_type in WEIGHTED:
            found.add(node.name)
        elif node.op_type in _AFTER_CLASSIFIER:
            waiting += node.input
    everything = {node.name for node in model.graph.node if node.op_type in WEIGHTED}
    return found if found < everything else set()


_BOTH: tuple[Layout, ...] = ("tensorrt", "onnxruntime")

RULES: tuple[Rule, ...] = (
    Rule(
        "weights",
        _BOTH,
        "Convolutions and products with constant weights are INT8: weights signed and symmetric with one scale "
        "an output channel, so that depthwise convolutions keep the ratio of their channels.",
        "A depthwise channel sees one input channel, and after folding of the batch normalisation the channels "
        "differ by orders of magnitude: one scale for all left 57 % of the predictions where one each left "
        "84 % (EfficientNet-Lite0).",
    ),
    Rule(
        "activation_products",
        _BOTH,
        "Products of two activations stay out of INT8.",
        "Attention scores feed an exponential, and no scale is fixed for them: their range changes with the image.",
        _activation_products,
    ),
    Rule(
        "attention",
        ("onnxruntime",),
        "In graphs with LayerNormalization, Softmax or a norm that is written out only convolutions and products "
        "are INT8, with signed symmetric activations, and what products write stays FP32.",
        "Unsigned activations, or quantised additions and norms, left 8 to 23 % of a ViT's predictions; "
        "quantised results made a ViT slower than FP32, unquantised ones 1.6 times faster.",
        _all_but_weighted,
    ),
    Rule(
        "norms",
        _BOTH,
        "The arithmetic of a norm that is written out (centring, squares, mean, square root, division, scale and "
        "shift) stays out of INT8.",
        "Squares double the range in octaves, and 256 levels leave nothing of the small ones that the norm then "
        "divides by: in ONNX Runtime the logits of a residual network with such norms were off by 0.67 of the largest "
        "one, with this rule and `attention` by 0.05.",
        norm_arithmetic,
    ),
    Rule(
        "preprocessing",
        ("onnxruntime",),
        "What stands between the image and the first convolution stays FP32.",
        "The image is an integer already; quantising it a second time after normalisation only adds an error.",
        lambda model: set(graph.preprocessing(model)),
    ),
    Rule(
        "squeeze_excitation",
        ("tensorrt",),
        "The gate of squeeze-and-excitation (from the pooling to the hard-sigmoid) stays FP16; what it multiplies "
        "does not.",
        "It works on one value a channel, so INT8 saves nothing there, and one wrong value scales a whole channel. "
        "On ONNX Runtime's CPU it is INT8: its FP32 weights would double the file of a MobileNetV3-small.",
        _squeeze_excitation,
        optional=True,
    ),
    Rule(
        "classifier",
        ("tensorrt",),
        "The last product stays FP16.",
        "Its errors reach the logits unattenuated, and for one image it is bound by reading its weights.",
        _classifier,
        optional=True,
    ),
    Rule(
        "logits",
        ("onnxruntime",),
        "The last product has no Q/DQ behind it: INT8 inside, FP32 logits.",
        "256 levels over the range of all logits make the first and the second class equal on close images.",
    ),
    Rule(
        "activations",
        ("tensorrt",),
        "ReLU, hard-swish, SiLU, GELU and norms have no Q/DQ of their own: it stands behind them, in front of "
        "the next convolution or product.",
        "A Q/DQ between a convolution and its activation forbids their fusion and rounds twice.",
    ),
    Rule(
        "saturation",
        ("onnxruntime",),
        "The range of a convolution that feeds only a hard-swish ends at -3, of one that feeds only a "
        "hard-sigmoid where that is 0 and 1.",
        "What lies beyond gives the same result, so that the levels go where the result differs.",
    ),
    Rule(
        "residual_addition",
        ("tensorrt",),
        "Of a residual addition behind a convolution, the shortcut has Q/DQ and the main branch none; with a "
        "convolution on both sides the one with the smaller kernel counts as the shortcut. An addition that "
        "no convolution feeds reads the unrounded values.",
        "TensorRT fuses the addition into the convolution, whose other operand it then reads as INT8. Where "
        "nothing is fused, a rounded shortcut would only add an error in each block.",
    ),
    Rule(
        "half_scales",
        ("tensorrt",),
        "Scales are at least 2**-20.",
        "The remainder is FP16, and so are the scales: a smaller one would round to 0, and divide by it.",
    ),
)
"""All rules, in the order of the documentation."""


def fit_saturation(model: onnx.ModelProto, found: Ranges) -> Ranges:
    """The rule `saturation`: cut the ranges of tensors that only saturating activations read."""
    bounds = dict(found.bounds)
    for name, readers in graph.consumers(model).items():
        if name not in bounds or not all(r.op_type in ("HardSwish", "HardSigmoid") for r in readers):
            continue
        ends = [_active(reader) for reader in readers]
        low, high = min(e[0] for e in ends), max(e[1] for e in ends)
        bounds[name] = (max(bounds[name][0], low), min(bounds[name][1], high))
    return dataclasses.replace(found, bounds=bounds)


def _active(node: onnx.NodeProto) -> tuple[float, float]:
    """Where a saturating activation is not constant."""
    if node.op_type == "HardSwish":
        return _HARD_SWISH_ZERO, np.inf
    given: dict[str, Any] = graph.attributes(node)
    alpha, beta = float(given.get("alpha", 0.2)), float(given.get("beta", 0.5))
    return min(-beta / alpha, 0.0), max((1 - beta) / alpha, 0.0)


def place_residual_additions(quantised: onnx.ModelProto, found: Ranges, inside: Collection[str]) -> None:
    """The rule `residual_addition`, on a graph whose convolutions and products have their Q/DQ.

    Args:
        quantised: changed in place.
        found: ranges of the FP32 graph.
        inside: names of the nodes that are computed in INT8.
    """
    made, readers = graph.producers(quantised), graph.consumers(quantised)
    before: dict[str, list[onnx.NodeProto]] = {}
    for node in quantised.graph.node:
        if node.op_type != "Add":
            continue
        sources = [made.get(name) for name in node.input]
        fused = [
            s is not None and s.op_type == "Conv" and s.name in inside and len(readers[s.output[0]]) == 1
            for s in sources
        ]
        if not any(fused):
            for index, source in enumerate(sources):
                if source is not None and source.op_type == "DequantizeLinear" and source.input[0] in made:
                    node.input[index] = made[source.input[0]].input[0]
        elif all(fused):
            kernels = [_kernel_area(source) for source in sources if source is not None]
            index = 0 if kernels[0] < kernels[1] else 1
            name = node.input[index]
            if name in found.bounds:
                before[node.name] = list(_pair(quantised, name, found.bounds[name]))
                node.input[index] = before[node.name][-1].output[0]
    if before:
        graph.replace_nodes(
            quantised, [n for node in quantised.graph.node for n in (*before.get(node.name, ()), node)]
        )
    graph.prune(quantised)


def _pair(model: onnx.ModelProto, name: str, bounds: tuple[float, float]) -> Iterator[onnx.NodeProto]:
    limit = max(abs(bounds[0]), abs(bounds[1]))
    scale = graph.set_initializer(model, f"{name}_shortcut_scale", np.array(limit / 127.0, np.float32))
    zero = graph.set_initializer(model, f"{name}_shortcut_zero_point", np.array(0, np.int8))
    quantised, restored = f"{name}_shortcut_q", f"{name}_shortcut_dq"
    for kind, source, target in (
        ("QuantizeLinear", name, quantised),
        ("DequantizeLinear", quantised, restored),
    ):
        yield onnx.helper.make_node(kind, [source, scale, zero], [target], f"{target}_node")


def _kernel_area(convolution: onnx.NodeProto) -> int:
    for attribute in convolution.attribute:
        if attribute.name == "kernel_shape":
            return int(np.prod(np.array(attribute.ints)))
    return 1


def float_logits(quantised: onnx.ModelProto) -> None:
    """The rule `logits`: take the Q/DQ away that stands between a node and an output of the graph."""
    made = graph.producers(quantised)
    for value in quantised.graph.output:
        restored = made.get(value.name)
        rounded = made.get(restored.input[0]) if restored and restored.op_type == "DequantizeLinear" else None
        if restored is None or rounded is None or rounded.op_type != "QuantizeLinear":
            continue
        inner = rounded.input[0]
        restored.output[0] = f"{value.name}_rounded"
        for node in quantised.graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == inner:
                        names[index] = value.name
    graph.prune(quantised)
