"""The layers of a config, merged: the files that it extends, itself, and what `--set` says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.terminal import one_line
from pipeline.config.problems import Problem, cut
from pipeline.config.text import Missing, Unusable, decode, read_bytes
from pipeline.config.yaml_tree import MAX_DEPTH, MAX_KEY, Allowance, KeyPath, Refused, Tree, Values, parse
from pipeline.core.errors import ConfigError

MAX_FILES = 8
SHORT = {"store": "folder"}
"""Sections that may be written as one text, and the key that it stands for."""
_NEIGHBOURS = 10


@dataclass
class Layered:
    """Merged values, and where they come from.

    Attributes:
        values: sections, each a dict.
        places: for each dotted key the file and line (or `--set`) that it came from, in the order of the files.
        faults: what the files say and no config can hold; it is not in `values`.
    """

    values: Values
    places: dict[str, str]
    faults: dict[KeyPath, Problem]


def read_layers(path: Path, overrides: Sequence[str]) -> Layered:
    """Read a config with all that it extends, and apply the overrides.

    Raises:
        ConfigError: a file cannot be read, is not YAML or too large; an override is not of the form key=value.
    """
    allowance = Allowance()
    try:
        content = read_bytes(path, allowance.bytes)
    except Missing:
        fix = "give the path of a deploy config"
        if near := sorted(p.name for p in path.parent.glob("*.yaml")):
            more = ", ..." if len(near) > _NEIGHBOURS else ""
            fix = one_line(f"files there: {', '.join(near[:_NEIGHBOURS])}{more}")
        raise ConfigError("no such config file", where=one_line(str(path)), fix=fix) from None
    except Unusable as error:
        raise ConfigError(str(error), where=cut(str(path), 200), fix=error.fix) from None
    layered = _layer(path, content, (), allowance)
    for override in overrides:
        _apply_override(layered, override, allowance)
    return layered


def dotted(path: Iterable[str]) -> str:
    """The name of a key: `distill.figkd.weight`."""
    return ".".join(path)


def _layer(path: Path, content: bytes, below: tuple[str, ...], allowance: Allowance) -> Layered:
    """One file and what it extends; `below` are the files that extend it."""
    chain, name = (*below, os.path.realpath(path)), one_line(str(path))
    try:
        tree = parse(decode(content, path), allowance)
    except Refused as error:
        raise ConfigError(error.what, where=f"{name}:{error.line}", fix=error.fix) from None
    faults = _faults(tree, (), lambda line: f"{name}:{line}")
    values = tree.value
    if not isinstance(values, dict):
        raise ConfigError("must be a mapping of sections", where=name, fix="start from `figkd-pipeline init`")
    places = {dotted(key): f"{name}:{line}" for key, line in tree.lines.items()}
    for section, key in SHORT.items():
        if isinstance(values.get(section), str):
            values[section] = {key: values[section]}
            places[f"{section}.{key}"] = places[section]
    if problem := faults.get(("extends",)):
        raise ConfigError(str(problem))
    parent = values.pop("extends", None)
    if parent is None:
        return Layered(values, places, faults)
    where = places["extends"]
    if not isinstance(parent, str):
        raise ConfigError("extends must name one file", where=where)
    base_path = path.parent / parent
    if (real := os.path.realpath(base_path)) in chain:
        circle = " -> ".join(Path(p).name for p in (*chain, real))
        raise ConfigError(one_line(f"extends itself: {circle}"), where=where, fix="break the circle")
    if len(chain) == MAX_FILES:
        raise ConfigError(f"extends a chain of more than {MAX_FILES} files", where=where, fix="merge some")
    try:
        base_content = read_bytes(base_path, allowance.bytes)
    except Unusable as error:
        fix = "give a path relative to this file" if isinstance(error, Missing) else error.fix
        raise ConfigError(f"extends '{cut(parent)}', which {error}", where=where, fix=fix) from None
    base = _layer(base_path, base_content, chain, allowance)
    return Layered(_merge(base.values, values), base.places | places, base.faults | faults)


def _faults(tree: Tree, prefix: KeyPath, place: Callable[[int], str]) -> dict[KeyPath, Problem]:
    """The faults of a tree that stands at the key `prefix`, the first of each key; `place` is that of a line."""
    faults: dict[KeyPath, Problem] = {}
    for fault in tree.faults:
        path = (*prefix, *fault.path)
        problem = Problem(dotted(path), fault.reason, fault.fix, fault.value, place(fault.line))
        faults.setdefault(path, problem)
    return faults


def _merge(base: Values, top: Values) -> Values:
    merged = dict(base)
    for key, value in top.items():
        if value is None:  # takes back what the other file says: the default, or no such entry
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _apply_override(layered: Layered, text: str, allowance: Allowance) -> None:
    key_text, equals, value_text = text.partition("=")
    path = tuple(part.strip() for part in key_text.split("."))
    said = f"--set {cut(text)}"
    if not equals or not all(path):
        raise ConfigError(
            f"'{cut(text)}' is not of the form key=value",
            where="--set",
            fix="for example --set distill.epochs=20",
        )
    if len(path) > MAX_DEPTH or max(map(len, path)) > MAX_KEY:
        fix = f"at most {MAX_DEPTH} parts of {MAX_KEY} characters"
        raise ConfigError(f"the key of '{cut(text)}' is too long", where="--set", fix=fix)
    try:
        tree = parse(value_text, allowance)
    except Refused as error:
        raise ConfigError(error.what, where=said, fix="quote the value") from None
    if len(path) == 1 and path[0] in SHORT and isinstance(tree.value, str):
        path = (path[0], SHORT[path[0]])
    layered.faults |= _faults(tree, path, lambda _line: said)
    node: Any = layered.values
    for index, part in enumerate(path[:-1]):
        if isinstance(node, list):
            node = _list_item(node, part, text)
            if not isinstance(node, dict | list):
                raise ConfigError(f"'{cut(text)}': '{cut(part)}' holds a value, not a section", where="--set")
            continue
        if not isinstance(node.get(part), dict | list):
            node[part] = {}
            layered.places[dotted(path[: index + 1])] = said
        node = node[part]
    if isinstance(node, list):
        _list_item(node, path[-1], text)
        node[int(path[-1])] = tree.value
    elif tree.value is None:  # as in a file: takes back what was said
        node.pop(path[-1], None)
    else:
        node[path[-1]] = tree.value
    layered.places |= {dotted((*path, *inner)): said for inner in ((), *tree.lines)}


def _list_item(items: list[Any], part: str, text: str) -> Any:
    if not part.isdecimal() or len(part) > 6 or int(part) >= len(items):
        raise ConfigError(
            f"'{cut(text)}': '{cut(part)}' is not a position in a list of {len(items)}",
            where="--set",
            fix="count from 0",
        )
    return items[int(part)]
