"""What lies in a store, who refers to it, and what can go: data for `store du` and `store gc`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.files import read_json, write_json
from pipeline.core.manifest import read_manifest
from pipeline.core.pins import pinned
from pipeline.core.store import Artifact, Store

_SCOUTED, _BEGUN = "scouted", "begun"
FOLDERS = ("artifacts", "scratch", "drafts", "caches", "damaged")


@dataclass(frozen=True)
class Stored:
    """An entry of the store's artifacts.

    Attributes:
        step: such as `teacher` or `build@cpu`.
        name: of its folder.
        bytes: of its files as the manifest says; 0 if it has none.
        created: UTC; empty without a manifest.
        configs: names of the configs whose last run used it.
        foreign: why it is none of ours, and is never removed; empty if it is.
    """

    step: str
    name: str
    bytes: int
    created: str
    configs: tuple[str, ...]
    foreign: str


@dataclass(frozen=True)
class Begun:
    """What a step keeps that was begun and not finished, to go on from.

    Attributes:
        name: of its folder: step and key.
        bytes: of its files.
        configs: names of the configs that began it.
    """

    name: str
    bytes: int
    configs: tuple[str, ...]


@dataclass(frozen=True)
class Usage:
    """A store: its artifacts, ordered by step and age, what was begun, and the bytes in its folders."""

    artifacts: Sequence[Stored]
    begun: Sequence[Begun]
    folders: Mapping[str, int]


@dataclass
class Collected:
    """What `collect` removed, or would remove, and what it left with the reason."""

    removed: list[Stored] = field(default_factory=list)
    scratch: list[Begun] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of what was removed."""
        return sum(s.bytes for s in self.removed) + sum(b.bytes for b in self.scratch)


def survey(store: Store) -> Usage:
    """Look at a store; reads manifests and sizes, not contents."""
    used, scouted = references(store), scouted_in(store)
    found = []
    for path in _folders(store.root / "artifacts"):
        step, manifest = path.parent.name, read_manifest(path)
        using = {name for name, steps in used.items() if steps.get(step) == path.name}
        using |= {name for name, steps in scouted.items() if path.name in steps.get(step, ())}
        artifact = Artifact(path, manifest)
        found.append(
            Stored(
                step,
                path.name,
                artifact.bytes,
                manifest.created if manifest else "",
                tuple(sorted(using)),
                store.foreign(artifact),
            )
        )
    found.sort(key=lambda stored: (stored.step, stored.created, stored.name))
    return Usage(found, _begun(store), {name: _size(store.root / name) for name in FOLDERS})


def references(store: Store) -> dict[str, dict[str, str]]:
    """For each config that ran in a store: the folder name of each step's artifact in its last run."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((store.root / "last").glob("*.json")):
        if isinstance(steps := _read(path), dict):
            found[path.stem] = {step: name for step, name in steps.items() if isinstance(name, str)}
    return found


def note_scouted(store: Store, config: str, artifacts: Mapping[str, Sequence[str]]) -> None:
    """Remember what the last scouting of a config refers to: the folder names of artifacts, by step."""
    write_json(store.root / "last" / _SCOUTED / f"{config}.json", artifacts)


def scouted_in(store: Store) -> dict[str, dict[str, list[str]]]:
    """For each config that was scouted in a store: the folder names of its measurements, by step."""
    return {
        path.stem: {step: names for step, names in steps.items() if isinstance(names, list)}
        for path in sorted((store.root / "last" / _SCOUTED).glob("*.json"))
        if isinstance(steps := _read(path), dict)
    }


def note_begun(store: Store, config: str, scratch: Path) -> None:
    """Remember that a config began a step that keeps its state in a folder; forgets those that are gone."""
    path = store.root / "last" / _BEGUN / f"{config}.json"
    before = _read(path)
    names = [name for name in before if isinstance(name, str)] if isinstance(before, list) else []
    there = {name for name in names if Path(name).name == name and (scratch.parent / name).is_dir()}
    if before != (now := sorted(there | {scratch.name})):
        write_json(path, now)


def _begun(store: Store) -> list[Begun]:
    by = {path.stem: _read(path) for path in sorted((store.root / "last" / _BEGUN).glob("*.json"))}
    return [
        Begun(
            path.name,
            _size(path),
            tuple(config for config, names in by.items() if isinstance(names, list) and path.name in names),
        )
        for path in sorted((store.root / "scratch").glob("*"))
        if path.is_dir() and not path.is_symlink()
    ]


def _read(path: Path) -> object:
    """A note of ours; None where it cannot be read."""
    try:
        found: object = read_json(path)
    except (OSError, ValueError):
        return None
    return found


def collect(
    store: Store,
    usage: Usage,
    keep: Collection[str] | None,
    *,
    delete: bool,
    wanted: Mapping[str, bool] | None = None,
) -> Collected:
    """Remove the artifacts that no config refers to, and the state of unfinished steps that nobody goes on with.

    Args:
        store: the store.
        usage: its survey.
        keep: configs whose references count; None for all.
        delete: False only says what would go.
        wanted: configs of a search's trials: whether it may go on from what they began.

    What running processes use or make stays, and so does whatever the store did not make. Of a step that was begun, so
    does what a trial may go on from, whatever `keep` says, and what nobody is known to have begun.
    """
    done = Collected()
    busy = pinned(store.root)
    for stored in usage.artifacts:
        path = f"{stored.step}/{stored.name}"
        if _is_kept(stored.configs, keep):
            continue
        if stored.foreign:
            done.left[path] = stored.foreign
        elif path in busy:
            done.left[path] = "a running process uses it"
        elif not delete:
            done.removed.append(stored)
        elif refusal := store.discard(store.artifact(stored.step, stored.name)):
            done.left[path] = refusal
        else:
            done.removed.append(stored)
    trials = wanted or {}
    for begun in usage.begun:
        path = f"scratch/{begun.name}"
        ordinary = [config for config in begun.configs if config not in trials]
        if any(trials.get(config) for config in begun.configs) or _is_kept(ordinary, keep):
            continue
        if not begun.configs:
            done.left[path] = "it is not known who began it"
        elif delete and (refusal := store.discard_scratch(begun.name)):
            done.left[path] = refusal
        else:
            done.scratch.append(begun)
    return done


def _is_kept(configs: Iterable[str], keep: Collection[str] | None) -> bool:
    return any(keep is None or config in keep for config in configs)


def _folders(artifacts: Path) -> list[Path]:
    return [path for step in sorted(artifacts.glob("*")) if step.is_dir() for path in sorted(step.glob("*"))]


def _size(folder: Path) -> int:
    """Bytes of the regular files below a folder; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                facts = os.lstat(os.path.join(place, name))
            except OSError:  # removed meanwhile
                continue
            total += facts.st_size
    return total
