"""Networks that stages build: by name or, of the user's own, from files whose contents count for the key."""

from __future__ import annotations

from pathlib import Path

from figkd import own_network
from pipeline.config.schema import Network
from pipeline.stages.base import Source, Work

_INSTALLED = "_module"


def network_sources(network: Network, name: str = "network") -> dict[str, Source]:
    """The Python files of a network of the user's own; none for one of the libraries.

    Args:
        network: teacher or student of a config.
        name: what the source is called in the stage.
    """
    if not own_network.is_own(network.model):
        return {}
    if network.code is not None:
        return {name: _source(network.code)}
    file = own_network.installed(own_network.module_of(network.model))
    return {} if file is None else {f"{name}{_INSTALLED}": _source(file)}


def network_name(work: Work, model: str, name: str = "network") -> str:
    """What `figkd.models.build_model` takes for a config's `model`.

    Args:
        work: of a stage with the sources of `network_sources`.
        model: as the config says it.
        name: as for `network_sources`.
    """
    return located(model, work.sources.get(name))


def located(model: str, code: Path | None) -> str:
    """The same, where the module's file is known; None for a network of the libraries or an installed module."""
    return own_network.in_file(model, code) if own_network.is_own(model) else model


def _source(file: Path) -> Source:
    return Source(file, lambda: own_network.source_files(file))
