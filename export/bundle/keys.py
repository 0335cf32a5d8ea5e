"""Signing keys: made, read and used by the `openssl` program; the private part stays in its file.

ECDSA on P-256. A private key's file is PEM (PKCS #8), readable by its owner only, encrypted unless that is declined.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from export.errors import ExportError
from export.runtime.bundle.ecdsa import key_bytes, key_pem
from export.runtime.bundle.errors import BundleRefused
from export.runtime.files import read_bytes, write_bytes

_MOST_BYTES = 1 << 16
_ENCRYPTED = b"ENCRYPTED"


class KeyFault(ExportError):
    """A key cannot be made, read or used."""


def new_key(private: Path, passphrase: bytes | None) -> bytes:
    """Make a key pair: the private key in `private`, the public one in `private` with the suffix `.pub`.

    Args:
        private: file to write; it must not exist.
        passphrase: that the key is encrypted with; None leaves it as it is.

    Returns:
        The public key's DER bytes.

    Raises:
        KeyFault: a file is there already, or `openssl` is missing.
    """
    public = public_path(private)
    for path in (private, public):
        if os.path.lexists(path):
            raise KeyFault(f"{path} exists", "give another name; a key is never overwritten")
    plain = _openssl(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], b"", asked="")
    der = key_bytes(_openssl(["pkey", "-pubout"], plain).decode("ascii"))
    if passphrase is not None:
        words = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "600000"]
        plain = _openssl(words, plain, passphrase, asked="-passout")
    private.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(plain)
        file.flush()
        os.fsync(file.fileno())
    write_bytes(public, key_pem(der).encode("ascii"))
    return der


def public_path(private: Path) -> Path:
    """Where the public key of a private one lies."""
    return private.with_suffix(".pub")


def read_public(path: Path) -> bytes:
    """The DER bytes of a public key's file in PEM.

    Raises:
        KeyFault: it is missing, or no public key on P-256.
    """
    try:
        return key_bytes(read_bytes(path, _MOST_BYTES).decode("ascii"))
    except BundleRefused as error:
        raise KeyFault(f"{path}: {error.what}", error.fix) from error
    except (OSError, ValueError) as error:
        raise KeyFault(f"{path} cannot be read: {error}", "give the .pub file of a key") from error


def is_encrypted(private: Path) -> bool:
    """Whether a private key asks for a passphrase.

    Raises:
        KeyFault: as `sign`.
    """
    return _ENCRYPTED in _private(private)


def public_of(private: Path, passphrase: bytes | None) -> bytes:
    """The DER bytes of the public key that belongs to a private one.

    Raises:
        KeyFault: as `sign`.
    """
    key = _private(private)
    text = _openssl(["pkey", "-pubout"], key, passphrase, is_encrypted=_ENCRYPTED in key)
    try:
        return key_bytes(text.decode("ascii"))
    except BundleRefused as error:
        raise KeyFault(f"{private} is no key of ECDSA on P-256", error.fix) from error


def sign(private: Path, passphrase: bytes | None, message: bytes) -> bytes:
    """ECDSA signature (DER) of a message's SHA-256.

    Raises:
        KeyFault: the key is missing, others may read it, it is no private key, or the passphrase is wrong.
    """
    is_locked = _ENCRYPTED in _private(private)
    words = ["dgst", "-sha256", "-sign", os.path.abspath(private)]
    return _openssl(words, message, passphrase, is_encrypted=is_locked)


def _private(path: Path) -> bytes:
    try:
        mode = os.stat(path).st_mode
        content = read_bytes(path, _MOST_BYTES)
    except (OSError, ValueError) as error:
        raise KeyFault(f"the key {path} cannot be read: {getattr(error, 'strerror', '') or error}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFault(f"others than its owner may use the key {path}", f"chmod 600 {path}")
    if b"PRIVATE KEY-----" not in content:
        raise KeyFault(f"{path} holds no private key", "give the file that figkd-pipeline key new wrote")
    return content


def _openssl(
    words: Sequence[str],
    given: bytes,
    passphrase: bytes | None = None,
    *,
    asked: str = "-passin",
    is_encrypted: bool = False,
) -> bytes:
    """Run `openssl`; the passphrase goes through a pipe, where no list of processes shows it."""
    if passphrase is not None and b"\n" in passphrase:
        raise KeyFault("a passphrase has one line", "choose another")
    read, write = os.pipe()
    try:
        # A key without a passphrase must not make openssl ask the terminal.
        os.write(write, (passphrase or b"") + b"\n")
        os.close(write)
        done = subprocess.run(
            ["openssl", words[0], *([asked, f"fd:{read}"] if asked else []), *words[1:]],
            input=given, capture_output=True, timeout=120, pass_fds=(read,),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise KeyFault("there is no openssl program here", "install openssl") from error
    finally:
        os.close(read)
    if done.returncode:
        if is_encrypted:
            # One wrong passphrase in 256 ends in valid padding; openssl then says that it cannot read what came out.
            raise KeyFault("the passphrase is not the key's, or the file is damaged", "try again")
        said = done.stderr.decode("utf-8", "replace").lower()
        raise KeyFault(f"openssl {words[0]} failed: {' '.join(said.split())[:200]}")
    return done.stdout
