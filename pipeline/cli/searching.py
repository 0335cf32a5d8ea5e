"""`search`: which settings are worth training, and which of them to ship."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import JSON, QUIET, SET, VERBOSE, common, interface
from pipeline.core.errors import ConfigError, Exit

if TYPE_CHECKING:
    from pipeline.config.search_file import LoadedSearch
    from pipeline.results.searched import SearchResult
    from pipeline.search.searching import Searched

PAGE = "search.html"


@click.command()
@click.argument("search_path", metavar="SEARCH", type=click.Path(path_type=Path))
@common(SET, JSON, VERBOSE, QUIET)
@click.option("--jobs", type=click.IntRange(1, 1024), help="Trials that train at once; as search.jobs.")
@click.option(
    "--engine", type=click.Choice(["local", "submitit", "ray"]),
    help="Where trials are trained; as search.engine.",
)  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Try trials again that failed in an earlier run.")
@click.option("--dry-run", is_flag=True, help="List what would be tried, and the most epochs that it takes.")
@click.option(
    "--write-config", "out", type=click.Path(path_type=Path), metavar="OUT.yaml",
    help="Write the config of a point on the front.",
)  # fmt: skip
@click.option("--point", type=int, default=1, show_default=True, help="Its number, for --write-config.")
def search(
    search_path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    verbose: int,
    quiet: bool,
    jobs: int | None,
    engine: str | None,
    retry_failed: bool,
    dry_run: bool,
    out: Path | None,
    point: int,
) -> int:
    """Search networks and settings: measure them untrained, train the promising, show the Pareto front.

    SEARCH is a search file, or a config with a section `search` (docs/search.md). `--set search.KEY=VALUE` is for the
    search, every other `--set` for the config that it varies.
    """
    from pipeline.config.search_file import load_search
    from pipeline.core.files import write_text
    from pipeline.core.store import Store
    from pipeline.core.terminal import print_json, stdout
    from pipeline.report.page_place import check_place
    from pipeline.report.search_page import render_search_page
    from pipeline.report.search_terminal import render_search
    from pipeline.results.searched import SEARCH_FILE, read_searched, write_searched
    from pipeline.search.searching import carry_out

    given = [
        f"search.{key}={value}" for key, value in (("jobs", jobs), ("engine", engine)) if value is not None
    ]
    found = load_search(search_path, [*overrides, *given])
    if dry_run:
        return _describe(found)
    folder = found.base.output / found.name
    check_place(folder / PAGE, "search", "--set output=FOLDER; the page is called")
    if (folder / SEARCH_FILE).exists():
        read_searched(folder / SEARCH_FILE)  # what is no document of a search is not written over
    ui = interface(-1 if quiet else verbose)
    try:
        searched = carry_out(found, Store(found.base.store.folder), ui, retry_failed=retry_failed)
    finally:
        ui.close()
    result = searched.result
    write_searched(folder / SEARCH_FILE, result)
    write_text(folder / PAGE, render_search_page(result))
    if as_json:
        print_json(result.model_dump_json(indent=1))
    else:
        stdout().show(render_search(result))
        stdout().say(str(folder / PAGE), label="page: ")
    if out is not None:
        _write_point(found, searched, point, out, quiet=as_json)
    return _code(result)


def _write_point(found: LoadedSearch, searched: Searched, number: int, out: Path, *, quiet: bool) -> None:
    from pipeline.config.write import write_config
    from pipeline.core.terminal import stdout
    from pipeline.report import search_words
    from pipeline.search.confirm import point_config

    point = searched.point(number)
    if point is None:
        last = len(searched.result.front)
        fix = f"give --point 1 to {last}" if last else "nothing is on the front; see the page"
        raise ConfigError(f"there is no point {number} on the front", where="--point", fix=fix)
    trial = searched.trials[point.trial]
    said = search_words.settings(search_words.trial_of(searched.result, point))
    about = f"Point {number} ({point.id}) of the search {found.name}: {said}"
    write_config(out, point_config(found, trial, point), about)
    if not quiet:
        stdout().say(str(out), label="wrote: ")


def _describe(found: LoadedSearch) -> int:
    from pipeline.config.dimensions import size
    from pipeline.core.terminal import stdout
    from pipeline.search.outcome import in_short

    say, points = stdout().say, size(found.space)
    for key, dimension in found.space.items():
        say(in_short(dimension), label=f"{key}: ")
    say(", ".join(f"{each.words} ({each.direction})" for each in found.objectives), label="seeks: ")
    known = "" if points == float("inf") else f" of {points:,.0f} points"
    say(
        f"{found.trials:,}{known} in waves of {found.wave:,}, drawn by {found.section.sampler}",
        label="trials: ",
    )
    if found.rungs:
        factor = found.section.halving.factor if found.section.halving else 1
        say(" -> ".join(map(str, found.rungs)), label="epochs: ")
        full, reached, total, before = found.trials, found.trials, 0, 0
        for epochs in found.rungs:
            total, before = total + reached * (epochs - before), epochs
            reached = -(-reached // factor)
        seeds = found.section.seeds
        more = f", {seeds} seeds at the last" if seeds > 1 else ""
        say(
            f"about {total:,} epochs of student training{more}; everything in full: "
            f"{full * found.rungs[-1] * seeds:,}",
            label="effort: ",
        )
    return int(Exit.OK)


def _code(result: SearchResult) -> int:
    if result.front:
        return int(Exit.OK)
    states = {trial.state for trial in result.trials}
    missed = bool(result.points) or "excluded" in states
    return int(Exit.BUDGET_MISSED if missed else Exit.STAGE_FAILED)
