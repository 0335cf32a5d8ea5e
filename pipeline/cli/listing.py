"""`list`: the names that a config can take, from the registries."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import JSON, common
from pipeline.core.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.core.layout import Grid

_MOST_BUILT = 200
_CLASSES = 100


@dataclass(frozen=True)
class ModelRow:
    """A network: what is known of it. Parameters in millions, at 100 classes."""

    name: str
    about: str = ""
    image_size: int | None = None
    parameters: float | None = None
    exports: str = "not tried"


@dataclass(frozen=True)
class DatasetRow:
    """A data set, its options and their types."""

    name: str
    about: str
    files: str
    options: dict[str, str]


@dataclass(frozen=True)
class MethodRow:
    """A distillation method, its options and their defaults."""

    name: str
    about: str
    paper: str
    options: Mapping[str, object]


@dataclass(frozen=True)
class EngineRow:
    """A back end and whether this machine has it."""

    name: str
    here: str
    detail: str
    fix: str


Row = ModelRow | DatasetRow | MethodRow | EngineRow
KINDS: dict[str, type[Row]] = {
    "models": ModelRow,
    "datasets": DatasetRow,
    "methods": MethodRow,
    "engines": EngineRow,
}


@click.command("list")
@click.argument("kind", metavar="|".join(KINDS), type=click.Choice(list(KINDS)))
@click.argument("pattern", required=False)
@common(JSON)
@click.option(
    "--build", is_flag=True,
    help=f"For models: build each (up to {_MOST_BUILT}) to count its parameters and ask the library for its size.",
)  # fmt: skip
def list_(kind: str, pattern: str | None, as_json: bool, build: bool) -> None:
    """List the networks, data sets, methods or engines that a config can name.

    PATTERN is a part of the name, or a shell pattern such as 'timm/mobilenetv4*'.
    """
    from pipeline.core.terminal import print_json, stdout

    if build and kind != "models":
        raise ConfigError("--build is for models", fix=f"figkd-pipeline list {kind}")
    rows = _built(_models(pattern)) if build else _ROWS[kind](pattern)
    if not rows:
        names = ", ".join(_near(kind, pattern or ""))
        fix = f"did you mean {names}?" if names else f"figkd-pipeline list {kind} shows all"
        raise ConfigError(f"no {kind} match '{pattern}'", fix=fix)
    if as_json:
        print_json(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        stdout().show(_grid(KINDS[kind], rows))


def _matching(names: Iterable[str], pattern: str | None) -> list[str]:
    if pattern is None:
        return list(names)
    wild = any(sign in pattern for sign in "*?[")
    text = (pattern if wild else f"*{pattern}*").lower()
    return [name for name in names if fnmatch.fnmatchcase(name.lower(), text)]


def _near(kind: str, pattern: str) -> list[str]:
    from figkd.model_names import suggest
    from pipeline.config.problems import nearest

    bare = pattern.replace("*", "")
    return suggest(bare) if kind == "models" else nearest(bare, [row.name for row in _ROWS[kind](None)], 3)


def _models(pattern: str | None) -> list[ModelRow]:
    from figkd.known_students import EXPORTED
    from figkd.model_names import BUILT_IN, all_models

    rows = []
    for name in _matching(all_models(), pattern):
        about = BUILT_IN.get(name, "")
        if tried := EXPORTED.get(name):
            rows.append(ModelRow(name, about, tried.image_size, tried.parameters, "yes"))
        else:
            rows.append(ModelRow(name, about, 32 if name in BUILT_IN else None))
    return rows


def _built(rows: list[ModelRow]) -> list[ModelRow]:
    from figkd.model_facts import model_facts

    if len(rows) > _MOST_BUILT:
        raise ConfigError(
            f"{len(rows):,} models match, and --build builds at most {_MOST_BUILT}", fix="narrow PATTERN"
        )
    done = []
    for row in rows:
        facts = model_facts(row.name, _CLASSES)
        millions = None if facts.parameters is None else round(facts.parameters / 1e6, 3)
        about = row.about or ("takes no other size" if facts.fixed_size else "")
        done.append(ModelRow(row.name, about, facts.image_size, millions, row.exports))
    return done


def _datasets(pattern: str | None) -> list[DatasetRow]:
    from figkd.data import DATASETS

    rows = []
    for name in _matching(DATASETS, pattern):
        info = DATASETS[name]
        options = {option: kind.__name__ for option, kind in info.options.items()}
        rows.append(DatasetRow(name, info.summary, "data.root" if info.needs_root else "none", options))
    return rows


def _methods(pattern: str | None) -> list[MethodRow]:
    from figkd.loss.methods import METHODS

    rows = []
    for name in _matching(METHODS, pattern):
        method = METHODS[name]
        options = {
            field.name: field.default
            for field in fields(method.options)
            if isinstance(field.default, int | float | str | None)
        }
        rows.append(MethodRow(name, method.summary, method.paper, options))
    return rows


def _engines(pattern: str | None) -> list[EngineRow]:
    from export.engines import BACKENDS

    rows = []
    for name in _matching(BACKENDS, pattern):
        found = BACKENDS[name].availability()
        here = "builds and runs" if found.run else "builds" if found.built else "no"
        versions = ", ".join(f"{library} {version}" for library, version in found.versions.items())
        detail = versions if found.run or not found.detail else found.detail
        rows.append(EngineRow(name, here, detail, found.fix))
    return rows


_ROWS: dict[str, Callable[[str | None], Sequence[Row]]] = {
    "models": _models,
    "datasets": _datasets,
    "methods": _methods,
    "engines": _engines,
}


def _grid(kind: type[Row], rows: Sequence[Row]) -> Grid:
    from pipeline.core.layout import Column, Grid

    titles = {
        "image_size": "px",
        "parameters": "M parameters",
        "files": "files",
        "fix": "to get it",
        "exports": "exports",
    }
    columns = [
        Column(
            titles.get(field.name, field.name),
            right=field.name in ("image_size", "parameters"),
            below=field.name in ("about", "options", "paper", "fix", "detail"),
        )
        for field in fields(kind)
    ]
    return Grid(columns, [[_cell(getattr(row, field.name)) for field in fields(kind)] for row in rows])


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={shown}" for name, shown in value.items())
    return "" if value is None else str(value)
