"""From merged values to one validated DeployConfig, or every problem that they have."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.config.check import check
from pipeline.config.layers import Layered, dotted
from pipeline.config.problems import Problem, did_you_mean, nearest
from pipeline.config.schema import DeployConfig
from pipeline.config.yaml_tree import KeyPath, Values

_SHOULD = re.compile(r"^(Input|String|List|Dictionary) should ")

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


def validate(layered: Layered) -> tuple[DeployConfig | None, list[Callable[[], Problem]]]:
    """Validate; on errors, set the keys at fault aside and go on, so that all problems show in one go.

    Returns:
        The config, None if it could not be repaired, and what makes each problem, in the order of the files.
    """
    values, places = copy.deepcopy(layered.values), layered.places
    problems: dict[KeyPath, Callable[[], Problem]] = {
        path: partial(_same, problem) for path, problem in layered.faults.items()
    }
    set_aside: set[KeyPath] = set()
    config: DeployConfig | None = None
    while config is None:
        try:
            config = DeployConfig.model_validate(values)
        except ValidationError as error:
            known = len(set_aside)
            # All keys are found before any is removed: one removal would move the others' errors to their parents.
            found = _by_path(error, values)
            for path, items in found.items():
                if items[0]["type"] != "missing":
                    _remove(values, path)
                problems.setdefault(path, partial(_problem, path, items, places))
                set_aside.add(path)
                _stand_in(values, path)
            if len(set_aside) == known:  # no progress: a required key without a stand-in
                break
    listed = [(dotted(path), problem) for path, problem in problems.items()]
    if config is not None:
        keys = {key for key, _ in listed}
        listed += [
            (problem.key, partial(_with_place, problem, places))
            for problem in check(config)
            if keys.isdisjoint(_with_parents(problem.key))
        ]
    order = {key: position for position, key in enumerate(places)}
    listed.sort(key=lambda item: order.get(_known_part(item[0], places), -1))
    return config, [problem for _, problem in listed]


def problems_of(
    error: ValidationError, layered: Layered, model: type[BaseModel]
) -> dict[str, Callable[[], Problem]]:
    """What makes each problem of values that are no `model`, by key; the first of each key, and what YAML cannot say.

    Args:
        error: of validating `layered.values`.
        layered: the values and their places.
        model: the section that stands at the top.
    """
    found: dict[str, Callable[[], Problem]] = {
        dotted(path): partial(_same, problem) for path, problem in layered.faults.items()
    }
    for path, items in _by_path(error, layered.values).items():
        found.setdefault(dotted(path), partial(_problem, path, items, layered.places, model))
    return found


def _by_path(error: ValidationError, values: Values) -> dict[KeyPath, list[Any]]:
    """The errors at each path: one, or that of each member of a union which the value might have been."""
    found: dict[KeyPath, list[Any]] = {}
    for item in error.errors(include_url=False):
        loc = item["loc"]
        path = tuple(str(part) for part in loc)
        path = path if item["type"] == "missing" else _existing_part(values, path)
        if path not in found:
            found[path] = [item]
        elif isinstance(next(iter(loc[len(path) :]), 0), str):  # a member's name; in a list it is a number
            found[path].append(item)
    return found


def keys_at(path: KeyPath, model: type[BaseModel] = DeployConfig) -> list[str]:
    """The keys of the section at a path; none if there is no section."""
    found = _model_at(path, model)
    return list(found.model_fields) if found else []


def _same(problem: Problem) -> Problem:
    return problem


def _with_parents(key: str) -> Iterator[str]:
    """`a.b.c`, `a.b`, `a`."""
    while key:
        yield key
        key = key.rpartition(".")[0]


def _stand_in(values: Values, path: KeyPath) -> None:
    for pattern, value in _STAND_INS.items():
        if len(pattern) == len(path) and all(p in ("*", q) for p, q in zip(pattern, path, strict=True)):
            node: Any = values
            for part in path[:-1]:
                node = node.setdefault(part, {})
            node[path[-1]] = copy.deepcopy(value)


def _existing_part(values: Values, path: KeyPath) -> KeyPath:
    """The part of a path that exists and can be removed: items of a list stand for the list."""
    node: Any = values
    for index, part in enumerate(path):
        if not (isinstance(node, dict) and part in node):  # pydantic adds names of union members to the path
            return path[:index]
        node = node[part]
    return path


def _remove(values: Values, path: KeyPath) -> None:
    node = values
    for part in path[:-1]:
        node = node.get(part, {})
    if path:
        node.pop(path[-1], None)


def _problem(
    path: KeyPath, items: Sequence[Any], places: Mapping[str, str], root: type[BaseModel] = DeployConfig
) -> Problem:
    item = items[0]
    kind, value, key = item["type"], item.get("input"), dotted(path)
    place = places.get(_known_part(key, places), "")
    if kind in ("model_type", "dict_type"):
        keys = keys_at(path, root)
        fix = (
            f"such as {{{keys[0]}: ...}}"
            if keys and kind == "model_type"
            else "write its keys below it, or remove it"
        )
        return Problem(key, "must be a section of keys", fix, value, place)
    if kind == "extra_forbidden":
        return Problem(key, "unknown key", did_you_mean(path[-1], keys_at(path[:-1], root)), None, place)
    if kind == "missing":
        return Problem(key, "is required and missing", _describe(path, root), None, place)
    reasons = dict.fromkeys(_reason(each) for each in items)
    choices = [
        choice.strip(" '")
        for each in items
        if each["type"] == "literal_error"
        for choice in each["ctx"]["expected"].replace(" or ", ", ").split(",")
    ]
    named = choices and isinstance(value, str)
    # The words are not all that a union takes.
    fix = did_you_mean(value, choices) if named and (len(items) == 1 or nearest(value, choices)) else ""
    return Problem(key, ", or ".join(reasons), fix, value, place)


def _reason(item: Any) -> str:
    if item["type"] == "path_type":
        return "must be a path"
    text = _SHOULD.sub("must ", item["msg"]).replace("Value error, ", "").replace(" after validation", "")
    return _lower_first(text)


def _known_part(key: str, places: Mapping[str, str]) -> str:
    return next((part for part in _with_parents(key) if part in places), "")


def _with_place(problem: Problem, places: Mapping[str, str]) -> Problem:
    return replace(problem, place=places.get(_known_part(problem.key, places), ""))


def _model_at(path: KeyPath, root: type[BaseModel]) -> type[BaseModel] | None:
    model: Any = root
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


def _describe(path: KeyPath, root: type[BaseModel]) -> str:
    """The first sentence of what a key is."""
    model = _model_at(path[:-1], root)
    field = model.model_fields.get(path[-1]) if model else None
    words = " ".join((field.description or "").split()) if field else ""
    return words.partition(". ")[0].rstrip(".")


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
