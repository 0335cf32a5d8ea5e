"""Candidate students: from names, patterns, widths and image sizes to a bounded list without repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from figkd import own_network
from figkd.known_students import EXPORTED
from pipeline.config.candidates import named_models, too_many
from pipeline.config.problems import Problem, raise_problems
from pipeline.config.schema import DeployConfig
from pipeline.results.rows.scouted import Candidate

__all__ = ["Candidate", "expand", "of_config"]

# Networks for small images are tried at 32 pixels, all others at 224 and more.
_SMALL = 64


def expand(
    models: Sequence[str],
    image_sizes: Sequence[int],
    widths: Sequence[str] = (),
    *,
    code: Mapping[str, Path] | None = None,
    key: str = "scout",
    source: str = "",
) -> list[Candidate]:
    """Every network at every size, each once, networks in the order of `models`, sizes ascending.

    Args:
        models: names as in `student.model`, or shell patterns over the names that `list models` shows; each may hold
            `{width}`.
        image_sizes: sides in pixels.
        widths: texts that stand for `{width}`, such as `050`.
        code: files of modules that hold networks of the user's own, by module.
        key: the section of the config that says so, for messages.
        source: the file, for messages.

    Raises:
        ConfigError: names or patterns that mean no network, with the nearest ones; no candidate at all; more than
            10,000.
    """
    named = named_models(models, widths, key)
    problems = list(named.problems)
    sizes = sorted(set(image_sizes))
    if not problems and not (named.models and sizes):
        problems.append(Problem(f"{key}.models", "there is no candidate", "name a network and an image size"))
    if reason := too_many(len(named.models), len(sizes)):
        problems.append(Problem(f"{key}.models", reason, "narrow the patterns, or name fewer sizes"))
    raise_problems([lambda problem=problem: problem for problem in problems], source or key)  # type: ignore[misc]
    files = code or {}
    return [
        Candidate(
            model=name,
            image_size=size,
            code=files.get(own_network.module_of(name)) if own_network.is_own(name) else None,
        )
        for name in named.models
        for size in sizes
    ]


def of_config(config: DeployConfig) -> list[Candidate]:
    """The candidates of a config's section `scout`.

    Without `models` these are the networks of docs/students.md for images of about this size, and the config's student.

    Raises:
        ConfigError: as `expand`.
    """
    section, student = config.scout, config.student
    sizes = section.image_sizes or [config.data.image_size]
    code = dict(section.code)
    if own_network.is_own(student.model) and student.code is not None:
        code.setdefault(own_network.module_of(student.model), student.code)
    if section.models:
        return expand(section.models, sizes, section.widths, code=code)
    small = max(sizes) <= _SMALL
    usual = [name for name, tried in EXPORTED.items() if (tried.image_size <= _SMALL) == small]
    return expand(list(dict.fromkeys([student.model, *usual])), sizes, code=code)
