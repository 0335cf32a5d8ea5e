"""`scout`: what candidate students cost on the targets, before anything is trained."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import CONFIG, JSON, QUIET, SET, VERBOSE, common, interface, load, store_of
from pipeline.core.errors import ConfigError, Exit

if TYPE_CHECKING:
    from pipeline.config import DeployConfig
    from pipeline.results.rows.scouted import ScoutDocument


@click.command()
@common(CONFIG, SET, JSON, VERBOSE, QUIET)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Where scout.json and scout.html go; default <output>/<name> of the config.",
)  # fmt: skip
def scout(
    config_path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    verbose: int,
    quiet: bool,
    output: Path | None,
) -> int:
    """Measure candidate students untrained: which fits the latency, size and energy budgets?

    The section `scout` of CONFIG names the candidates: networks, patterns such as timm/mobilenetv4_conv_*, widths and
    image sizes. Each gets random weights and is exported, made in each precision, built and timed on each target. What
    was measured is kept in the store, so that an interrupted scouting goes on where it was.
    """
    from pipeline.core.terminal import print_json, stderr, stdout
    from pipeline.report.page_place import check_place
    from pipeline.report.scout_page import render_scout_page
    from pipeline.report.scout_terminal import render_scouting
    from pipeline.results.rows.scouted import SCOUT_FILE, read_scouted, write_scouted

    config = load(config_path, overrides)
    folder = output or config.output / config.name
    page, data = folder / "scout.html", folder / SCOUT_FILE
    check_place(page, "scout", "--output")
    if data.exists():
        try:
            read_scouted(data)
        except ConfigError as error:
            fix = "move it, or give another folder: --output FOLDER"
            raise ConfigError(
                f"there is something else already ({error.what})", where=str(data), fix=fix
            ) from None
    document, code = _measured(config, -1 if quiet else verbose)
    from pipeline.core.files import write_text

    folder.mkdir(parents=True, exist_ok=True)
    write_scouted(data, document)
    write_text(page, render_scout_page(document, config.budgets))
    if as_json:
        print_json(document.model_dump_json(indent=1))
    else:
        stdout().show(render_scouting(document, config.budgets))
        stderr().say(str(page), label="report: ")
    return code


def _measured(config: DeployConfig, verbosity: int) -> tuple[ScoutDocument, int]:
    import datetime

    from pipeline.core.terminal import stderr
    from pipeline.places import environment
    from pipeline.report import numbers
    from pipeline.results.rows.scouted import ScoutDocument
    from pipeline.run.preflight import check_places
    from pipeline.search.candidates import of_config
    from pipeline.search.scouting import measure_candidates

    started = time.monotonic()
    ui = interface(verbosity)
    try:
        check_places(config)
        found = measure_candidates(config, of_config(config), store_of(config), ui)
    finally:
        ui.close()
    if found.foreseen_s and found.took_s and verbosity >= 0:
        off = 100 * (found.took_s - found.foreseen_s) / found.took_s
        took, foreseen = (numbers.seconds(each) for each in (found.took_s, found.foreseen_s))
        stderr().say(f"measuring took {took}, {foreseen} were estimated ({off:+.0f} %)", label="note: ")
    document = ScoutDocument(
        config=config.name,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        classes=found.classes,
        rows=tuple(found.rows),
        cpu=environment.cpu_model(),
        gpu="" if (gpu := environment.gpu_name()) == "none" else gpu,
        seconds=round(time.monotonic() - started, 1),
        measured=found.measured,
    )
    failed = next((int(error.exit_code) for error in found.failures.values()), int(Exit.OK))
    nothing = not any(row.timed for row in found.rows) and not any(row.state == "built" for row in found.rows)
    return document, failed or int(Exit.STAGE_FAILED if nothing else Exit.OK)
