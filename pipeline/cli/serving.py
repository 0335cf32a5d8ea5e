"""`serve`: a bundle behind HTTP, on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.bundles import TRUST, UNSIGNED
from pipeline.cli.options import SET, common, load, store_of
from pipeline.core.errors import ConfigError


@click.command()
@click.argument("what", metavar="BUNDLE|CONFIG", type=click.Path(path_type=Path))
@common(SET, TRUST, UNSIGNED)
@click.option("--target", help="With CONFIG: of this target.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on: this machine alone."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any.")
@click.option("--name", help="Of the model for clients; default: the bundle's.")
@click.option(
    "--waiting", type=click.IntRange(1, 10_000), default=32, show_default=True, metavar="N",
    help="Requests that wait or run; others get 503.",
)  # fmt: skip
def serve(
    what: Path,
    overrides: tuple[str, ...],
    trust_file: Path | None,
    unsigned: bool,
    target: str | None,
    host: str,
    port: int,
    name: str | None,
    waiting: int,
) -> int:
    """Answer requests over HTTP with a bundle, or with what a finished run ships.

    Open Inference Protocol v2, POST /classify, GET /metrics; see docs/serving.md. On a device: run.pyz serve.

    Exit codes: 0 ended by SIGTERM or Ctrl-C, after the last answer, 2 wrong usage, 4 the engine cannot run here or the
    port is taken, 6 refused, 130 interrupted before it served.
    """
    from export.runtime.serve.main import Options, serve
    from export.runtime.serve.service import Limits
    from pipeline.core.terminal import stderr
    from pipeline.run.bundles import faults
    from pipeline.run.predict import shipped

    made_here = what.suffix.lower() in (".yaml", ".yml")
    if made_here:
        config = load(what, overrides)
        what = shipped(config, store_of(config), target)
        if not what.is_dir():
            raise ConfigError(
                "the run ships no bundle",
                where=target or "",
                fix="figkd-pipeline bundle CONFIG --allow-unshipped, then serve BUNDLE",
            )
    elif overrides or target:
        raise click.UsageError("--set and --target need a CONFIG")
    elif not what.is_dir():
        raise ConfigError("no such bundle or config", where=str(what), fix="give the folder of a bundle")
    options = Options(
        bundle=str(what),
        host=host,
        port=port,
        name=name,
        trust=str(trust_file) if trust_file else None,
        # What this machine's own run made lies in its own store, and is not signed there.
        unsigned=unsigned or (made_here and trust_file is None),
        limits=Limits(waiting=waiting),
    )
    with faults():
        return serve(options, stderr().say)
