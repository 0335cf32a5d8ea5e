"""`config` and `init`: configs shown, checked, described and begun."""

from __future__ import annotations

import json
from pathlib import Path

import click

from export.terminal import one_line
from pipeline.cli.options import CONFIG, JSON, SET, common, load
from pipeline.core.errors import Exit, PipelineError


@click.group()
def config() -> None:
    """Show, check and describe deploy configs."""


@config.command("show")
@common(CONFIG, SET, JSON)
def config_show(config_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a config with every default filled in."""
    import yaml

    from pipeline.core.terminal import print_json, stdout

    values = load(config_path, overrides).model_dump(mode="json")
    if as_json:
        print_json(json.dumps(values, indent=1))
    else:
        stdout().verbatim(yaml.safe_dump(values, sort_keys=False))


@config.command("schema")
def config_schema() -> None:
    """Print the JSON schema of deploy configs, for editors."""
    from pipeline.config.json_schema import json_schema
    from pipeline.core.terminal import print_json

    print_json(json.dumps(json_schema(), indent=1))


@config.command("check")
@click.argument("paths", metavar="CONFIG...", type=click.Path(path_type=Path), nargs=-1, required=True)
@SET
def config_check(paths: tuple[Path, ...], overrides: tuple[str, ...]) -> int:
    """Check configs, and their data if it is on this machine, without a run; shows all problems of each.

    A precision that cannot be made is such a problem, although a run would make the others.
    """
    from pipeline.core.terminal import stderr, stdout
    from pipeline.run import foreseen
    from pipeline.run.data_check import DataFindings, look_at_data

    codes = {Exit.OK}
    for path in paths:
        try:
            checked = load(path, overrides)
        except PipelineError as error:
            stderr().error(error, label="")
            codes.add(Exit.CONFIG)
            continue
        # A config may be checked where its data are not.
        here = checked.data.root is not None and checked.data.root.is_dir()
        data = look_at_data(checked) if here else DataFindings()
        lacks = foreseen.lacks(checked, data.listed) if data.listed else []
        for fault in (*data.faults, *lacks):
            stderr().error(fault, label=f"{one_line(str(path))}: ")
            codes.add(fault.exit_code)
        if not data.faults and not lacks:
            stdout().say(f"{one_line(str(path))}: ok")
        for remark in data.left_out:
            stdout().say(f"data: {remark}", label="note: ", style="yellow")
    return int(Exit.CONFIG if Exit.CONFIG in codes else max(codes))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write; default <folder name>.yaml."
)
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
@click.option(
    "--dataset", type=click.Choice(["image_folder", "csv", "hf_datasets"]),
    help="Where the labels are; default csv where FOLDER has a labels.csv, hf_datasets where it holds "
    "Parquet files or what save_to_disk() wrote, else the names of its folders.",
)  # fmt: skip
@click.option(
    "--option", "chosen", multiple=True, metavar="KEY=VALUE",
    help="One of the data's options for the config, such as layout=classes or small_classes=leave_out.",
)  # fmt: skip
def init(
    folder: Path, output: Path | None, force: bool, dataset: str | None, chosen: tuple[str, ...]
) -> None:
    """Write a commented starter config for a folder of images (a subfolder for each class, or a list of labels)."""
    from pipeline.config.starter import write_starter
    from pipeline.core.terminal import stdout

    options = {key: value for key, _, value in (item.partition("=") for item in chosen)}
    written, remarks = write_starter(folder, output, dataset=dataset, options=options, force=force)
    path = one_line(str(written))
    stdout().say(path, label="wrote ")
    for remark in remarks:
        stdout().say(remark, label="note: ", style="yellow")
    stdout().say(f"figkd-pipeline run {path}", label="next: ")
