"""The command line: thin. Every command loads what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from figkd.distributed import ALONE
from pipeline.errors import ConfigError, Exit, PipelineError

if TYPE_CHECKING:
    from figkd.distributed import World
    from pipeline.conductor import Selection
    from pipeline.config import DeployConfig
    from pipeline.devices.address import Device
    from pipeline.findings import Finding
    from pipeline.latency import Measured
    from pipeline.result import BenchmarkDocument, Result

_PIPE_COLUMNS = 110
_VERDICT_CODES = {"pass": Exit.OK, "budget_missed": Exit.BUDGET_MISSED, "failed": Exit.STAGE_FAILED}

F = TypeVar("F", bound=Callable[..., Any])

_CONFIG = click.argument("config_path", metavar="CONFIG", type=click.Path(path_type=Path))
_SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a config key, e.g. distill.epochs=20.",
)
_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout; logs on stderr."
)
_VERBOSE = click.option("-v", "--verbose", count=True, help="Say why steps run and where artifacts are.")
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Print only the outcome.")


def _stage_name(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    from pipeline.config.problems import did_you_mean
    from pipeline.stages import STAGE_NAMES

    for name in (value,) if isinstance(value, str) else value or ():
        if name not in STAGE_NAMES:
            raise click.BadParameter(f"no stage '{name}'; {did_you_mean(name, STAGE_NAMES)}")
    return value


def _common(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="figkd-pipeline")
def cli() -> None:
    """From labelled images and one YAML file to a validated, benchmarked inference engine.

    Stages: data, teacher, logits, distill, export, precision, build, validate, benchmark, report.

    Exit codes: 0 ok, 1 a stage failed, 2 config or usage, 3 a budget is missed (everything is kept),
    4 environment, 5 device, 130 interrupted.
    """


@cli.command()
@_common(_CONFIG, _SET, _JSON, _VERBOSE, _QUIET)
@click.option(
    "--from", "first", callback=_stage_name, metavar="STAGE", help="Run this stage and what follows anew."
)
@click.option("--until", callback=_stage_name, metavar="STAGE", help="Stop after this stage.")
@click.option("--force", multiple=True, callback=_stage_name, metavar="STAGE", help="Run this stage anew.")
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
) -> None:
    """Run every stage that is not done yet, and write the report."""
    from pipeline.conductor import Selection

    code = int(Exit.OK)
    with _group(torchrun) as world:
        config = _load(config_path, overrides)
        selection = Selection(first, until, frozenset(force))
        if dry_run:
            _print_plan(config, selection, as_json)
        else:
            verbosity = -1 if quiet else verbose
            _, code = _run(config, selection, as_json=as_json, verbosity=verbosity, world=world)
    sys.exit(code)


@cli.command()
@_common(_CONFIG, _SET, _JSON)
@click.option("--from", "first", callback=_stage_name, metavar="STAGE", help="As for `run`.")
@click.option("--until", callback=_stage_name, metavar="STAGE", help="As for `run`.")
@click.option("--force", multiple=True, callback=_stage_name, metavar="STAGE", help="As for `run`.")
def plan(
    config_path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    first: str | None,
    until: str | None,
    force: tuple[str, ...],
) -> None:
    """Show what `run` would do, and why."""
    from pipeline.conductor import Selection

    _print_plan(_load(config_path, overrides), Selection(first, until, frozenset(force)), as_json)


@cli.command()
@click.argument(
    "paths", metavar="[CONFIG] [FILE]...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@_common(_SET, _JSON, _VERBOSE, _QUIET)
@click.option(
    "--model", "models", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="One more ONNX or engine file; the same as to name it after CONFIG.",
)  # fmt: skip
@click.option(
    "--baseline", type=click.Path(path_type=Path), metavar="JSON",
    help="Compare with an earlier result.json, or with what --output or --json wrote.",
)  # fmt: skip
@click.option(
    "--max-regression", metavar="PERCENT",
    help="With --baseline: exit 3 if a median is slower by more, e.g. 5%, and not inside the noise.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="JSON", help="Write the measurement here."
)
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), help="Without CONFIG: batch size.")
@click.option("--threads", type=click.IntRange(1), help="Without CONFIG: CPU threads; default all.")
@click.option("--streams", multiple=True, type=click.IntRange(1), help="Without CONFIG: inferences at once.")
@click.option("--rate-fps", type=click.FloatRange(0, min_open=True), help="Without CONFIG: a fixed rate.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Without CONFIG: time for each row.")
def benchmark(
    paths: tuple[Path, ...],
    overrides: tuple[str, ...],
    as_json: bool,
    verbose: int,
    quiet: bool,
    models: tuple[Path, ...],
    baseline: Path | None,
    max_regression: str | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Time engines side by side: those of CONFIG again, or the given ONNX and engine FILEs.

    FILEs need no CONFIG; random images are used then. With a CONFIG they are timed on its images and by its keys.

    Exit codes: 0 measured (and no regression), 2 wrong usage, file or baseline, 3 a regression beyond --max-regression
    (or a missed budget of CONFIG), 4 a back end is missing.
    """
    from pipeline import compare

    if max_regression is not None and baseline is None:
        raise click.UsageError("--max-regression needs --baseline")
    limit = compare.parse_percent(max_regression)
    before = compare.read_baseline(baseline) if baseline else None
    # So that it can be refused before minutes are spent.
    is_config = paths[0].suffix.lower() in (".yaml", ".yml")
    files = [*(paths[1:] if is_config else paths), *models]
    document, code = (
        _time_config(paths[0], overrides, files, options, as_json=as_json, verbosity=-1 if quiet else verbose)
        if is_config
        else _time_files(files, overrides, options, verbosity=-1 if quiet else verbose)
    )
    changes = compare.against(document.latency, before.latency, limit) if before else []
    if before and not changes:
        raise ConfigError(
            "the baseline has no row of an engine, batch and boundary that was measured now",
            where=f"--baseline {baseline}",
            fix=f"its engines are {', '.join(sorted({row.id for row in before.latency})) or 'none'}",
        )
    document.comparison = [change.to_dict() for change in changes]
    if output:
        from pipeline.files import write_text

        write_text(output, document.model_dump_json(indent=1) + "\n")
    if as_json:
        click.echo(document.model_dump_json(indent=1))
    else:
        compare.print_rows(document.latency if files else [], changes)
    if before and (other := compare.other_machine(document.machine, before.machine)):
        click.echo(f"note: {other}", err=True)
    for remark in compare.remarks(changes, limit):
        click.echo(remark, err=True)
    if any(change.judgement == "regression" for change in changes):
        code = code or Exit.BUDGET_MISSED
    sys.exit(code)


def _time_config(
    path: Path, overrides: tuple[str, ...], files: list[Path], options: dict[str, Any], *, as_json: bool,
    verbosity: int,
) -> tuple[BenchmarkDocument, int]:  # fmt: skip
    """The engines of a config, through its benchmark stage, or files on its images."""
    from pipeline import compare
    from pipeline.conductor import Selection
    from pipeline.result import BenchmarkDocument

    if given := [name for name, value in options.items() if value]:
        raise click.UsageError(f"--{given[0].replace('_', '-')} is for files without CONFIG; here use --set")
    config = _load(path, overrides)
    if files:
        from pipeline.given import time_files

        return _document(time_files(config, files, _interface(verbosity))), int(Exit.OK)
    selection = Selection(force=frozenset({"benchmark"}))
    result, code = _run(config, selection, as_json=False, verbosity=verbosity, show=not as_json)
    if result is None:
        return BenchmarkDocument(created=_utc(), latency=[]), code
    return BenchmarkDocument(
        created=_utc(), latency=compare.rows_of(result), machine=result.machine, packages=result.packages
    ), code


def _time_files(
    files: list[Path], overrides: tuple[str, ...], options: dict[str, Any], *, verbosity: int
) -> tuple[BenchmarkDocument, int]:
    """Files on random images."""
    from pipeline.given import Without, time_files_alone

    if overrides:
        raise click.UsageError("--set needs a CONFIG")
    how = Without(
        batch_sizes=options["batches"] or (1,), threads=options["threads"], streams=options["streams"] or (1,),
        rate_fps=options["rate_fps"], seconds=options["seconds"] or Without.seconds,
    )  # fmt: skip
    return _document(time_files_alone(files, how, _interface(verbosity))), int(Exit.OK)


def _document(measured: Measured) -> BenchmarkDocument:
    from pipeline import compare, environment
    from pipeline.result import BenchmarkDocument

    packages = environment.versions(("onnxruntime", "tensorrt", "tensorrt_rtx", "numpy"))
    return BenchmarkDocument(
        created=_utc(), latency=compare.rows_from(measured.statistics), machine=measured.machine,
        packages=packages,
    )  # fmt: skip


def _utc() -> str:
    import datetime

    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cli.command()
@_common(_CONFIG, _SET, _JSON, _VERBOSE, _QUIET)
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
) -> None:
    """Score the engines on the test images again (and only that), or files given with --model."""
    from pipeline.conductor import Selection

    config = _load(config_path, overrides)
    if not models:
        selection = Selection(force=frozenset({"validate"}))
        sys.exit(_run(config, selection, as_json=as_json, verbosity=-1 if quiet else verbose)[1])
    from pipeline.given import score_files

    rows = score_files(config, models, _interface(-1 if quiet else verbose))
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        agreement = (
            "" if row["agreement"] is None else f", agrees with the student on {row['agreement']:.2f} %"
        )
        click.echo(f"{row['id']}: top-1 {row['top1']:.2f} %, mean per class {row['mean_per_class']:.2f} % "
                   f"of {row['n']} test images{agreement}")  # fmt: skip


@cli.command()
@_common(_CONFIG, _SET, _JSON)
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
def report(config_path: Path, overrides: tuple[str, ...], as_json: bool, open_page: bool) -> None:
    """Write the report again from what there is; runs nothing else."""
    from pipeline.conductor import Selection, plan

    config = _load(config_path, overrides)
    missing = [
        p.step.id for p in plan(config, _store(config)) if p.state == "run" and p.step.stage.name != "report"
    ]
    if missing:
        raise ConfigError(f"not finished yet: {', '.join(missing)}", fix=f"figkd-pipeline run {config_path}")
    _, code = _run(config, Selection(force=frozenset({"report"})), as_json=as_json, verbosity=-1)
    if open_page:
        click.launch(str(config.output / config.name / "report.html"))
    sys.exit(code)


@cli.command()
@click.argument("config_path", metavar="[CONFIG]", type=click.Path(path_type=Path), required=False)
@_common(_SET, _JSON)
def doctor(config_path: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Look at this machine, and at what a config needs of it and of its devices."""
    from dataclasses import asdict

    from pipeline.doctor import examine

    findings = examine(_load(config_path, overrides) if config_path else None)
    if as_json:
        click.echo(json.dumps([asdict(f) for f in findings], indent=1))
    else:
        _print_findings(findings)
    faults = {bool(f.device) for f in findings if f.state == "fault"}
    if faults:
        sys.exit(Exit.DEVICE if True in faults else Exit.ENVIRONMENT)


def _print_findings(findings: Sequence[Finding]) -> None:
    marks = {"ok": ("ok", "green"), "absent": ("--", "yellow"), "fault": ("!!", "red")}
    for place, group in itertools.groupby(findings, key=lambda finding: finding.device):
        if place:
            click.echo(click.style(f"\n{place}", bold=True))
        for finding in group:
            mark, colour = marks[finding.state]
            click.echo(f"{click.style(mark, fg=colour)}  {finding.what:<24} {finding.found}")
            if finding.state == "ok":
                continue
            if finding.wanted:
                click.echo(f"    {'':<24} wanted: {finding.wanted}")
            if finding.fix:
                click.echo(f"    {'':<24} {'fix: ' if finding.state == 'fault' else ''}{finding.fix}")


@cli.group()
def device() -> None:
    """Look at the devices of a config, and clean them.

    DEVICE is ssh://[user@]host[:port], or the name of a target with -c CONFIG, which also knows the target's
    `remote` settings.
    """


_DEVICE = click.argument("device_name", metavar="DEVICE")
_OF = click.option(
    "-c", "--config", "config_path", type=click.Path(path_type=Path), metavar="CONFIG",
    help="The config that DEVICE is a target of.",
)  # fmt: skip


@device.command("show")
@_common(_DEVICE, _OF, _SET, _JSON)
def device_show(
    device_name: str, config_path: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """List what lies in the work folder of a device, and who works there."""
    from pipeline.devices.housekeeping import describe_inventory
    from pipeline.devices.session import connect

    with connect(_named_device(device_name, config_path, overrides), note=_say) as session:
        inventory = {"folder": session.hello["folder"], "free": session.hello["free"], **session.inventory()}
    click.echo(json.dumps(inventory, indent=1) if as_json else describe_inventory(inventory))


@device.command("clean")
@_common(_DEVICE, _OF, _SET, _JSON)
@click.option("--force", is_flag=True, help="Also end what runs there, whoever started it.")
def device_clean(
    device_name: str, config_path: Path | None, overrides: tuple[str, ...], as_json: bool, force: bool
) -> None:
    """Remove everything that was left on a device: its work folder."""
    from pipeline.devices.session import connect

    with connect(_named_device(device_name, config_path, overrides), note=_say) as session:
        folder = session.hello["folder"]
        done = session.clean(force=force)
    if as_json:
        click.echo(json.dumps({"folder": folder, "removed": done["removed"], "left": done["left"]}, indent=1))
        return
    left = f"; not ours, and left: {', '.join(done['left'])}" if done["left"] else ""
    click.echo(f"{folder}: {done['removed'] / 1e6:.1f} MB removed{left}")


def _named_device(name: str, config_path: Path | None, overrides: tuple[str, ...]) -> Device:
    from pipeline.devices.housekeeping import named_device

    return named_device(name, _load(config_path, overrides) if config_path else None)


def _say(text: str) -> None:
    click.echo(f"note: {text}", err=True)


@cli.group()
def config() -> None:
    """Show, check and describe deploy configs."""


@config.command("show")
@_common(_CONFIG, _SET, _JSON)
def config_show(config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a config with every default filled in."""
    import yaml

    values = _load(config_path, overrides).model_dump(mode="json")
    click.echo(json.dumps(values, indent=1) if as_json else yaml.safe_dump(values, sort_keys=False).rstrip())


@config.command("schema")
def config_schema() -> None:
    """Print the JSON schema of deploy configs, for editors."""
    from pipeline.config.json_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=1))


@config.command("check")
@click.argument("paths", metavar="CONFIG...", type=click.Path(path_type=Path), nargs=-1, required=True)
@_SET
def config_check(paths: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Check configs without running anything; shows all problems of each."""
    failed = False
    for path in paths:
        try:
            _load(path, overrides)
            click.echo(f"{path}: ok")
        except PipelineError as error:
            click.echo(str(error), err=True)
            failed = True
    if failed:
        sys.exit(Exit.CONFIG)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write; default <folder name>.yaml."
)
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
def init(folder: Path, output: Path | None, force: bool) -> None:
    """Write a commented starter config for a folder of images (one subfolder a class)."""
    from pipeline.starter import write_starter

    path = write_starter(folder, output, force=force)
    click.echo(f"wrote {path}\nnext: figkd-pipeline run {path}")


@cli.command()
@click.argument("dataset")
@click.argument("root", type=click.Path(path_type=Path))
@click.option(
    "--url", metavar="FOLDER", help="A mirror: the address of a folder that holds the published files."
)
@_QUIET
def download(dataset: str, root: Path, url: str | None, quiet: bool) -> None:
    """Fetch a data set into ROOT where its publisher still serves it; goes on where it stopped."""
    from figkd.data import DATASETS
    from figkd.data.download import download as fetch
    from figkd.errors import DataError
    from pipeline.config.problems import did_you_mean
    from pipeline.errors import EnvironmentFault

    if dataset not in DATASETS:
        raise ConfigError("unknown data set", where=dataset, fix=did_you_mean(dataset, DATASETS))
    ui = _interface(-1 if quiet else 0)
    try:
        bar = ui.step_started("download", "")
        names = fetch(
            dataset,
            root,
            url=url,
            progress=lambda done, total, note: bar(done >> 20, total >> 20, f"MB of {note}"),
        )
    except DataError as error:
        fix = error.fix.replace("\n", "\n       ")  # the expected tree
        raise EnvironmentFault(error.what, where=dataset, fix=fix) from error
    finally:
        ui.close()
    click.echo(f"{', '.join(names)} unpacked in {root}" if names else f"{dataset} is already in {root}")


def _load(path: Path, overrides: tuple[str, ...]) -> DeployConfig:
    from pipeline.config import load_config

    return load_config(path, overrides)


def _store(config: DeployConfig) -> Any:
    from pipeline.store import Store

    return Store(config.store)


def _interface(verbosity: int) -> Any:
    from pipeline.console import ConsoleInterface

    return ConsoleInterface(verbosity)


def _run(
    config: DeployConfig,
    selection: Selection,
    *,
    as_json: bool,
    verbosity: int,
    show: bool = True,
    world: World = ALONE,
) -> tuple[Result | None, int]:
    """Preflight, run, publish, show; the result (None before the report stage) and the exit code it deserves."""
    from pipeline import conductor
    from pipeline.preflight import check_places, preflight
    from pipeline.publish import publish
    from pipeline.result import Result

    store, ui = _store(config), _interface(verbosity)
    try:
        with _terminate_as_interrupt():
            check_places(config)
            known = conductor.known_devices(store, ui)
            preflight(config, conductor.plan(config, store, selection, known), ui.note, known)
            outcome = conductor.run(config, store, ui, selection, world, known)
    finally:
        ui.close()
    code = next((int(error.exit_code) for error in outcome.failures.values()), int(Exit.OK))
    if "report" not in outcome.artifacts:  # --until
        if as_json:
            click.echo(json.dumps({step: str(a.path) for step, a in outcome.artifacts.items()}, indent=1))
        return None, code
    result = Result.model_validate_json((outcome.artifacts["report"].path / "result.json").read_text())
    folder = config.output / config.name
    publish(result, outcome.artifacts, folder)
    if as_json:
        click.echo(result.model_dump_json(indent=1))
    elif show:
        _show(result, folder, quiet=verbosity < 0)
    return result, code or _VERDICT_CODES[result.verdict]


@contextlib.contextmanager
def _group(torchrun: str | None) -> Iterator[World]:
    """The processes that torchrun started together with this one; only rank 0 gets into the block.

    The others do as rank 0 says, and end. If the block fails they notice that rank 0 is gone.
    """
    from figkd.distributed import disconnect
    from pipeline.conductor import dismiss

    world = _world(torchrun)
    if not world.first:
        _follow(world)
    yield world
    if world.size > 1:
        dismiss(world)
        disconnect()


def _world(torchrun: str | None) -> World:
    from figkd.distributed import connect
    from figkd.errors import FigkdError
    from pipeline.errors import EnvironmentFault

    if torchrun is None:
        return ALONE
    try:
        return connect()
    except FigkdError as error:
        raise EnvironmentFault(error.what, where="torchrun", fix=error.fix) from error


def _follow(world: World) -> NoReturn:
    from figkd.distributed import PeerLost, disconnect
    from pipeline import conductor

    try:
        with _terminate_as_interrupt():
            conductor.follow(world)
    except PeerLost:
        sys.exit(Exit.STAGE_FAILED)  # rank 0, or the launcher, has said why
    disconnect()
    sys.exit(Exit.OK)


def _show(result: Result, folder: Path, *, quiet: bool) -> None:
    from rich.console import Console

    from pipeline.report.terminal import render_table

    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(highlight=False, width=_PIPE_COLUMNS)
    if not quiet:
        console.print(render_table(result))
    else:
        console.print(f"{result.verdict.replace('_', ' ')}: {result.summary}", soft_wrap=True, markup=False)
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True, markup=False)


def _print_plan(config: DeployConfig, selection: Selection, as_json: bool) -> None:
    from pipeline.conductor import known_devices, plan
    from pipeline.preflight import cache_cost, device_faults, few_views

    store = _store(config)
    known = known_devices(store)
    planned = plan(config, store, selection, known)
    working = {p.step.target for p in planned if p.state == "run" and p.step.target}
    faults = device_faults(config, working, known)
    cost = cache_cost(config, planned)
    if as_json:
        rows = [
            {
                "step": p.step.id,
                "state": p.state,
                "reason": p.reason,
                "artifact": str(p.artifact.path) if p.artifact else None,
                "cache_bytes": cost.bytes if cost is not None and p.step.id == "logits" else None,
            }
            for p in planned
        ]
        click.echo(json.dumps(rows, indent=1))
    for p in planned if not as_json else ():
        colour = "cyan" if p.state == "cached" else "yellow"
        click.echo(f"{click.style(f'{p.state:<6}', fg=colour)}  {p.step.id:<18} {p.reason}".rstrip())
        if p.step.id == "logits" and cost is not None:
            click.echo(f"{'':<26} {cost}")
    distilling = any(p.step.id == "distill" and p.state == "run" for p in planned)
    if distilling and not as_json and (warning := few_views(config)):
        click.echo(f"{click.style('note', fg='yellow')}    {warning}")
    for fault in faults.values():
        click.echo(f"error: {fault}", err=True)
    if faults:
        sys.exit(Exit.DEVICE)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that a stopped service leaves the store as clean."""

    def interrupt(_signal: int, _frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> NoReturn:
    """Entry point: run the command and end with a documented exit code."""
    code = 0
    try:
        cli.main(standalone_mode=False)
    except PipelineError as error:
        click.echo(f"error: {error}", err=True)
        _json_error(error.what, error.where, error.fix)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        _json_error(error.format_message())
        code = Exit.CONFIG
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "interrupted; what was finished is kept, and the same command goes on from there", err=True
        )
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, and nothing may be printed any more.
        sys.stderr.close()
    except (
        Exception
    ) as error:  # a defect of ours, or a disk that is full: one line, and the details in a file
        log = Path(tempfile.mkdtemp(prefix="figkd-pipeline-")) / "error.txt"
        log.write_text(traceback.format_exc(), encoding="utf-8")
        what = getattr(error, "what", f"unexpected {type(error).__name__}: {error}")
        click.echo(
            f"error: {what}\n  fix: {getattr(error, 'fix', '') or f'please report it with {log}'}", err=True
        )
        _json_error(what)
        code = Exit.STAGE_FAILED
    sys.exit(code)


def _json_error(what: str, where: str = "", fix: str = "") -> None:
    """Who asked for JSON gets JSON, whatever happens; the command may not have been parsed yet."""
    if "--json" in sys.argv:
        click.echo(json.dumps({"error": {"what": what, "where": where, "fix": fix}}, indent=1))


if __name__ == "__main__":
    main()
