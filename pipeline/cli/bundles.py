"""`bundle` and `predict`: what ships, made, signed, checked and tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from export.terminal import one_line
from pipeline.cli.keys import PASSPHRASE_FILE, passphrase_of, signer_of
from pipeline.cli.options import CONFIG, JSON, QUIET, SET, common, interface, load, store_of
from pipeline.core.errors import ConfigError, Exit

if TYPE_CHECKING:
    from export.runtime.bundle.verify import Choice

BUNDLE = click.argument("bundle_path", metavar="BUNDLE", type=click.Path(path_type=Path))
TRUST = click.option(
    "--trust", "trust_file", type=click.Path(path_type=Path), metavar="JSON",
    help="Whose signatures count; default /etc/figkd/trust.json or ~/.config/figkd/trust.json.",
)  # fmt: skip
UNSIGNED = click.option("--unsigned", is_flag=True, help="Accept a bundle without checking who made it.")


class _Made(click.Group):
    """`bundle CONFIG` is `bundle make CONFIG`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in that is not said."""
        said = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if said or not args else ["make", *args])


@click.group(cls=_Made)
def bundle() -> None:
    """Make bundles, sign and verify them. `bundle CONFIG` makes one of a finished run."""


@bundle.command("make")
@common(CONFIG, SET, JSON)
@click.option("--target", help="Default: the only one, or the only one that ships.")
@click.option(
    "--engine", "engines", metavar="ID", multiple=True,
    help="Such as cpu/int8; default: what the verdict ships. Several times: a device takes the first that fits.",
)  # fmt: skip
@click.option("--tar", is_flag=True, help="Write one file, too, with the signatures next to the bundle.")
@click.option(
    "--allow-unshipped", is_flag=True, help="Also what the verdict does not ship; the bundle records it."
)
@click.option("--channel", help="Whose releases replace each other; default: bundle.channel of the config.")
@click.option(
    "--sequence",
    type=click.IntRange(0),
    help="Grows with each release; default: the time of the measurement.",
)
@click.option("--licence", metavar="SPDX", help="The model's; default: bundle.licence of the config.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Where to; default bundles/ next to the report.",
)  # fmt: skip
def make(
    config_path: Path,
    overrides: tuple[str, ...],
    as_json: bool,
    target: str | None,
    engines: tuple[str, ...],
    tar: bool,
    allow_unshipped: bool,
    channel: str | None,
    sequence: int | None,
    licence: str | None,
    output: Path | None,
) -> None:
    """Write the bundle of a finished run: one folder that classifies a photo on its own."""
    from pipeline.core.terminal import print_json, stdout
    from pipeline.run import bundles
    from pipeline.run.planning import artifacts_of
    from pipeline.stages.packing import Choice

    config = load(config_path, overrides)
    store = store_of(config)
    chosen = engines[0].split("/", 1)[0] if engines and target is None else target
    name = bundles.target_of(artifacts_of(config, store), config, chosen)
    choice = Choice(
        name,
        engines,
        channel or config.bundle.channel,
        sequence,
        licence or config.bundle.licence,
        allow_unshipped or config.bundle.allow_unshipped,
        config.bundle.counts,
    )
    folder = bundles.make(config, store, choice, output or config.output / config.name / bundles.FOLDER)
    file = _tar(folder) if tar else None
    if as_json:
        print_json(json.dumps({"bundle": str(folder), "tar": str(file) if file else None}, indent=1))
        return
    stdout().say(one_line(str(folder)), label="bundle: ")
    if file:
        stdout().say(one_line(str(file)), label="tar: ")
    stdout().say(f"python3 {one_line(str(folder / 'run.pyz'))} classify PHOTO", label="next: ")


@bundle.command("tar")
@BUNDLE
def tar_of(bundle_path: Path) -> None:
    """Write a bundle and the signatures beside it as one file."""
    from pipeline.core.terminal import stdout
    from pipeline.run.bundles import faults

    with faults(str(bundle_path)):
        stdout().say(one_line(str(_tar(bundle_path))), label="tar: ")


@bundle.command("sign")
@BUNDLE
@click.option("--key", type=click.Path(path_type=Path), metavar="PEM", help="The private key.")
@PASSPHRASE_FILE
@click.option(
    "--external", type=click.Path(path_type=Path), metavar="PUB",
    help="The key is elsewhere (an HSM, a key service); this is its public part.",
)  # fmt: skip
@click.option(
    "--message", type=click.Path(path_type=Path), metavar="FILE",
    help="With --external: write what is to be signed (ECDSA P-256 of its SHA-256) here, and end.",
)  # fmt: skip
@click.option(
    "--signature", type=click.Path(path_type=Path), metavar="FILE",
    help="With --external: the signature that was made, base64 of its DER bytes.",
)  # fmt: skip
def sign(
    bundle_path: Path,
    key: Path | None,
    passphrase_file: Path | None,
    external: Path | None,
    message: Path | None,
    signature: Path | None,
) -> None:
    """Sign a bundle (OpenSSF Model Signing v1.0): one signature file next to it for each signer."""
    from export.bundle.keys import read_public
    from export.bundle.signing import bundle_statement, message_of, sign_bundle
    from export.bundle.signing import external as given
    from pipeline.core.files import read_bytes, write_bytes
    from pipeline.core.terminal import stdout
    from pipeline.run.bundles import faults

    if (key is None) == (external is None):
        raise click.UsageError("give --key, or --external with the public key")
    if external is not None and (message is None) == (signature is None):
        raise click.UsageError("--external needs --message or --signature")
    with faults(str(bundle_path)):
        if key is not None:
            public, signer = signer_of(key, passphrase_of(key, passphrase_file))
        else:
            assert external is not None
            public = read_public(external)
            if message is not None:
                write_bytes(message, message_of(bundle_statement(bundle_path)))
                stdout().say(one_line(str(message)), label="to sign: ")
                return
            assert signature is not None
            signer = given(read_bytes(signature).decode("ascii", "replace"))
        stdout().say(one_line(str(sign_bundle(bundle_path, public, signer))), label="signed: ")


@bundle.command("verify")
@BUNDLE
@TRUST
@UNSIGNED
@JSON
def verify(bundle_path: Path, trust_file: Path | None, unsigned: bool, as_json: bool) -> None:
    """Check every file of a bundle, and the signatures."""
    from export.runtime.bundle import open_bundle
    from pipeline.core.terminal import print_json, stdout
    from pipeline.run.bundles import faults

    with faults(str(bundle_path)):
        trust = trust_of(trust_file, unsigned)
        if trust is None:
            raise ConfigError("whose signatures count is not known", fix="give --trust FILE, or --unsigned")
        found = open_bundle(bundle_path, trust)
    release, files, signers = found.manifest.release, len(found.manifest.files), list(found.signers)
    if as_json:
        print_json(json.dumps({"release": release, "signers": signers}, indent=1))
        return
    whose = f"signed by {', '.join(key[:16] for key in signers)}" if signers else "signatures not checked"
    stdout().say(f"{release}, {files} files, {whose}", label="ok: ")


@click.command()
@click.argument("what", metavar="BUNDLE|ENGINE|CONFIG", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@common(SET, JSON, QUIET, TRUST, UNSIGNED)
@click.option("--folder", "folders", is_flag=True, help="IMAGE... are folders: take the images below them.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), metavar="FILE", help="Write a table.")
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, help="How many classes.")
@click.option("--target", help="With CONFIG: of this target.")
def predict(
    what: Path,
    images: tuple[Path, ...],
    overrides: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    trust_file: Path | None,
    unsigned: bool,
    folders: bool,
    csv_file: Path | None,
    top: int,
    target: str | None,
) -> int:
    """Classify images with a bundle, an engine file, or what a finished run ships.

    Exit codes: 0 done, 2 an image cannot be read (the others are done), 4 the engine cannot run here, 6 refused.
    """
    from dataclasses import asdict

    from pipeline.core.files import write_text
    from pipeline.core.terminal import print_json, stderr, stdout
    from pipeline.run.bundles import faults
    from pipeline.run.predict import as_csv, images_below, model_in, predict, shipped

    made_here = what.suffix.lower() in (".yaml", ".yml")
    if made_here:
        config = load(what, overrides)
        what = shipped(config, store_of(config), target)
    elif overrides or target:
        raise click.UsageError("--set and --target need a CONFIG")
    elif not what.exists():
        raise ConfigError("no such bundle, engine or config", where=str(what))
    with faults(str(what)):
        trust = trust_of(trust_file, unsigned)
    from export.runtime.bundle import UNSIGNED as ANYBODY

    if trust is None and not made_here and what.is_dir():
        stderr().say(
            "no signature was checked: this machine has no trust.json (--trust FILE, or --unsigned)",
            label="note: ",
        )
    files = [file for image in images for file in (images_below(image) if folders else [image])]
    ui = interface(-1 if quiet else 0)
    rows = []
    try:
        # What this machine's own run made lies in its own store, and is not signed there.
        with model_in(what, ANYBODY if made_here or trust is None else trust) as model:
            progress = ui.step_started("predict", "") if len(files) > 1 else lambda done, total, note: None
            for row in predict(model, files, min(top, len(model.classes)), progress):
                rows.append(row)
                if row.error:
                    ui.note(f"{one_line(str(row.file))}: {row.error}")
    finally:
        ui.close()
    if csv_file:
        write_text(csv_file, as_csv(rows, top))
    if as_json:
        document = [
            {"file": str(r.file), "labels": [asdict(label) for label in r.labels], "error": r.error}
            for r in rows
        ]
        print_json(json.dumps(document, indent=1))
    elif not csv_file:
        for row in rows:
            if row.labels:
                said = ", ".join(
                    f"{one_line(each.name)} {100 * each.probability:.1f} %" for each in row.labels
                )
                stdout().say(f"{one_line(str(row.file))}: {said}", hang=2)
    failed = sum(bool(row.error) for row in rows)
    if failed:
        stderr().say(f"{failed} of {len(rows)} images cannot be read", label="error: ")
    return int(Exit.CONFIG if failed else Exit.OK)


def _tar(folder: Path) -> Path:
    from export.bundle.archive import write_tar

    place = folder.resolve()
    out = place.with_name(f"{place.name}.tar")
    write_tar(folder, out)
    return out


def trust_of(file: Path | None, unsigned: bool) -> Choice | None:
    """Whose signatures count, by --trust, --unsigned or this machine's trust.json; None where that is not known."""
    from export.runtime.bundle import cli

    return cli.trust_of(str(file) if file else None, unsigned=unsigned)
