"""Which steps of a run are shared with other machines through `store.remote`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from pipeline.config.schema import DeployConfig
from pipeline.core.errors import ConfigError, EnvironmentFault
from pipeline.core.remotes.files import RemoteFault, within
from pipeline.core.remotes.places import open_remote
from pipeline.core.remotes.shared import Limits, SharedStore, Traffic
from pipeline.core.store import Artifact, Recipe, Store
from pipeline.run.findings import Finding
from pipeline.run.planning import artifacts_of, steps_of
from pipeline.stages.base import Stage
from pipeline.stages.table import REPORT

_LOOK_S = 45.0


class Sharing:
    """A run's share in a remote; does nothing where the config names none.

    Engines, their scores and latencies are made for a target and belong to the machine that made them; an engine is
    code, besides. So the stages of a target and the report are not shared.
    """

    def __init__(self, config: DeployConfig, store: Store, note: Callable[[str], None]) -> None:
        self._shared: SharedStore | None = None
        storage = config.store
        if storage.remote is not None:
            limits = Limits(int(storage.remote_gb * 1e9), storage.remote_s, storage.push)
            files = open_remote(storage.remote, storage.ssh_config)
            self._shared = SharedStore(store, files, limits, note)

    @contextlib.contextmanager
    def claim(self, stage: Stage, recipe: Recipe, *, take: bool = True) -> Iterator[Artifact | None]:
        """What another machine made of a recipe, or None, and then the right to make it until the block ends.

        Args:
            stage: of the recipe, whose lock is held.
            recipe: what is needed.
            take: False where it is to be made again although others may have it.
        """
        if self._shared is None or not take or not is_shared(stage):
            yield None
            return
        with self._shared.claim(recipe, stage.summary) as artifact:
            yield artifact

    def push(self, stage: Stage, artifact: Artifact) -> None:
        """Bring what was made here to the others."""
        if self._shared is not None and is_shared(stage):
            self._shared.push(artifact)


def push_all(config: DeployConfig, store: Store, note: Callable[[str], None]) -> Traffic:
    """Bring a config's finished artifacts to its remote, as far as they are shared and not there yet.

    Raises:
        ConfigError: the config names no remote.
        EnvironmentFault: the remote cannot be written; what was brought before stays there.
    """
    storage = config.store
    if storage.remote is None:
        raise ConfigError("names no place to share", where="store.remote", fix="--set store.remote=...")
    made = artifacts_of(config, store)
    limits = Limits(int(storage.remote_gb * 1e9), storage.remote_s, push=True)
    shared = SharedStore(store, open_remote(storage.remote, storage.ssh_config), limits, note)
    for step in steps_of(config):
        if step.id in made and is_shared(step.stage):
            shared.push(made[step.id])
    if not shared.writes:
        fix = "see the warning above; what was brought before stays there"
        raise EnvironmentFault("could not be written", where=f"store.remote {storage.remote}", fix=fix)
    return shared.traffic


def remote_finding(config: DeployConfig) -> Iterator[Finding]:
    """Whether the remote answers; one that does not is no fault, since a run goes on without it."""
    storage = config.store
    if storage.remote is None:
        return
    try:
        files = open_remote(storage.remote, storage.ssh_config)
        within(_LOOK_S, lambda: files.read("keys/doctor.json", 1000))
    except EnvironmentFault as fault:
        yield Finding("store.remote", "fault", fault.what, fault.fix)
    except (RemoteFault, OSError) as error:
        fix = "a run goes on without it, and makes everything here"
        yield Finding("store.remote", "absent", f"{storage.remote}: {error}", fix)
    else:
        yield Finding("store.remote", "ok", f"{storage.remote} answers")


def is_shared(stage: Stage) -> bool:
    """Whether a stage's artifacts are the same wherever they are made."""
    return not stage.per_target and stage.name != REPORT
