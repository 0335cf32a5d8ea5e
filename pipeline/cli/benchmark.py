"""`benchmark`: engines and files timed side by side, and against what they took before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.sizes import named_size
from export.terminal import ascii_json
from pipeline.cli.options import JSON, QUIET, SET, VERBOSE, common, interface, load
from pipeline.cli.running import carry_out
from pipeline.core.errors import ConfigError, Exit

if TYPE_CHECKING:
    from pipeline.results.compare import Change
    from pipeline.results.latency import BenchmarkDocument
    from pipeline.run.given import GivenTimes


def _dims(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, int]:
    try:
        return dict(map(named_size, texts))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument(
    "paths", metavar="[CONFIG] [FILE]...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@common(SET, JSON, VERBOSE, QUIET)
@click.option(
    "--model", "models", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Another ONNX or engine file, as if named after CONFIG.",
)  # fmt: skip
@click.option(
    "--baseline", type=click.Path(path_type=Path), metavar="JSON",
    help="Compare with an earlier result.json, or with what --output or --json wrote.",
)  # fmt: skip
@click.option(
    "--max-regression", metavar="PERCENT",
    help="With --baseline: exit 3 if a median is slower by more, e.g. 5%, beyond noise, on an idle machine.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="JSON", help="Write the measurement here."
)
@click.option(
    "--report", "page", type=click.Path(path_type=Path), metavar="HTML",
    help="Write a page: distributions, comparison, machine.",
)  # fmt: skip
@click.option(
    "--size", type=click.IntRange(1, 65536), metavar="PIXELS",
    help="Without CONFIG: height and width, where an ONNX file leaves them open.",
)  # fmt: skip
@click.option(
    "--dim", "dims", multiple=True, callback=_dims, metavar="NAME=SIZE",
    help="Without CONFIG: a size that an ONNX file leaves open, by name or place: H=224 or 2=224.",
)  # fmt: skip
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), help="Without CONFIG: batch size.")
@click.option("--threads", type=click.IntRange(1), help="Without CONFIG: CPU threads; default all.")
@click.option(
    "--streams",
    multiple=True,
    type=click.IntRange(1),
    help="Without CONFIG: number of concurrent inferences.",
)
@click.option(
    "--rate-fps",
    type=click.FloatRange(0, min_open=True),
    help="Without CONFIG: images per second, at a fixed rate.",
)
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
    page: Path | None,
    **options: Any,
) -> int:
    """Time engines side by side: those of CONFIG again, or the given ONNX and engine FILEs.

    FILEs need no CONFIG; random images are used then. With a CONFIG they are timed on its images and by its keys.

    Exit codes: 0 measured (and no regression), 2 wrong usage, file or baseline, 3 a regression beyond --max-regression
    (or a missed budget of CONFIG), 4 a back end is missing.
    """
    from pipeline.core.terminal import print_json, stderr, stdout
    from pipeline.report import comparison
    from pipeline.report.page_place import check_place
    from pipeline.results import compare

    if max_regression is not None and baseline is None:
        raise click.UsageError("--max-regression needs --baseline")
    limit = compare.parse_percent(max_regression)
    before = compare.read_baseline(baseline) if baseline else None
    if page:
        check_place(page, "benchmark", "--report")
    # So that they can be refused before minutes are spent.
    is_config = paths[0].suffix.lower() in (".yaml", ".yml")
    files = [*(paths[1:] if is_config else paths), *models]
    document, code = (
        _time_config(paths[0], overrides, files, options, as_json=as_json, verbosity=-1 if quiet else verbose)
        if is_config
        else _time_files(files, overrides, options, verbosity=-1 if quiet else verbose)
    )
    if before:
        compare.check_classes(document.outputs, before.outputs, f"--baseline {baseline}")
    changes = compare.against(document.latency, before.latency, limit) if before else []
    if before and not changes:
        raise ConfigError(
            "the baseline has no row of an engine, batch and boundary that was measured now",
            where=f"--baseline {baseline}",
            fix=f"its engines are {', '.join(sorted({row.id for row in before.latency})) or 'none'}",
        )
    document.comparison = [change.to_dict() for change in changes]
    if output:
        from pipeline.core.files import write_text

        write_text(output, ascii_json(document.model_dump_json(indent=1)) + "\n")
    if page:
        _write_page(page, document, changes, limit)
    if as_json:
        print_json(document.model_dump_json(indent=1))
    else:
        stdout().show(comparison.tables(document.latency if files else [], changes))
    if page:
        stderr().say(str(page), label="report: ")
    if before and (other := comparison.other_machine(document.machine, before.machine)):
        stderr().say(other, label="note: ")
    for remark in comparison.remarks(changes, limit):
        stderr().say(remark, hang=2)
    if any(change.judgement == "regression" for change in changes):
        code = code or Exit.BUDGET_MISSED
    return int(code)


def _write_page(page: Path, document: BenchmarkDocument, changes: list[Change], limit: float | None) -> None:
    from pipeline.core.files import write_text
    from pipeline.report.latency_page import render_latency_page

    write_text(page, render_latency_page(document, changes, limit))


def _time_config(
    path: Path, overrides: tuple[str, ...], files: list[Path], options: dict[str, Any], *, as_json: bool,
    verbosity: int,
) -> tuple[BenchmarkDocument, int]:  # fmt: skip
    """The engines of a config, through its benchmark stage, or files on its images."""
    from pipeline.results import compare
    from pipeline.results.latency import BenchmarkDocument
    from pipeline.run.planning import Selection

    if given := [name for name, value in options.items() if value]:
        name = {"batches": "batch", "dims": "dim"}.get(given[0], given[0].replace("_", "-"))
        raise click.UsageError(f"--{name} is for files without CONFIG; here use --set")
    config = load(path, overrides)
    if files:
        from pipeline.run.given import time_files

        return _document(time_files(config, files, interface(verbosity))), int(Exit.OK)
    selection = Selection(force=frozenset({"benchmark"}))
    result, code = carry_out(config, selection, as_json=False, verbosity=verbosity, show=not as_json)
    if result is None:
        return BenchmarkDocument(created=_utc(), latency=[]), code
    return BenchmarkDocument(
        created=_utc(), latency=compare.rows_of(result), engines=compare.engines_of(result), machine=result.machine,
        packages=result.packages, outputs=result.outputs,
    ), code  # fmt: skip


def _time_files(
    files: list[Path], overrides: tuple[str, ...], options: dict[str, Any], *, verbosity: int
) -> tuple[BenchmarkDocument, int]:
    """Files on random images."""
    from export.sizes import Sizes
    from pipeline.run.given import FileBenchmarkOptions, time_files_alone

    if overrides:
        raise click.UsageError("--set needs a CONFIG")
    how = FileBenchmarkOptions(
        batch_sizes=options["batches"] or (1,), threads=options["threads"], streams=options["streams"] or (1,),
        rate_fps=options["rate_fps"], seconds=options["seconds"] or FileBenchmarkOptions.seconds,
        sizes=Sizes(options["size"], options["dims"]),
    )  # fmt: skip
    return _document(time_files_alone(files, how, interface(verbosity))), int(Exit.OK)


def _document(given: GivenTimes) -> BenchmarkDocument:
    from pipeline.places import environment
    from pipeline.results import compare
    from pipeline.results.doubts import load_of
    from pipeline.results.latency import BenchmarkDocument

    packages = environment.versions(("onnxruntime", "tensorrt", "tensorrt_rtx", "numpy"))
    measured = given.measured
    rows = compare.rows_from(measured.statistics, load_of(measured.machine), measured.samples)
    return BenchmarkDocument(
        created=_utc(), latency=rows, engines=given.engines, machine=measured.machine, packages=packages
    )


def _utc() -> str:
    import datetime

    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
