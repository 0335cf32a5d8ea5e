"""From a search file, or a config with a section `search`, to one checked search."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pydantic import JsonValue, ValidationError

from export.terminal import one_line
from pipeline.config.candidates import named_models
from pipeline.config.dimensions import AnyDimension, Choice, Real, Settings, Space, Whole, identity, size
from pipeline.config.layers import Layered, dotted, read_layers
from pipeline.config.load import load_config
from pipeline.config.objectives import Objective, objectives_of
from pipeline.config.own_code import fill_code
from pipeline.config.problems import Problem, did_you_mean, raise_problems
from pipeline.config.schema import DeployConfig
from pipeline.config.search import MOST_TRIALS, Range, Search, SearchFile
from pipeline.config.validate import keys_at, problems_of, validate
from pipeline.config.yaml_tree import KeyPath
from pipeline.core.errors import ConfigError

_DEFAULT_TRIALS, _DEFAULT_WAVE = 20, 8
_OURS = "search."
_LEARNING = {"tpe", "nsga2"}
_NOT_VARIED: Mapping[str, str] = {
    "name": "names what is written",
    "output": "says where reports go",
    "store": "says where artifacts go",
    "search": "is the search itself",
    "budgets": "are what trials are held against",
    "bundle": "says how what ships is released",
    "seed": "also divides the images; write seeds: N",
    "distill.seed": "is what the search's seeds vary; write seeds: N",
    "data.dataset": "would compare accuracy on other images",
    "data.root": "would compare accuracy on other images",
    "data.options": "would compare accuracy on other images",
    "data.validation_fraction": "would compare accuracy on other images",
    "precision.select": "is chosen on the front: every precision is measured anyway",
}
"""Keys that no trial may change, and why."""


@dataclass(frozen=True)
class LoadedSearch:
    """A search, checked.

    Attributes:
        name: of the search, and of the folder that it is published to.
        base: the config that trials vary.
        source: its file.
        overrides: `--set` texts for it.
        section: how to search.
        space: what is varied, patterns of names expanded.
        objectives: what is sought, in the order of the file.
        trials: how many.
        wave: trials of a wave.
        rungs: epochs after which trials are compared, the last one all of them; empty if the epochs are varied.
    """

    name: str
    base: DeployConfig
    source: Path
    overrides: tuple[str, ...]
    section: Search
    space: Space
    objectives: tuple[Objective, ...]
    trials: int
    wave: int
    rungs: tuple[int, ...]


def load_search(path: Path, overrides: Sequence[str] = ()) -> LoadedSearch:
    """Read and check a search.

    Args:
        path: a search file, which names its `base`, or a deploy config with a section `search`.
        overrides: `a.b=c` texts for the config; those that begin with `search.` are for the search.

    Raises:
        ConfigError: with all problems of the search, or of its config, each with key, value, reason and place.
    """
    ours = [text for text in overrides if text.strip().startswith(_OURS)]
    layered = read_layers(path, ())
    if "base" in layered.values:
        others = tuple(text for text in overrides if text not in ours)
        layered = read_layers(path, [text.strip().removeprefix(_OURS) for text in ours])
        section = _section(layered, path)
        source, prefix = path.parent / section.base, ""
        name = section.name or _as_name(path.stem)
        places = layered.places
    else:
        source, others, prefix, places = path, tuple(overrides), _OURS, read_layers(path, overrides).places
        found = load_config(path, overrides).search
        if found is None:
            raise ConfigError(
                "is no search: it has neither a section 'search' nor a key 'base'",
                where=one_line(str(path)),
                fix="add a section 'search' with a space and objectives (docs/search.md)",
            )
        section = SearchFile(base=path, **{key: getattr(found, key) for key in found.model_fields_set})
        name = ""
    base = load_config(source, others)
    name = name or f"{base.name}-search"
    space, problems = _space(section, prefix, source, others)
    objectives, of_objectives = objectives_of(
        section.objectives, list(base.targets), base.benchmark, f"{prefix}objectives"
    )
    problems += of_objectives
    rungs = _rungs(base.distill.epochs, section, space)
    problems += [*_contradictions(section, prefix, space, objectives, rungs, base.distill.epochs)]
    _refuse([_placed(problem, places) for problem in problems], path)
    trials = _trials(section, space)
    learning = section.sampler in _LEARNING
    wave = min(trials, section.wave or (_DEFAULT_WAVE if learning else trials))
    return LoadedSearch(
        name, base, source, others, section, space, tuple(objectives), trials, wave, rungs or ()
    )


def trial_config(
    search: LoadedSearch, settings: Settings, name: str, extra: Settings | None = None
) -> DeployConfig:
    """The config of a trial: the base with its settings.

    Args:
        search: the search.
        settings: of the trial.
        name: of the deployment.
        extra: settings that all trials of a kind have, such as `distill.seed`.

    Raises:
        ConfigError: the settings contradict each other, or a key of the base.
    """
    settings = {**settings, **(extra or {}), "search": None, "name": name}
    texts = [*search.overrides, *(f"{key}={identity(value)}" for key, value in settings.items())]  # type: ignore[arg-type]
    return load_config(search.source, texts)


def _section(layered: Layered, path: Path) -> SearchFile:
    try:
        section = SearchFile.model_validate(layered.values)
    except ValidationError as error:
        raise_problems([*problems_of(error, layered, SearchFile).values()], one_line(str(path)))
        raise  # what pydantic refuses is a problem
    _refuse([*layered.faults.values()], path)
    return section


def _refuse(problems: Sequence[Problem], path: Path) -> None:
    raise_problems([partial(replace, problem) for problem in problems], one_line(str(path)))


def _as_name(stem: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:40]
    return name or "search"


def _space(
    section: Search, prefix: str, source: Path, overrides: Sequence[str]
) -> tuple[dict[str, AnyDimension], list[Problem]]:
    """The dimensions, and what is wrong with keys and values: each value is tried in the config, one at a time."""
    space: dict[str, AnyDimension] = {}
    problems: list[Problem] = []
    layered = read_layers(source, overrides)
    fill_code(layered, source)
    _, known = validate(layered)
    before = {str(problem()) for problem in known}
    for key, given in section.space.items():
        place = f"{prefix}space.{key}"
        if problem := _key_problem(key, place):
            problems.append(problem)
            continue
        made = _range(given, place) if isinstance(given, Range) else _values(key, given, place)
        if isinstance(made, Problem):
            problems.append(made)
            continue
        space[key] = made
        ends = made.values if isinstance(made, Choice) else (made.low, made.high)
        problems += _value_problems(key, ends, place, layered, before)
    return space, problems


def _key_problem(key: str, place: str) -> Problem | None:
    path = tuple(key.split("."))
    for start, reason in _NOT_VARIED.items():
        if key == start or key.startswith(f"{start}."):
            return Problem(place, f"cannot be varied: it {reason}")
    for depth, part in enumerate(path):
        keys = keys_at(path[:depth])
        named = (depth == 1 and path[0] == "targets") or path[:-1] == ("data", "options")
        if not named and part not in keys:
            fix = did_you_mean(part, keys) if keys else f"{dotted(path[:depth])} holds a value, not a section"
            return Problem(place, "no such key in a config", fix)
    if keys_at(path):
        return Problem(place, "is a section", f"vary one of its keys: {', '.join(keys_at(path)[:8])}, ...")
    return None


def _range(given: Range, place: str) -> AnyDimension | Problem:
    said = {kind: ends for kind in ("log", "uniform", "int") if (ends := getattr(given, kind)) is not None}
    if len(said) != 1:
        return Problem(place, "must have exactly one of log, uniform and int", "such as {log: [0.001, 1]}")
    ((kind, (low, high)),) = said.items()
    if low > high:
        return Problem(place, "ends before it begins", "write the lower end first", [low, high])
    if kind == "log" and low <= 0:
        return Problem(place, "a logarithm needs numbers above 0", "raise the lower end", [low, high])
    return Whole(low, high) if kind == "int" else Real(float(low), float(high), kind == "log")


def _values(key: str, given: Sequence[JsonValue], place: str) -> Choice | Problem:
    values = list(given)
    if key == "student.model" and all(isinstance(value, str) for value in values):
        named = named_models([str(value) for value in values], (), f"{place}")
        if named.problems:
            return replace(named.problems[0], key=place)
        values = list(named.models)
    distinct = {identity(value): value for value in values}  # type: ignore[arg-type]
    return Choice(tuple(distinct.values()))


def _value_problems(
    key: str, values: Sequence[JsonValue], place: str, layered: Layered, before: set[str]
) -> Iterator[Problem]:
    path = tuple(key.split("."))
    models = key == "student.model"
    # Names were looked up already; trying thousands of them in a config takes minutes.
    for value in values[:1] if models else values:
        changed = Layered(copy.deepcopy(layered.values), dict(layered.places), dict(layered.faults))
        _put(changed.values, path, value)
        _, problems = validate(changed)
        for found in (make() for make in problems):
            if str(found) in before:
                continue
            alone = found.key == key or found.key.startswith(f"{key}.")
            if alone:  # what it contradicts, another dimension may settle: a trial's matter
                yield replace(found, key=place, place="", value=value)
                break


def _put(values: dict[str, object], path: KeyPath, value: JsonValue) -> None:
    node = values
    for part in path[:-1]:
        inner = node.get(part)
        if not isinstance(inner, dict):
            inner = node[part] = {}
        node = inner
    node[path[-1]] = value


def _rungs(epochs: int, section: Search, space: Space) -> tuple[int, ...] | None:
    """Epochs of each comparison, ascending to all of them; None where each trial has its own number."""
    if "distill.epochs" in space:
        return None
    if section.halving is None:
        return (epochs,)
    found, at = [], section.halving.min_epochs
    while at < epochs:
        found.append(at)
        at *= section.halving.factor
    return (*found, epochs)


def _trials(section: Search, space: Space) -> int:
    points = size(space)
    wanted = section.trials or (MOST_TRIALS if section.sampler == "grid" else _DEFAULT_TRIALS)
    return int(min(wanted, points))


def _contradictions(
    section: Search,
    prefix: str,
    space: Space,
    objectives: Sequence[Objective],
    rungs: tuple[int, ...] | None,
    epochs: int,
) -> Iterator[Problem]:
    if section.sampler == "grid":
        yield from _grid(section, prefix, space)
    if section.halving is not None and rungs is None:
        fix = "take distill.epochs out of the space, or remove halving"
        yield Problem(f"{prefix}halving", "compares trials after the same epochs, which are varied", fix)
    elif section.halving is not None and section.halving.min_epochs >= epochs:
        found = section.halving.min_epochs
        fix = f"lower it, or remove halving: distill.epochs is {epochs}"
        yield Problem(f"{prefix}halving.min_epochs", "leaves nothing to promote a trial to", fix, found)
    of_engines = [each.name for each in objectives if each.target]
    if of_engines and not section.scout:
        fix = f"set it to true, or seek accuracy alone: {', '.join(of_engines)} is measured by scouting"
        yield Problem(f"{prefix}scout", "is needed by an objective", fix, False)


def _grid(section: Search, prefix: str, space: Space) -> Iterator[Problem]:
    for key, dimension in space.items():
        if isinstance(dimension, Real) and math.isinf(size({key: dimension})):
            fix = "list values, or take sampler: tpe"
            yield Problem(f"{prefix}space.{key}", "a grid needs a list of values", fix)
    points = size(space)
    if points > MOST_TRIALS and not math.isinf(points):
        what = " x ".join(f"{size({key: each}):,.0f}" for key, each in space.items())
        reason = f"a grid of {points:,.0f} points ({what}); at most {MOST_TRIALS:,} are tried"
        yield Problem(f"{prefix}space", reason, "list fewer values, or take sampler: tpe with trials: N")


def _placed(problem: Problem, places: Mapping[str, str]) -> Problem:
    """With the file and line of its key, or of the nearest section that the file names."""
    if problem.place:
        return problem
    key = problem.key
    while key and key not in places:
        key = key.rpartition(".")[0]
    return replace(problem, place=places.get(key, ""))
