"""`store`: what a store holds and who refers to it, removing what nobody does, sharing the rest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from export.terminal import one_line
from pipeline.cli.options import CONFIG, JSON, SET, common, load
from pipeline.core.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.core.layout import Grid
    from pipeline.core.store import Store
    from pipeline.core.store_usage import Collected, Stored, Usage

_CONFIGS = click.argument("paths", metavar="[CONFIG...]", type=click.Path(path_type=Path), nargs=-1)
_STORE = click.option(
    "--store", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
    help="The store, where no config names it; default .figkd.",
)  # fmt: skip


@click.group()
def store() -> None:
    """List the artifacts of the store, and clean it."""


@store.command("du")
@common(_CONFIGS, _STORE, SET, JSON)
def store_du(paths: tuple[Path, ...], folder: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show the size of the artifacts by stage, and how much of it each config uses.

    A config uses what its last run made or found. Without CONFIG, all that ran in the store count.
    """
    from pipeline.core.store_usage import survey
    from pipeline.core.terminal import print_json, stdout

    found, names = _opened(paths, folder, overrides)
    usage = survey(found)
    if as_json:
        artifacts = [asdict(stored) for stored in usage.artifacts]
        print_json(
            json.dumps(
                {"store": str(found.root), "folders": dict(usage.folders), "artifacts": artifacts}, indent=1
            )
        )
        return
    stdout().show(_table(usage, names))
    total = sum(usage.folders.values())
    parts = ", ".join(f"{name} {_size(size)}" for name, size in usage.folders.items() if size)
    stdout().say(f"{_size(total)} in {one_line(str(found.root))}: {parts or 'empty'}", hang=2)


@store.command("gc")
@common(_CONFIGS, _STORE, SET, JSON)
@click.option("--delete", is_flag=True, help="Remove it; otherwise only what would go is shown.")
def store_gc(
    paths: tuple[Path, ...],
    folder: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
    delete: bool,
) -> None:
    """Remove what no config uses; without --delete, only show it.

    For each CONFIG, the artifacts of its last run stay, finished or not; without CONFIG, those of all configs that ran
    in the store. The state of trials that a search has paused goes; that of others stays until the search ends. What a
    running process uses or makes stays, and so do files that the store did not make.
    """
    from pipeline.core.store_usage import collect, survey
    from pipeline.core.terminal import print_json, stdout
    from pipeline.search.goes_on import trials_in

    found, names = _opened(paths, folder, overrides)
    done = collect(found, survey(found), names, delete=delete, wanted=trials_in(found))
    if as_json:
        removed, begun = ([asdict(each) for each in every] for every in (done.removed, done.scratch))
        document = {
            "deleted": delete, "bytes": done.bytes, "artifacts": removed, "scratch": begun, "left": done.left,
        }  # fmt: skip
        print_json(json.dumps({"store": str(found.root), **document}, indent=1))
        return
    _say_collected(done, delete=delete)
    if (done.removed or done.scratch) and not delete:
        stdout().say("nothing was removed; add --delete to remove them", label="dry run: ", style="yellow")


@store.command("push")
@common(CONFIG, SET)
def store_push(config_path: Path, overrides: tuple[str, ...]) -> None:
    """Upload what earlier runs of a config made to its `store.remote`; a run uploads only what it makes itself."""
    from pipeline.core.store import Store
    from pipeline.core.terminal import stderr, stdout
    from pipeline.run.sharing import push_all

    config = load(config_path, overrides)
    moved = push_all(config, Store(config.store.folder), lambda text: stderr().say(text, label="note: "))
    brought = f"{len(moved.pushed)} artifacts, {_size(sum(moved.pushed.values()))}"
    stdout().say(f"{brought}, brought to {one_line(str(config.store.remote))}", hang=2)


def _opened(
    paths: tuple[Path, ...], folder: Path | None, overrides: tuple[str, ...]
) -> tuple[Store, set[str] | None]:
    """The store that is meant, and the names of the configs that count, None for all."""
    from pipeline.core.store import Store

    configs = [load(path, overrides) for path in paths]
    folders = {folder} if folder else {config.store.folder for config in configs} or {Path(".figkd")}
    if len(folders) > 1:
        named = ", ".join(sorted(one_line(str(place)) for place in folders))
        raise ConfigError(f"the configs have different stores: {named}", fix="name configs of one store")
    place = folders.pop()
    if not place.is_dir():
        fix = "name a config, or the folder with --store; a store is made by the first run"
        raise ConfigError("there is no store", where=one_line(str(place)), fix=fix)
    return Store(place), {config.name for config in configs} if configs else None


def _table(usage: Usage, names: set[str] | None) -> Grid:
    from pipeline.core.layout import Column, Grid

    rows = []
    for step in dict.fromkeys(stored.step for stored in usage.artifacts):
        here = [stored for stored in usage.artifacts if stored.step == step]
        used = [s for s in here if any(names is None or config in names for config in s.configs)]
        configs = sorted({c for s in used for c in s.configs if names is None or c in names})
        rows.append((step, str(len(here)), _sum(here), str(len(used)), _sum(used), _shortened(configs)))
    columns = (
        Column("stage"), Column("artifacts", right=True), Column("size", right=True),
        Column("used", right=True), Column("size of these", right=True), Column("by", below=True),
    )  # fmt: skip
    return Grid(columns, [tuple(map(one_line, row)) for row in rows])


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _say_collected(done: Collected, *, delete: bool) -> None:
    from pipeline.core.terminal import stdout

    out = stdout()
    for stored in done.removed:
        others = f", used by {_shortened(list(stored.configs))}" if stored.configs else ""
        label = "removed " if delete else "would go "
        path = one_line(f"{stored.step}/{stored.name}")
        out.say(f"{path}  {_size(stored.bytes)}, {stored.created}{others}", label=label, hang=2)
    for begun in done.scratch:
        by = f"begun by {_shortened(list(begun.configs))}"
        label = "removed " if delete else "would go "
        out.say(one_line(f"scratch/{begun.name}  {_size(begun.bytes)}, {by}"), label=label, hang=2)
    for path, reason in done.left.items():
        out.say(f"{one_line(path)}: {reason}", label="stays ", style="yellow", hang=2)
    verb = "removed" if delete else "could go"
    scratch = f" and the state of {len(done.scratch)} unfinished steps" if done.scratch else ""
    out.say(f"{len(done.removed)} artifacts{scratch}, {_size(done.bytes)}, {verb}")


def _sum(stored: list[Stored]) -> str:
    return _size(sum(one.bytes for one in stored))


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
