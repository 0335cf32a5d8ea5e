"""From a YAML file, what it extends and `--set` overrides to one validated DeployConfig."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config.check import check
from pipeline.config.problems import Problem, did_you_mean, raise_problems
from pipeline.config.schema import DeployConfig
from pipeline.config.yaml_file import KeyPath, read_yaml
from pipeline.errors import ConfigError


@dataclass
class _Layered:
    """Merged values and, for each key, the file and line (or `--set`) that it came from."""

    values: dict[str, Any]
    places: dict[KeyPath, str]


def load_config(path: Path, overrides: Sequence[str] = ()) -> DeployConfig:
    """Read, merge and validate a deploy config.

    Args:
        path: the YAML file; `extends:` in it names a file relative to it, whose values it refines.
        overrides: `a.b=c` texts; values are YAML, later ones win.

    Raises:
        ConfigError: with every problem of the config, each with key, value, reason and place.
    """
    layered = _read_layers(path, ())
    for override in overrides:
        _apply_override(layered, override)
    config, problems = _validate(layered)
    order = list(layered.places)
    problems.sort(key=lambda p: _position(p, order))
    raise_problems(problems, str(path))
    assert config is not None  # without problems there is a config
    return config


def _read_layers(path: Path, seen: tuple[Path, ...]) -> _Layered:
    resolved = path.resolve()
    if resolved in seen:
        chain = " -> ".join(p.name for p in (*seen, resolved))
        raise ConfigError(f"extends itself: {chain}", where=str(path), fix="break the circle")
    file = read_yaml(path)
    values = dict(file.values)
    places = {key: f"{path}:{line}" for key, line in file.lines.items()}
    parent = values.pop("extends", None)
    if parent is None:
        return _Layered(values, places)
    if not isinstance(parent, str):
        raise ConfigError("extends must name one file", where=places[("extends",)])
    base_path = path.parent / parent
    if not base_path.is_file():
        raise ConfigError(
            f"extends '{parent}', which does not exist",
            where=places[("extends",)],
            fix="give a path relative to this file",
        )
    base = _read_layers(base_path, (*seen, resolved))
    return _Layered(_merge(base.values, values), base.places | places)


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for key, value in top.items():
        if value is None:  # takes back what the other file says: the default, or no such entry
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _apply_override(layered: _Layered, text: str) -> None:
    key_text, equals, value_text = text.partition("=")
    path = tuple(part.strip() for part in key_text.split("."))
    if not equals or not all(path):
        raise ConfigError(
            f"'{text}' is not of the form key=value", where="--set", fix="for example --set distill.epochs=20"
        )
    try:
        value = yaml.safe_load(value_text)
    except yaml.YAMLError:
        raise ConfigError(f"the value of '{text}' is not valid YAML", where="--set", fix="quote it") from None
    node: Any = layered.values
    for index, part in enumerate(path[:-1]):
        if isinstance(node, list):
            node = _list_item(node, part, text)
            if not isinstance(node, dict | list):
                raise ConfigError(f"'{text}': '{part}' holds a value, not a section", where="--set")
            continue
        if not isinstance(node.get(part), dict | list):
            node[part] = {}
        node = node[part]
        layered.places[path[: index + 1]] = "--set"
    if isinstance(node, list):
        _list_item(node, path[-1], text)
        node[int(path[-1])] = value
    elif value is None and path[-1] in node:  # as in a file: takes back what was said
        del node[path[-1]]
    else:
        node[path[-1]] = value
    layered.places[path] = f"--set {text}"


def _list_item(items: list[Any], part: str, text: str) -> Any:
    if not part.isdecimal() or int(part) >= len(items):
        raise ConfigError(
            f"'{text}': '{part}' is not a position in a list of {len(items)}",
            where="--set",
            fix="count from 0",
        )
    return items[int(part)]


# What stands in for a required key that is missing or wrong, so that the checks can go on to the rest.
_STAND_INS: dict[KeyPath, Any] = {
    ("name",): "unnamed",
    ("data",): {"dataset": "fonts"},
    ("data", "dataset"): "fonts",
    ("teacher",): {"model": "figkd/resnet_tiny"},
    ("teacher", "model"): "figkd/resnet_tiny",
    ("student",): {"model": "figkd/dsconv_nano"},
    ("student", "model"): "figkd/dsconv_nano",
    ("targets",): {"cpu": {"engine": "onnxruntime"}},
    ("targets", "*", "engine"): "onnxruntime",
}


def _validate(layered: _Layered) -> tuple[DeployConfig | None, list[Problem]]:
    """Validate; on errors, set the keys at fault aside and go on, so that all problems show in one go."""
    values = copy.deepcopy(layered.values)
    problems: list[Problem] = []
    faulty: set[KeyPath] = set()
    config: DeployConfig | None = None
    while config is None:
        try:
            config = DeployConfig.model_validate(values)
        except ValidationError as error:
            known = len(faulty)
            # All keys are found before any is removed: one removal would move the others' errors to their parents.
            found: dict[KeyPath, Any] = {}
            for item in error.errors():
                path = tuple(str(part) for part in item["loc"])
                found.setdefault(path if item["type"] == "missing" else _existing_part(values, path), item)
            for path, item in found.items():
                if item["type"] != "missing":
                    _remove(values, path)
                if path not in faulty:
                    faulty.add(path)
                    problems.append(_problem(path, item, layered.places))
                _stand_in(values, path)
            if len(faulty) == known:  # no progress: a required key without a stand-in
                break
    if config is not None:
        keys = {".".join(path) for path in faulty}
        problems += [
            _with_place(p, layered.places)
            for p in check(config)
            if not any(p.key == key or p.key.startswith(f"{key}.") for key in keys)
        ]
    return config, problems


def _stand_in(values: dict[str, Any], path: KeyPath) -> None:
    for pattern, value in _STAND_INS.items():
        if len(pattern) == len(path) and all(p in ("*", q) for p, q in zip(pattern, path, strict=True)):
            node = values
            for part in path[:-1]:
                node = node.setdefault(part, {})
            node[path[-1]] = copy.deepcopy(value)


def _existing_part(values: dict[str, Any], path: KeyPath) -> KeyPath:
    """The part of a path that exists and can be removed: items of a list stand for the list."""
    node: Any = values
    for index, part in enumerate(path):
        if not (isinstance(node, dict) and part in node):  # pydantic adds names of union members to the path
            return path[:index]
        node = node[part]
    return path


def _remove(values: dict[str, Any], path: KeyPath) -> None:
    node = values
    for part in path[:-1]:
        node = node.get(part, {})
    if path:
        node.pop(path[-1], None)


def _problem(path: KeyPath, item: Any, places: dict[KeyPath, str]) -> Problem:
    kind, value = item["type"], item.get("input")
    if not path:
        return Problem("(top level)", "keys must be text", "quote it, or remove it", None, "")
    if kind in ("model_type", "dict_type"):
        keys = _keys_at(path)
        fix = (
            f"such as {{{keys[0]}: ...}}"
            if keys and kind == "model_type"
            else "write its keys below it, or remove it"
        )
        return Problem(".".join(path), "must be a section of keys", fix, value, places.get(path, ""))
    key = ".".join(path)
    place = places.get(_known_part(path, places), "")
    if kind == "extra_forbidden":
        return Problem(key, "unknown key", did_you_mean(path[-1], _keys_at(path[:-1])), None, place)
    if kind == "missing":
        return Problem(key, "is required and missing", _describe(path), None, place)
    reason = item["msg"].replace("Input should be", "must be").replace("Value error, ", "")
    fix = ""
    if kind == "literal_error" and isinstance(value, str):
        choices = [c.strip(" '") for c in item["ctx"]["expected"].replace(" or ", ", ").split(",")]
        fix = did_you_mean(value, choices)
    return Problem(key, _lower_first(reason), fix, value, place)


def _known_part(path: KeyPath, places: dict[KeyPath, str]) -> KeyPath:
    while path and path not in places:
        path = path[:-1]
    return path


def _position(problem: Problem, order: list[KeyPath]) -> int:
    known = _known_part(tuple(problem.key.split(".")), {key: "" for key in order})
    return order.index(known) if known in order else -1


def _with_place(problem: Problem, places: dict[KeyPath, str]) -> Problem:
    place = places.get(_known_part(tuple(problem.key.split(".")), places), "")
    return Problem(problem.key, problem.reason, problem.fix, problem.value, place)


def _model_at(path: KeyPath) -> type[BaseModel] | None:
    model: Any = DeployConfig
    for part in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return None
        if part in model.model_fields:
            model = _section_type(model.model_fields[part].annotation)
        # else: the name of an entry of a mapping such as `targets`; its type was found one step before
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _section_type(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_type(argument)
        if found is not None:
            return found
    return None


def _keys_at(path: KeyPath) -> list[str]:
    model = _model_at(path)
    return list(model.model_fields) if model else []


def _describe(path: KeyPath) -> str:
    model = _model_at(path[:-1])
    field = model.model_fields.get(path[-1]) if model else None
    return (field.description or "").split("\n")[0] if field else ""


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
