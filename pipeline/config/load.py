"""From a YAML file, what it extends and `--set` overrides to one validated DeployConfig."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.terminal import one_line
from pipeline.config.layers import read_layers
from pipeline.config.own_code import fill_code
from pipeline.config.problems import raise_problems
from pipeline.config.schema import DeployConfig
from pipeline.config.validate import validate


def load_config(path: Path, overrides: Sequence[str] = ()) -> DeployConfig:
    """Read, merge and validate a deploy config.

    Args:
        path: the YAML file; `extends:` in it names a file relative to it, whose values it refines.
        overrides: `a.b=c` texts; values are YAML, later ones win.

    Raises:
        ConfigError: with the problems of the config, each with key, value, reason and place.
    """
    layered = read_layers(path, overrides)
    fill_code(layered, path)
    config, problems = validate(layered)
    raise_problems(problems, one_line(str(path)))
    assert config is not None  # without problems there is a config
    return config
