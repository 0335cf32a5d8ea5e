"""`data` and `download`: what a config's data are, and public data sets."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import CONFIG, JSON, QUIET, SET, common, interface, load, store_of
from pipeline.cli.running import carry_out
from pipeline.core.errors import ConfigError, EnvironmentFault


@click.command()
@common(CONFIG, SET, JSON, QUIET)
@click.option(
    "--html", "page", type=click.Path(path_type=Path), metavar="FILE",
    help="Where the page goes; default data.html in the output folder.",
)  # fmt: skip
def data(config_path: Path, overrides: tuple[str, ...], as_json: bool, quiet: bool, page: Path | None) -> int:
    """Describe the data: images by class and split, sizes, copies, what is not used and why.

    Prepares the data if needed, and writes a page with a few images of each class as the network sees them.
    """
    from pipeline.core.files import write_text
    from pipeline.core.terminal import print_json, stderr, stdout
    from pipeline.report.contact_sheet import contact_sheet
    from pipeline.report.data_page import render_data_page
    from pipeline.report.data_terminal import render_data
    from pipeline.report.page_place import check_place
    from pipeline.results.data_summary import summarise
    from pipeline.run.planning import Selection, last_artifact

    config = load(config_path, overrides)
    path = page or config.output / config.name / "data.html"
    check_place(path, "data", "--html")  # before the work
    _, code = carry_out(config, Selection(until="data"), as_json=False, verbosity=-1 if quiet else 0)
    artifact = last_artifact("data", config, store_of(config))
    if code or artifact is None:
        return code
    summary = summarise(artifact.path)
    text = render_data_page(config.name, summary, contact_sheet(artifact.path, config.data.image_size))
    if as_json:
        print_json(summary.model_dump_json(indent=1))
    elif not quiet:
        stdout().show(render_data(summary))
    write_text(path, text)
    (stderr() if as_json else stdout()).say(str(path), label="page: ")
    return code


@click.command()
@click.argument("dataset")
@click.argument("root", type=click.Path(path_type=Path))
@click.option(
    "--url", metavar="FOLDER", help="A mirror: the address of a folder that holds the published files."
)
@QUIET
def download(dataset: str, root: Path, url: str | None, quiet: bool) -> None:
    """Download a data set into ROOT, if its publisher still serves it; an interrupted download continues."""
    from figkd.data import DATASETS
    from figkd.data.download import download as fetch
    from figkd.errors import DataError
    from pipeline.config.problems import did_you_mean
    from pipeline.core.terminal import stdout

    if dataset not in DATASETS:
        raise ConfigError("unknown data set", where=dataset, fix=did_you_mean(dataset, DATASETS))
    ui = interface(-1 if quiet else 0)
    try:
        bar = ui.step_started("download", "")
        names = fetch(
            dataset,
            root,
            url=url,
            progress=lambda done, total, note: bar(done >> 20, total >> 20, f"MB of {note}"),
        )
    except DataError as error:
        raise EnvironmentFault(error.what, where=dataset, fix=error.fix) from error
    finally:
        ui.close()
    stdout().say(
        f"{', '.join(names)} unpacked in {root}" if names else f"{dataset} is already in {root}", hang=2
    )
