"""A config as a YAML file: the keys that somebody set, with what a search chose among them."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from pipeline.config.schema import DeployConfig
from pipeline.core.errors import ConfigError
from pipeline.core.files import write_text


def write_config(path: Path, config: DeployConfig, about: str) -> None:
    """Write a config; loaded again from the same folder, it is equal.

    Args:
        path: where to; its folder exists.
        config: what is written, without the keys that have their default because nobody set them.
        about: a comment for its head.

    Raises:
        ConfigError: there is something already.
    """
    if os.path.lexists(path):
        raise ConfigError("there is something already", where=str(path), fix="give another name")
    values = config.model_dump(mode="json", exclude_unset=True, exclude={"search"})
    comment = "".join(f"# {line}\n" for line in about.splitlines())
    write_text(path, f"{comment}{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}")
