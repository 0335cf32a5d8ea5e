"""`run`, `validate` and `report`: the stages of a config, and what came of them."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from export.terminal import one_line
from figkd.distributed import ALONE
from pipeline.cli.options import (
    CONFIG,
    JSON,
    QUIET,
    SET,
    VERBOSE,
    common,
    interface,
    load,
    stage_name,
    store_of,
)
from pipeline.cli.planning import print_plan
from pipeline.core.errors import ConfigError, EnvironmentFault, Exit

if TYPE_CHECKING:
    from figkd.distributed import World
    from pipeline.config import DeployConfig
    from pipeline.core.store import Store
    from pipeline.results.result import Result, RunVerdict
    from pipeline.run.conductor import Outcome
    from pipeline.run.planning import Selection

_VERDICT_CODES: dict[RunVerdict, Exit] = {
    "pass": Exit.OK,
    "no_goal": Exit.OK,
    "not_run": Exit.OK,
    "budget_missed": Exit.BUDGET_MISSED,
    "no_better_than_guessing": Exit.BUDGET_MISSED,
    "failed": Exit.STAGE_FAILED,
}


@click.command()
@common(CONFIG, SET, JSON, VERBOSE, QUIET)
@click.option(
    "--from", "first", callback=stage_name, metavar="STAGE", help="Run this stage and all after it again."
)
@click.option("--until", callback=stage_name, metavar="STAGE", help="Stop after this stage.")
@click.option("--force", multiple=True, callback=stage_name, metavar="STAGE", help="Run this stage again.")
@click.option("--dry-run", is_flag=True, help="The same as `plan`.")
# torchrun names its run so. Asking torch would cost every run its import, also where everything is cached.
@click.option("--torchrun", envvar="TORCHELASTIC_RUN_ID", hidden=True)
def run(
    config_path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    verbose: int,
    quiet: bool,
    first: str | None,
    until: str | None,
    force: tuple[str, ...],
    dry_run: bool,
    torchrun: str | None,
) -> int:
    """Run every stage that is not done yet, and write the report."""
    from pipeline.run.planning import Selection

    code = int(Exit.OK)
    with _group(torchrun) as world:
        config = load(config_path, overrides)
        selection = Selection(first, until, frozenset(force))
        if dry_run:
            code = print_plan(config, selection, as_json=as_json)
        else:
            verbosity = -1 if quiet else verbose
            _, code = carry_out(config, selection, as_json=as_json, verbosity=verbosity, world=world)
    return code


@click.command()
@common(CONFIG, SET, JSON, VERBOSE, QUIET)
@click.option(
    "--model", "models", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Score this ONNX or engine file on the config's test images instead.",
)  # fmt: skip
def validate(
    config_path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    verbose: int,
    quiet: bool,
    models: tuple[Path, ...],
) -> int:
    """Score the engines on the test images again (and only that), or files given with --model."""
    from pipeline.run.planning import Selection

    config = load(config_path, overrides)
    if not models:
        selection = Selection(force=frozenset({"validate"}))
        return carry_out(config, selection, as_json=as_json, verbosity=-1 if quiet else verbose)[1]
    from pipeline.core.terminal import print_json, stdout
    from pipeline.run.given import score_files

    rows = score_files(config, models, interface(-1 if quiet else verbose))
    if as_json:
        print_json(json.dumps(rows, indent=1))
        return int(Exit.OK)
    for row in rows:
        agreement = (
            "" if row["agreement"] is None else f", agrees with the student on {row['agreement']:.2f} %"
        )
        scores = f"top-1 {row['top1']:.2f} %, mean per class {row['mean_per_class']:.2f} %"
        stdout().say(f"{one_line(row['id'])}: {scores} of {row['n']} test images{agreement}", hang=2)
    return int(Exit.OK)


@click.command()
@common(CONFIG, SET, JSON)
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
def report(config_path: Path, overrides: tuple[str, ...], as_json: bool, open_page: bool) -> int:
    """Write the report again from what there is; runs nothing else."""
    from pipeline.run.planning import Selection, plan
    from pipeline.stages.report import NEEDS

    config = load(config_path, overrides)
    missing = [
        p.step.id
        for p in plan(config, store_of(config), Selection(until="report"))
        if p.state == "run" and p.step.stage.name in NEEDS
    ]
    if missing:
        raise ConfigError(f"not finished yet: {', '.join(missing)}", fix=f"figkd-pipeline run {config_path}")
    selection = Selection(until="report", force=frozenset({"report"}), only_forced=True)
    _, code = carry_out(config, selection, as_json=as_json, verbosity=-1)
    if open_page:
        click.launch(str(config.output / config.name / "report.html"))
    return code


def carry_out(
    config: DeployConfig,
    selection: Selection,
    *,
    as_json: bool,
    verbosity: int,
    show: bool = True,
    world: World = ALONE,
) -> tuple[Result | None, int]:
    """Preflight, run, publish, show; the result (None before the report stage) and the exit code it deserves."""
    from pipeline.core.terminal import print_json
    from pipeline.results.result import Result
    from pipeline.run import conductor, planning
    from pipeline.run.preflight import check_places, preflight

    store, ui = store_of(config), interface(verbosity)
    try:
        check_places(config)
        known = planning.known_devices(store, ui.note)
        before = planning.last_artifact("data", config, store)
        preflight(
            config,
            planning.plan(config, store, selection, known),
            ui.note,
            known,
            digests=planning.digests_of(config, store),
            before=before.path if before else None,
        )
        outcome = conductor.run(config, store, ui, selection, world, known)
        _say_how_far_off(config, store, outcome, ui.note)
    finally:
        ui.close()
    code = next((int(error.exit_code) for error in outcome.failures.values()), int(Exit.OK))
    if "report" not in outcome.artifacts:  # --until
        if as_json:
            print_json(json.dumps({step: str(a.path) for step, a in outcome.artifacts.items()}, indent=1))
        return None, code
    stored = outcome.artifacts["report"].path
    result = Result.model_validate_json((stored / "result.json").read_text(encoding="utf-8"))
    folder = config.output / config.name
    unpublished = _publish(result, outcome, folder, ui.note)
    if show and not as_json:
        _show(result, stored if unpublished else folder, quiet=verbosity < 0)
        if not unpublished:
            _show_bundles(outcome, folder)
    if unpublished:
        raise unpublished
    if as_json:
        print_json(result.model_dump_json(indent=1))
    return result, code or _VERDICT_CODES[result.verdict]


def _say_how_far_off(
    config: DeployConfig, store: Store, outcome: Outcome, note: Callable[[str], None]
) -> None:
    """Where `plan --estimate` was asked before this run: what it took against that."""
    from export.runtime.memory import peak
    from pipeline.estimate.kept import how_far_off
    from pipeline.report.estimate_words import off

    try:
        largest = peak()
    except OSError:
        largest = 0
    if found := how_far_off(store, config.name, outcome.ran, outcome.artifacts, largest):
        note(off(found))


def _publish(
    result: Result, outcome: Outcome, folder: Path, note: Callable[[str], None]
) -> EnvironmentFault | None:
    """Copy what a user takes away to `folder`; why that cannot be, where nothing is lost but the copies."""
    from pipeline.core.faults import environment_fault
    from pipeline.run.bundles import FOLDER, packed, take_out
    from pipeline.run.publish import publish

    try:
        publish(result, outcome.artifacts, folder, note)
        for each in packed(outcome.artifacts):
            take_out(each, folder / FOLDER)
    except EnvironmentFault as fault:
        return fault
    except OSError as error:
        return environment_fault(error, "output")
    return None


@contextlib.contextmanager
def _group(torchrun: str | None) -> Iterator[World]:
    """The processes that torchrun started together with this one; only rank 0 gets into the block.

    The others do as rank 0 says, and end. If the block fails they notice that rank 0 is gone.
    """
    from figkd.distributed import disconnect
    from pipeline.run.conductor import dismiss

    world = _world(torchrun)
    if not world.first:
        _follow(world)
    yield world
    if world.size > 1:
        dismiss(world)
        disconnect(world)


def _world(torchrun: str | None) -> World:
    from figkd.distributed import connect
    from figkd.errors import FigkdError

    if torchrun is None:
        return ALONE
    try:
        return connect()
    except FigkdError as error:
        raise EnvironmentFault(error.what, where="torchrun", fix=error.fix) from error


def _follow(world: World) -> NoReturn:
    from figkd.distributed import PeerLost, disconnect, leave
    from pipeline.run import conductor

    try:
        conductor.follow(world)
    except PeerLost:
        leave(Exit.STAGE_FAILED)  # rank 0, or the launcher, has said why
    disconnect(world)
    sys.exit(Exit.OK)


def _show(result: Result, folder: Path, *, quiet: bool) -> None:
    from pipeline.core.terminal import stdout
    from pipeline.report.choice_words import summary
    from pipeline.report.terminal import render_table

    out = stdout()
    if quiet:
        out.say(f"{result.verdict.replace('_', ' ')}: {summary(result)}", hang=2)
    else:
        out.show(render_table(result))
    out.say(str(folder / "report.html"), label="report: ")


def _show_bundles(outcome: Outcome, folder: Path) -> None:
    """Where the bundles are, or why there are none."""
    from pipeline.core.terminal import stdout
    from pipeline.run.bundles import FOLDER, packed

    for each in packed(outcome.artifacts):
        if each.folder:
            stdout().say(str(folder / FOLDER / each.folder.name), label="bundle: ")
        else:
            stdout().say(f"none for {each.target}: {each.why}", label="bundle: ")
