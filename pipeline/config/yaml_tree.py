"""YAML text to plain values: bounded while it is parsed, with the line of every key and the fault of every scalar.

The text is parsed once, into a tree of nodes. Aliases are counted as what they stand for before anything is
built from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError
from yaml.constructor import SafeConstructor
from yaml.reader import ReaderError

from pipeline.config.problems import UNSHOWABLE, cut
from pipeline.config.text import MAX_BYTES, TOO_LARGE

KeyPath = tuple[str, ...]
Values = dict[str, Any]
"""What a YAML mapping holds, before it is checked: plain values by key."""

MAX_VALUES = 5_000
MAX_DEPTH = 20
MAX_KEY = 128
MAX_TEXT = 4096
_LONGEST_NUMBER = 64
_NUMBERS = range(-(2**63), 2**63)

_TAG = "tag:yaml.org,2002:"
_TEXT = f"{_TAG}str"
_SCALARS = {
    _TEXT: "text",
    f"{_TAG}int": "an integer",
    f"{_TAG}float": "a number",
    f"{_TAG}bool": "true or false",
    f"{_TAG}null": "null",
}
_NOTHING = object()


@dataclass
class Allowance:
    """What one config may still cost, with the files that it extends and what is set on the command line."""

    bytes: int = MAX_BYTES
    values: int = MAX_VALUES


@dataclass(frozen=True)
class Fault:
    """A key or a value that YAML can say and a config cannot hold; it is left out of the values."""

    path: KeyPath
    line: int
    reason: str
    fix: str
    value: str | None = None


@dataclass(frozen=True)
class Tree:
    """What a YAML text says.

    Attributes:
        value: plain dicts, lists and scalars, none of them shared; None for an empty text.
        lines: the line of every key and list item, from 1.
        faults: what was left out of `value`, in the order of the text.
    """

    value: Any
    lines: dict[KeyPath, int]
    faults: list[Fault]


class Refused(Exception):
    """A text that is no YAML document of a bearable size."""

    def __init__(self, what: str, line: int, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.line = line
        self.fix = fix


def parse(text: str, allowance: Allowance) -> Tree:
    """Parse one YAML document, at the expense of `allowance`.

    Raises:
        Refused: the syntax is wrong, a key stands twice, or the text, its nesting or what its aliases stand for
            is too large.
    """
    allowance.bytes -= len(text)
    if allowance.bytes < 0:
        raise Refused(TOO_LARGE, 1, "shorten it")
    node = _compose(text, allowance)
    builder = _Builder()
    value = None if node is None else builder.build(node, ())
    return Tree(None if value is _NOTHING else value, builder.lines, builder.faults)


def _compose(text: str, allowance: Allowance) -> yaml.Node | None:
    try:
        loader = _BoundedLoader(text, allowance)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _invalid(f"the control character U+{int(error.character):04X}", line, "remove it") from None
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    except yaml.MarkedYAMLError as error:
        mark, reason = error.problem_mark or error.context_mark, error.problem or str(error)
        if isinstance(error, ComposerError) and error.context:  # half of the sentence stands there
            reason = f"{error.context} {reason}"
        raise _invalid(reason, mark.line + 1 if mark else 1) from None
    except (ValueError, OverflowError):  # from chr() and int() in PyYAML's scanner
        raise _invalid("an escape or a number that is out of range", loader.line + 1) from None
    finally:
        loader.dispose()


def _invalid(reason: str, line: int, fix: str = "check indentation and quotes") -> Refused:
    return Refused(f"not valid YAML: {cut(reason, 200)}", line, fix)


class _Extent(NamedTuple):
    """How large a node is with its aliases expanded: nodes in it, and levels of nesting."""

    nodes: int
    levels: int


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's parser and composer, which give up as soon as a document is too large or too deep."""

    def __init__(self, text: str, allowance: Allowance) -> None:
        super().__init__(text)
        self._allowance = allowance
        self._level = 0
        self._extents: dict[yaml.Node, _Extent] = {}  # of finished nodes

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        line = _line(event)
        before = self._allowance.values
        self._level += 1
        self._check(line)
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if not isinstance(event, yaml.AliasEvent):
            self._allowance.values -= 1
            levels = 1 + max((self._extents[child].levels for child in _children(node)), default=0)
            self._extents[node] = _Extent(before - self._allowance.values, levels)
        elif extent := self._extents.get(node):
            self._allowance.values -= extent.nodes
            self._check(line, extent.levels)
        else:  # not finished: the alias is inside of what it stands for
            raise Refused(f"'*{cut(str(event.anchor))}' contains itself", line, "write out what is meant")
        self._level -= 1
        return node

    def _check(self, line: int, levels: int = 1) -> None:
        if self._level + levels - 1 > MAX_DEPTH:
            raise Refused(f"nested too deeply: more than {MAX_DEPTH} levels", line, "no key is so deep")
        if self._allowance.values < 0:
            raise Refused(
                f"more than {MAX_VALUES:,} keys and values, counting what aliases stand for",
                line,
                "shorten it",
            )


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


@dataclass
class _Builder:
    """Makes values of a tree of nodes whose size is known to be bearable."""

    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        """The value of a node; `_NOTHING` if it has none."""
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag != f"{_TAG}{'map' if isinstance(node, yaml.MappingNode) else 'seq'}":
            reason = f"has the type {_shown_tag(node)}, which no key takes"
            return self._fault(path, node, reason, "remove the tag")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        items = []
        for index, item in enumerate(node.value):
            inner = (*path, str(index))
            self.lines[inner] = _line(item)
            items.append(self.build(item, inner))
        return _NOTHING if any(item is _NOTHING for item in items) else items

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> Values:
        values = {}
        for key, (key_node, value_node) in self._entries(node, path).items():
            inner = (*path, key)
            self.lines[inner] = _line(key_node)
            value = self.build(value_node, inner)
            if value is not _NOTHING:
                values[key] = value
        return values

    def _entries(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Key and value nodes of a mapping, after those that `<<` merges into it; its own win, then earlier ones."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in own:
                what = f"{cut('.'.join((*path, key)))} stands twice (first on line {_line(own[key][0])})"
                raise Refused(what, _line(key_node), "keep one of the two")
            own[key] = (key_node, value_node)
            if key_node.tag == f"{_TAG}merge":
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if isinstance(source, yaml.MappingNode):
                        merged = self._entries(source, path) | merged
                    else:
                        reason = "must name a section, or a list of sections"
                        self._fault((*path, key), key_node, reason, "such as <<: *anchor")
        return {key: entry for key, entry in (merged | own).items() if entry[0].tag == _TEXT}

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        text = node.value if isinstance(node, yaml.ScalarNode) else f"({_shown_tag(node)})"
        inner = (*path, cut(text, MAX_KEY) or "''")
        if node.tag not in (_TEXT, f"{_TAG}merge") or not isinstance(node, yaml.ScalarNode):
            self._fault(inner, node, "keys must be text", "quote it if it is meant as a key")
        elif not text:
            self._fault(inner, node, "an empty key", "name it, or remove it")
        elif len(text) > MAX_KEY:
            self._fault(inner, node, f"a key of more than {MAX_KEY} characters", "shorten it")
        elif found := UNSHOWABLE.search(text):
            self._fault(inner, node, f"a key with {_character(found[0])}", "remove it")
        else:
            return str(text)
        return None

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        try:
            return _plain(node)
        except _Unfit as error:
            return self._fault(path, node, error.reason, error.fix, node.value)

    def _fault(
        self, path: KeyPath, node: yaml.Node, reason: str, fix: str, value: str | None = None
    ) -> object:
        self.faults.append(Fault(path, _line(node), reason, fix, value))
        return _NOTHING


class _Unfit(Exception):
    """A scalar that is no value of any key."""

    def __init__(self, reason: str, fix: str = "quote it, without a tag, if it is meant as text") -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


def _plain(node: yaml.ScalarNode) -> str | int | float | bool | None:
    """The text, number, truth value or null that a scalar says."""
    text, kind = node.value, _SCALARS.get(node.tag)
    if node.tag == f"{_TAG}timestamp":
        raise _Unfit("is a date, which no key takes")
    if kind is None:
        raise _Unfit(f"has the type {_shown_tag(node)}, which no key takes")
    if node.tag == _TEXT:
        if len(text) > MAX_TEXT:
            raise _Unfit(f"is longer than {MAX_TEXT:,} characters", "shorten it")
        if found := UNSHOWABLE.search(text):
            raise _Unfit(f"has {_character(found[0])}; no key takes more than one plain line", "remove it")
        return str(text)
    try:
        if len(text) > _LONGEST_NUMBER:
            raise _Unfit(f"is too long for {kind}")
        value: int | float | bool | None = SafeConstructor.yaml_constructors[node.tag](
            SafeConstructor(), node
        )
    except (yaml.YAMLError, ValueError, LookupError, ArithmeticError):
        raise _Unfit(f"is not {kind}") from None
    if isinstance(value, int) and value not in _NUMBERS:
        raise _Unfit("is larger than any number that a key takes", "take a smaller one")
    return value


def _line(part: yaml.Node | yaml.Event) -> int:
    return part.start_mark.line + 1 if part.start_mark else 1


def _shown_tag(node: yaml.Node) -> str:
    return cut(str(node.tag).replace(_TAG, "!!"))


def _character(character: str) -> str:
    if character in "\n\r\x85\u2028\u2029":
        return "a line break"
    return f"the control character U+{ord(character):04X}"
