"""Arguments and options that commands share, and what they are read into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pipeline.config import DeployConfig
    from pipeline.core.store import Store
    from pipeline.run.console import ConsoleInterface

F = TypeVar("F", bound=Callable[..., Any])

CONFIG = click.argument("config_path", metavar="CONFIG", type=click.Path(path_type=Path))
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a config key, e.g. distill.epochs=20.",
)
JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout; logs on stderr."
)
VERBOSE = click.option("-v", "--verbose", count=True, help="Print why steps run and where artifacts are.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print only the outcome.")


def common(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def stage_name(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Refuse a stage that there is not, with the nearest one."""
    from pipeline.config.problems import did_you_mean
    from pipeline.stages import STAGE_NAMES

    for name in (value,) if isinstance(value, str) else value or ():
        if name not in STAGE_NAMES:
            raise click.BadParameter(f"no stage '{name}'; {did_you_mean(name, STAGE_NAMES)}")
    return value


def load(path: Path, overrides: tuple[str, ...]) -> DeployConfig:
    """The config of a command."""
    from pipeline.config import load_config

    return load_config(path, overrides)


def store_of(config: DeployConfig) -> Store:
    """The config's store."""
    from pipeline.core.store import Store

    return Store(config.store.folder)


def interface(verbosity: int) -> ConsoleInterface:
    """What tells a person how the work goes on."""
    from pipeline.run.console import ConsoleInterface

    return ConsoleInterface(verbosity)
