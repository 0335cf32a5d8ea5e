"""Reading one YAML file: values, the line of every key, and duplicate keys as errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError

KeyPath = tuple[str, ...]
_DEEPEST = 20


@dataclass(frozen=True)
class YamlFile:
    """A parsed file: its values and, for every key, where it stands."""

    path: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int]


def read_yaml(path: Path) -> YamlFile:
    """Read a mapping from a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, is not a mapping, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        fix = f"files there: {', '.join(near)}" if near else "give the path of a deploy config"
        raise ConfigError("no such config file", where=str(path), fix=fix) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            f"not valid YAML: {reason}", where=where, fix="check indentation and quotes"
        ) from None
    if isinstance(values, dict) and not all(isinstance(key, str) for key in values):
        raise ConfigError(
            "keys must be text", where=str(path), fix="quote numbers and null if they are meant as keys"
        )
    if not isinstance(values, dict) or node is None:
        raise ConfigError(
            "must be a mapping of sections", where=str(path), fix="start from `figkd-pipeline init`"
        )
    lines: dict[KeyPath, int] = {}
    _walk(node, (), lines, path)
    return YamlFile(path, values, lines)


def _walk(node: yaml.Node, prefix: KeyPath, lines: dict[KeyPath, int], path: Path) -> None:
    if len(prefix) > _DEEPEST:
        raise ConfigError(
            f"{'.'.join(prefix[:3])}... contains itself, or is nested too deeply", where=str(path)
        )
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = (*prefix, str(key_node.value))
            line = key_node.start_mark.line + 1
            if key in lines:
                raise ConfigError(
                    f"{'.'.join(key)} stands twice (first on line {lines[key]})",
                    where=f"{path}:{line}",
                    fix="keep one of the two",
                )
            lines[key] = line
            _walk(value_node, key, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*prefix, str(index))] = item.start_mark.line + 1
            _walk(item, (*prefix, str(index)), lines, path)
