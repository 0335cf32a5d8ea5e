"""`export-to`: a bundle in the form that others take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from export.terminal import one_line
from pipeline.cli.bundles import TRUST, UNSIGNED, trust_of
from pipeline.cli.options import JSON, common
from pipeline.core.errors import ConfigError

if TYPE_CHECKING:
    from export.publish.folder import Content
    from export.publish.source import Source

_OUT = click.argument("out", metavar="OUT", type=click.Path(path_type=Path))


@click.group("export-to")
def export_to() -> None:
    """Write a bundle as others take it. The engine's bytes stay the same.

    OUT is a folder, written whole or not at all. It may be what this command wrote there before, unchanged since;
    anything else is refused.
    """


@export_to.command("triton")
@click.argument("paths", metavar="BUNDLE... OUT", nargs=-1, type=click.Path(path_type=Path))
@common(TRUST, UNSIGNED, JSON)
@click.option("--name", default="", metavar="NAME", help="Of the model; default: the bundle's.")
@click.option("--python-backend", is_flag=True, help="Run ONNX Runtime in Triton's Python backend.")
@click.option(
    "--max-batch", type=click.IntRange(1, 4096), default=8, show_default=True,
    help="Largest batch, where the engine takes any.",
)  # fmt: skip
def triton(
    paths: tuple[Path, ...],
    trust_file: Path | None,
    unsigned: bool,
    as_json: bool,
    name: str,
    python_backend: bool,
    max_batch: int,
) -> None:
    """Write a model repository for NVIDIA Triton.

    Several bundles of one run make one model, if they hold TensorRT engines for different kinds of GPU.
    """
    from export.publish import triton

    if len(paths) < 2:
        raise click.UsageError("give a bundle and the folder to write")
    *bundles, out = paths
    options = triton.Options(name, python_backend, max_batch)
    with _faults(out):
        sources = [_open(bundle, trust_file, unsigned) for bundle in bundles]
        _write(out, triton.repository(sources, options), triton.KIND, sources, as_json=as_json)


def _open(bundle: Path, trust_file: Path | None, unsigned: bool) -> Source:
    """A bundle to export; as elsewhere, a note where nobody's signature is checked."""
    from export.publish.source import open_source
    from export.runtime.bundle import UNSIGNED as ANYBODY
    from pipeline.core.terminal import stderr

    if not bundle.exists():
        raise ConfigError("no such bundle", where=str(bundle))
    trust = trust_of(trust_file, unsigned)
    if trust is None:
        note = "nobody's signature was checked: this machine has no trust.json (--trust FILE, or --unsigned)"
        stderr().say(note, label="note: ")
    return open_source(bundle, ANYBODY if trust is None else trust)


def _write(
    out: Path, files: Mapping[str, Content], kind: str, sources: Sequence[Source], *, as_json: bool
) -> None:
    from export.publish.folder import write_folder
    from pipeline.core.terminal import print_json, stdout

    releases = [source.manifest.release for source in sources]
    changed = write_folder(out, files, kind, releases)
    if as_json:
        document = {"out": str(out), "files": sorted(files), "releases": releases, "changed": changed}
        print_json(json.dumps(document, indent=1))
        return
    stdout().say(one_line(str(out)), label="written: " if changed else "up to date: ")


@contextmanager
def _faults(where: Path) -> Iterator[None]:
    """What an export raises, with its exit code: 2 where something else must be asked for."""
    from export.publish.folder import InTheWay
    from export.publish.source import CannotExport
    from pipeline.run.bundles import faults

    try:
        with faults():
            try:
                yield
            except (InTheWay, CannotExport) as error:
                raise ConfigError(error.what, fix=error.fix) from error
    except OSError as error:
        if error.filename is None:
            error.filename = str(where)  # a write that fails does not say where
        raise
