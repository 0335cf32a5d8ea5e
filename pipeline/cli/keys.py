"""`key`: signing keys, and the files that say whose signatures count."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from export.terminal import one_line
from pipeline.core.errors import ConfigError

if TYPE_CHECKING:
    from export.bundle.signing import Signer
    from export.runtime.bundle.trust import Trust

PASSPHRASE_FILE = click.option(
    "--passphrase-file", type=click.Path(path_type=Path), metavar="FILE",
    help="The key's passphrase, on one line; asked for where it is not given.",
)  # fmt: skip
TRUST_FILE = click.argument("trust_path", metavar="TRUST.json", type=click.Path(path_type=Path))
_MOST_BYTES = 1 << 16


@click.group()
def key() -> None:
    """Make signing keys, and list whose signatures count."""


@key.command("new")
@click.argument("path", metavar="KEY.pem", type=click.Path(path_type=Path))
@PASSPHRASE_FILE
@click.option("--no-passphrase", is_flag=True, help="Leave the key unencrypted.")
def new(path: Path, passphrase_file: Path | None, no_passphrase: bool) -> None:
    """Make a key pair (ECDSA P-256): KEY.pem, encrypted and for you alone, and KEY.pub, to give away."""
    from export.bundle.keys import new_key, public_path
    from export.runtime.bundle.ecdsa import key_id
    from pipeline.core.terminal import stdout
    from pipeline.run.bundles import faults

    if no_passphrase and passphrase_file:
        raise click.UsageError("--no-passphrase and --passphrase-file contradict each other")
    secret = None
    if not no_passphrase:
        secret = _read(passphrase_file) if passphrase_file else _ask("passphrase for the new key", twice=True)
    with faults(str(path)):
        der = new_key(path, secret)
    stdout().say(f"{one_line(str(path))} (keep it) and {one_line(str(public_path(path)))}", label="wrote ")
    stdout().say(key_id(der), label="id: ")


@key.command("show")
@click.argument("path", metavar="KEY.pub", type=click.Path(path_type=Path))
def show(path: Path) -> None:
    """Print a public key's id and text."""
    from export.bundle.keys import read_public
    from export.runtime.bundle.ecdsa import key_id, key_pem
    from pipeline.core.terminal import stdout
    from pipeline.run.bundles import faults

    with faults(str(path)):
        der = read_public(path)
    stdout().say(key_id(der), label="id: ")
    stdout().verbatim(key_pem(der))


@key.command("trust")
@TRUST_FILE
@click.option("--add", "added", multiple=True, type=click.Path(path_type=Path), metavar="KEY.pub")
@click.option(
    "--revoke", "revoked", multiple=True, metavar="ID", help="A key's id, or its first 8 characters or more."
)
@click.option("--threshold", type=click.IntRange(1), help="How many different keys must sign.")
@click.option("--channel", "channels", multiple=True, help="The keys that are added may sign for this only.")
@click.option(
    "--not-after", default="", metavar="UTC", help="The keys that are added end then: 2030-01-31T00:00:00Z."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here; default: over TRUST.json.")
def trust(
    trust_path: Path,
    added: tuple[Path, ...],
    revoked: tuple[str, ...],
    threshold: int | None,
    channels: tuple[str, ...],
    not_after: str,
    output: Path | None,
) -> None:
    """Begin TRUST.json, or write its next version; without options, print it.

    A device takes the next version if as many keys as the threshold says of the version before, and of the new one,
    signed it: figkd-pipeline key sign.
    """
    from dataclasses import replace

    from export.bundle.keys import read_public
    from export.bundle.signing import trust_bytes
    from export.runtime.bundle.ecdsa import key_id
    from export.runtime.bundle.trust import Key, Trust, parse_trust
    from pipeline.core.files import write_bytes
    from pipeline.run.bundles import faults

    changes = bool(added or revoked or threshold)
    with faults(str(trust_path)):
        old = read_trust(trust_path) if trust_path.exists() else None
        if not changes:
            if old is None:
                raise ConfigError("no such file", where=str(trust_path), fix="begin it with --add KEY.pub")
            _print(old)
            return
        new = {key_id(der): Key(der, channels, not_after) for der in map(read_public, added)}
        base = old or Trust(0, 1, {})
        keys = {**base.keys, **new}
        made = replace(
            base,
            version=base.version + 1,
            threshold=threshold or base.threshold,
            keys=keys,
            revoked=base.revoked | {_whole_id(start, list(keys)) for start in revoked},
        )
        data = trust_bytes(made)
        parse_trust(data)
        write_bytes(output or trust_path, data)
    _print(made)


@key.command("sign")
@TRUST_FILE
@click.option("--key", "private", required=True, type=click.Path(path_type=Path), metavar="PEM")
@PASSPHRASE_FILE
def sign_trust(trust_path: Path, private: Path, passphrase_file: Path | None) -> None:
    """Sign a trust file; the signature is a file next to it."""
    from export.bundle.signing import sign_trust as made
    from pipeline.core.files import read_bytes
    from pipeline.core.terminal import stdout
    from pipeline.run.bundles import faults

    with faults(str(trust_path)):
        public, signer = signer_of(private, passphrase_of(private, passphrase_file))
        place = made(trust_path, read_bytes(trust_path), public, signer)
    stdout().say(one_line(str(place)), label="signed: ")


@key.command("follows")
@click.argument("new_path", metavar="NEW.json", type=click.Path(path_type=Path))
@click.argument("old_path", metavar="OLD.json", type=click.Path(path_type=Path))
def follows(new_path: Path, old_path: Path) -> None:
    """Check that a device that has OLD.json takes NEW.json, with the signatures beside it."""
    from export.runtime.bundle.trust import follow
    from export.runtime.bundle.verify import signatures_of
    from pipeline.core.files import read_bytes
    from pipeline.core.terminal import stdout
    from pipeline.run.bundles import faults

    with faults(str(new_path)):
        made = follow(read_trust(old_path), read_bytes(new_path), signatures_of(str(new_path.absolute())))
    stdout().say(f"version {made.version} follows version {made.version - 1}", label="ok: ")


def read_trust(path: Path) -> Trust:
    """The trust in a file.

    Raises:
        BundleRefused: it is none.
    """
    from export.runtime.bundle.trust import MOST_BYTES, parse_trust
    from pipeline.core.files import read_bytes

    try:
        return parse_trust(read_bytes(path, MOST_BYTES))
    except ValueError as error:
        raise ConfigError(str(error), where=str(path)) from error


def signer_of(private: Path, passphrase: bytes | None) -> tuple[bytes, Signer]:
    """The public key (DER) and the signer of a private key's file."""
    from export.bundle.keys import public_of, sign

    return public_of(private, passphrase), lambda message: sign(private, passphrase, message)


def passphrase_of(private: Path, file: Path | None) -> bytes | None:
    """The passphrase of a private key: from a file, else asked for; None where the key is not encrypted."""
    from export.bundle.keys import is_encrypted

    if not is_encrypted(private):
        return None
    return _read(file) if file else _ask(f"passphrase of {one_line(str(private))}")


def _read(file: Path) -> bytes:
    from pipeline.core.files import read_bytes

    if file.stat().st_mode & 0o077:
        raise ConfigError("others than its owner may read it", where=str(file), fix=f"chmod 600 {file}")
    lines = read_bytes(file, _MOST_BYTES).splitlines()
    if len(lines) != 1 or not lines[0]:
        raise ConfigError("a passphrase is one line that is not empty", where=str(file))
    return lines[0]


def _ask(what: str, *, twice: bool = False) -> bytes:
    if not sys.stdin.isatty():
        raise ConfigError(
            "the passphrase can be asked for on a terminal only",
            fix="give --passphrase-file" + (", or --no-passphrase" if twice else ""),
        )
    ask: Callable[..., str] = click.prompt
    return ask(what, hide_input=True, confirmation_prompt=twice, err=True).encode("utf-8")


def _whole_id(start: str, ids: list[str]) -> str:
    found = [each for each in ids if each.startswith(start)]
    if len(start) < 8 or len(found) != 1:
        raise ConfigError(
            f"{len(found)} keys begin with {start!r}",
            where="--revoke",
            fix="give 8 or more characters of the id",
        )
    return found[0]


def _print(trust: Trust) -> None:
    from pipeline.core.terminal import stdout

    out = stdout()
    out.say(
        f"version {trust.version}: {trust.threshold} of {len(set(trust.keys) - trust.revoked)} keys must sign"
    )
    for keyid, each in sorted(trust.keys.items()):
        facts = [
            "revoked" if keyid in trust.revoked else "",
            f"for {', '.join(each.channels)} only" if each.channels else "",
            f"until {each.not_after}" if each.not_after else "",
        ]
        said = ", ".join(filter(None, facts))
        out.say(f"{keyid}{f' ({said})' if said else ''}", indent=2)
