"""The nodes of an ONNX file that TensorRT's parser and builder complain about."""

from __future__ import annotations

from dataclasses import replace

import onnx

from export.runtime.trt_build import Nodes, ParserFault, describe

_SHOWN = 3


def nodes_of(model: onnx.ModelProto) -> Nodes:
    """What is known of a file's nodes."""
    return Nodes(lambda fault: named(fault, model), lambda text: mentioned(text, model))


def named(fault: ParserFault, model: onnx.ModelProto) -> ParserFault:
    """A parser's error with its node's name and operator, which versions before 10 tell by index only."""
    if fault.operator or not 0 <= fault.index < len(model.graph.node):
        return fault
    node = model.graph.node[fault.index]
    return replace(fault, name=fault.name or node.name, operator=node.op_type)


def mentioned(text: str, model: onnx.ModelProto) -> list[str]:
    """The first nodes of `model` whose names occur in `text`, as `node NAME (operator OP)`.

    The library names a fused layer by its first and last node, `ForeignNode[first...last]`, or joins names by ` + `.
    """
    tidy = text.replace("...", " ")
    for mark in "[]{}(),;:'\"":
        tidy = tidy.replace(mark, " ")
    words = {word.rstrip(".") for word in tidy.split()}
    found = [
        describe(node.name, node.op_type) for node in model.graph.node if node.name and node.name in words
    ]
    return found[:_SHOWN]
