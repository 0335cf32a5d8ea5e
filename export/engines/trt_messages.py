"""What the parser and the builder complain about, as one message that names the node and says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx

from export.errors import BuildError
from export.runtime.remedies import understood, with_meaning
from export.runtime.trt_library import said

_SHOWN = 3
# The parser's codes say more than its texts, which are often the condition that failed, such as "false".
_REASONS = {
    "UNSUPPORTED_NODE": "the operator is not supported",
    "UNSUPPORTED_NODE_ATTR": "an attribute is not supported",
    "UNSUPPORTED_NODE_INPUT": "an input is not supported",
    "UNSUPPORTED_NODE_DATATYPE": "a data type is not supported",
    "UNSUPPORTED_NODE_DYNAMIC": "it is not supported with shapes decided at run time",
    "UNSUPPORTED_NODE_SHAPE": "a shape is not supported",
    "UNSUPPORTED_GRAPH": "the graph is not supported",
    "INVALID_NODE": "the node is not valid",
    "INVALID_GRAPH": "the graph is not valid",
    "MODEL_DESERIALIZE_FAILED": "the file cannot be read as ONNX",
    "MEM_ALLOC_FAILED": "out of memory",
}


def parser_failure(
    library: str, file: str, errors: Iterable[Any], log: Any, model: onnx.ModelProto
) -> BuildError:
    """The error for an ONNX file that was not parsed.

    Args:
        library: name and version.
        file: name of the ONNX file.
        errors: the parser's.
        log: logger, used where the parser has no errors.
        model: the file's content, where the nodes are looked up that the parser names by index only.
    """
    found = list(dict.fromkeys(_parser_error(error, model) for error in errors))
    shown = "; ".join(found[:_SHOWN]) or _reason(log)
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return _with_remedy(f"{library} cannot read {file}: {shown}{more}")


def build_failure(library: str, file: str, log: Any, model: onnx.ModelProto) -> BuildError:
    """The error for a network that was parsed but not built; names the ONNX nodes that the library mentions."""
    reason = _reason(log)
    nodes = mentioned(reason, model)
    where = f"at {', '.join(nodes)}: " if nodes else ""
    return _with_remedy(f"{library} cannot build an engine from {file}: {where}{reason}", log.warnings)


def no_builder(library: str, error: Exception, log: Any) -> BuildError:
    """The error for a library that is there and makes no builder: a driver that is too old, or too little memory."""
    reason = _reason(log) if log.errors or log.warnings else str(error)
    return _with_remedy(f"{library} cannot start: {reason}")


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


def describe(name: str, operator: str) -> str:
    """`node NAME (operator OP)`."""
    return f"node {name or 'without a name'}" + (f" (operator {operator})" if operator else "")


def _reason(log: Any) -> str:
    return "; ".join(dict.fromkeys(said(log)))


def _parser_error(error: Any, model: onnx.ModelProto) -> str:
    text = str(error.desc()).strip()
    code = getattr(error.code(), "name", str(error.code()))
    name, operator = _node(error, model)
    if "Plugin not found" in text:  # the parser's last resort for an operator that it does not know
        text = "the operator is not supported"
    elif text in ("", "false") or text.isidentifier():
        text = _REASONS.get(code, code)
    elif code in _REASONS and code != "INVALID_NODE":
        text = f"{_REASONS[code]}: {text}"
    return f"{describe(name, operator)}: {text}" if name or operator else text


def _node(error: Any, model: onnx.ModelProto) -> tuple[str, str]:
    name, operator = (
        str(getattr(error, label)() or "") if hasattr(error, label) else ""
        for label in ("node_name", "node_operator")
    )
    index = int(error.node())
    if not operator and 0 <= index < len(model.graph.node):
        node = model.graph.node[index]
        name, operator = name or node.name, node.op_type
    return name, operator


def _with_remedy(what: str, beside: Iterable[str] = ()) -> BuildError:
    found = understood([what], beside)
    return BuildError(with_meaning(what, found), found.fix if found else "")
