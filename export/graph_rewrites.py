"""Rewrites of what the exporter leaves into forms that every engine fuses: reshapes, pooling, the image's arithmetic.

Every function changes a `ModelProto` in place and leaves alone what does not fit its pattern.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from export.graph import (
    attributes,
    constant,
    consumers,
    order_nodes,
    prune,
    replace_nodes,
    set_initializer,
    shape_of,
    value_shapes,
)

_AFFINE_OPS = ("Div", "Sub", "Mul", "Add")

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


def constant_reshapes(model: onnx.ModelProto) -> None:
    """Give each Reshape whose only unknown output dimension is the batch a constant `[-1, ...]` target.

    The exporter computes such targets from `Shape`; a constant spares every engine the shape arithmetic.
    """
    shapes = value_shapes(model)
    batch = shape_of(model.graph.input[0])[0]
    for node in model.graph.node:
        shape = shapes.get(node.output[0]) if node.op_type == "Reshape" else None
        if not shape or constant(model, node.input[1]) is not None or shape[0] != batch:
            continue
        rest = [dim for dim in shape[1:] if isinstance(dim, int) and dim > 0]
        if len(rest) != len(shape) - 1:
            continue
        name = f"{node.output[0]}_shape"
        node.input[1] = set_initializer(model, name, np.array([-1, *rest], np.int64))
        for index in reversed(range(len(node.attribute))):
            if node.attribute[index].name == "allowzero":
                del node.attribute[index]


def global_pools(model: onnx.ModelProto) -> None:
    """Write `ReduceMean` over H and W as `GlobalAveragePool`, which engines fuse and quantise.

    Where the mean drops both dimensions, a `Flatten` follows.
    """
    shapes = value_shapes(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type != "ReduceMean" or len(node.input) < 2:
            continue
        axes = constant(model, node.input[1])
        shape = shapes.get(node.input[0])
        if axes is None or shape is None or len(shape) != 4:
            continue
        if sorted(int(axis) % 4 for axis in axes.reshape(-1)) != [2, 3]:
            continue
        keeps = attributes(node).get("keepdims", 1)
        node.op_type = "GlobalAveragePool"
        del node.attribute[:]
        del node.input[1:]
        if not keeps:
            flat = node.output[0]
            node.output[0] = _unused_name(model, f"{flat}_pooled")
            nodes.append(
                onnx.helper.make_node("Flatten", [node.output[0]], [flat], f"{node.name}_flatten", axis=1)
            )
    replace_nodes(model, nodes)


def shapes_of_planes(model: onnx.ModelProto) -> None:
    """Let a `Shape` that asks the uint8 NHWC image for its batch ask the transposed image instead.

    TensorRT takes UINT8 at a network's input only, followed by a Cast; and a second reader of the image would
    keep `fold_normalisation` from its work. Vision transformers ask when they expand their class token.
    """
    image = model.graph.input[0].name
    readers = consumers(model)
    asking = [
        node
        for node in readers.get(image, [])
        if node.op_type == "Shape"
        and (attributes(node).get("start", 0), attributes(node).get("end")) == (0, 1)
    ]
    others = [node for node in readers.get(image, []) if node not in asking]
    if not asking or len(others) != 1 or others[0].op_type != "Cast":
        return
    tensor = others[0].output[0]
    while True:
        users = readers.get(tensor, [])
        if len(users) != 1 or users[0].op_type not in (*_AFFINE_OPS, "Transpose"):
            return
        tensor = users[0].output[0]
        if users[0].op_type == "Transpose":
            break
    if attributes(users[0]).get("perm") != [0, 3, 1, 2]:
        return
    for node in asking:
        node.input[0] = tensor
    order_nodes(model)


def fold_normalisation(model: onnx.ModelProto) -> None:
    """Merge the constant arithmetic on a uint8 NHWC image into one `BatchNormalization` after the transpose.

    `Cast -> (Div|Sub|Mul|Add)* -> Transpose(0,3,1,2)` becomes `Cast -> Transpose -> BatchNormalization` with
    mean 0, variance 1 and epsilon 0, so that `y = scale * x + bias` per channel; the constants are composed
    in float64. Anything else is left as it is.

    Why this operator: on CPUs a vector that is broadcast over a last axis of length 3 costs many times what
    it costs over contiguous planes. `Mul` and `Add` behind the transpose do not stay there: ONNX Runtime's
    transpose optimizer moves them back in front of it where a quantised convolution follows. This operator it
    leaves alone.
    """
    readers = consumers(model)
    image = model.graph.input[0].name
    first = readers.get(image, [])
    if len(first) != 1 or first[0].op_type != "Cast":
        return
    chain: list[onnx.NodeProto] = []
    scale: Array = np.ones((), np.float64)
    bias: Array = np.zeros((), np.float64)
    tensor = first[0].output[0]
    while True:
        users = readers.get(tensor, [])
        if len(users) != 1:
            return
        node = users[0]
        if node.op_type == "Transpose":
            break
        if node.op_type not in _AFFINE_OPS:
            return
        left = node.input[0] == tensor
        value = constant(model, node.input[1 if left else 0])
        if value is None or (node.op_type == "Div" and not left):
            return
        number = value.astype(np.float64)
        if node.op_type == "Div":
            scale, bias = scale / number, bias / number
        elif node.op_type == "Mul":
            scale, bias = scale * number, bias * number
        elif node.op_type == "Add":
            bias = bias + number
        else:
            scale, bias = (scale, bias - number) if left else (-scale, number - bias)
        chain.append(node)
        tensor = node.output[0]
    transpose = node
    if not chain or attributes(transpose).get("perm") != [0, 3, 1, 2]:
        return
    shape = value_shapes(model).get(image)
    if shape is None or not isinstance(shape[-1], int):
        return
    channels = shape[-1]
    if any(
        constant_.size not in (1, channels) or constant_.shape[-1:] not in ((), (1,), (channels,))
        for constant_ in (scale, bias)
    ):
        return
    output = transpose.output[0]
    planes = _unused_name(model, "image_nchw")
    transpose.input[0] = first[0].output[0]
    transpose.output[0] = planes
    vectors = {
        "image_scale": np.broadcast_to(scale.reshape(-1), (channels,)),
        "image_bias": np.broadcast_to(bias.reshape(-1), (channels,)),
        "image_zero": np.zeros(channels),
        "image_one": np.ones(channels),
    }
    constants = [
        set_initializer(model, _unused_name(model, name), value.astype(np.float32))
        for name, value in vectors.items()
    ]
    normalise = onnx.helper.make_node(
        "BatchNormalization", [planes, *constants], [output], _unused_name(model, "normalise"), epsilon=0.0
    )
    dropped = {id(node) for node in chain}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if id(node) in dropped:
            continue
        nodes.append(node)
        if node.output[0] == planes:
            nodes.append(normalise)
    replace_nodes(model, nodes)
    prune(model)


def _unused_name(model: onnx.ModelProto, name: str) -> str:
    graph = model.graph
    taken = {value.name for value in (*graph.initializer, *graph.input, *graph.output)}
    for node in graph.node:
        taken.update((node.name, *node.input, *node.output))
    while name in taken:
        name += "_"
    return name
