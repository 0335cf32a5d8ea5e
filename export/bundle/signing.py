"""Signatures of bundles and of trust files, with a key here or with one elsewhere (an HSM, a key service)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from export.bundle.keys import KeyFault
from export.runtime.bundle.dsse import IN_TOTO, envelope_bytes, pae
from export.runtime.bundle.ecdsa import key_id, key_pem, signed
from export.runtime.bundle.statement import digests_of, statement
from export.runtime.bundle.trust import PAYLOAD_TYPE, Trust, parse_trust
from export.runtime.bundle.verify import UNSIGNED, open_bundle, signature_name
from export.runtime.files import write_bytes

Signer = Callable[[bytes], bytes]
"""From a message to the ECDSA signature (DER) of its SHA-256."""


def sign_bundle(folder: Path, public: bytes, signer: Signer) -> Path:
    """Sign a bundle, after checking that it is whole; the signature's file lies beside the folder.

    Args:
        folder: of the bundle.
        public: DER bytes of the signer's public key.
        signer: signs with the private one.

    Raises:
        BundleRefused: the bundle is not what its manifest says.
        KeyFault: what the signer gave is no signature of this key.
    """
    bundle = open_bundle(folder, UNSIGNED)
    payload = bundle_statement(folder)
    path = Path(signature_name(bundle.folder, key_id(public)))
    write_bytes(path, _envelope(IN_TOTO, payload, public, signer))
    return path


def bundle_statement(folder: Path) -> bytes:
    """What is signed of a bundle.

    Raises:
        BundleRefused: the bundle is not what its manifest says.
    """
    bundle = open_bundle(folder, UNSIGNED)
    return statement(Path(bundle.folder).name, digests_of(bundle.manifest))


def message_of(payload: bytes, payload_type: str = IN_TOTO) -> bytes:
    """The bytes whose SHA-256 a key elsewhere signs."""
    return pae(payload_type, payload)


def sign_trust(path: Path, data: bytes, public: bytes, signer: Signer) -> Path:
    """Sign a trust file's content; the signature lies beside it.

    Raises:
        BundleRefused: it is no trust.
        KeyFault: as `sign_bundle`.
    """
    parse_trust(data)
    place = Path(signature_name(str(path), key_id(public)))
    write_bytes(place, _envelope(PAYLOAD_TYPE, data, public, signer))
    return place


def trust_bytes(trust: Trust) -> bytes:
    """The content of `trust.json`; the same for the same trust."""
    keys: Mapping[str, Any] = {
        keyid: {"pem": key_pem(key.der), "channels": list(key.channels), "not_after": key.not_after}
        for keyid, key in trust.keys.items()
    }
    said = {
        "format": 1,
        "version": trust.version,
        "threshold": trust.threshold,
        "keys": keys,
        "revoked": sorted(trust.revoked),
    }
    return (json.dumps(said, indent=1, sort_keys=True) + "\n").encode("ascii")


def external(text: str) -> Signer:
    """A signer that gives a signature made elsewhere: base64 of its DER bytes.

    Raises:
        KeyFault: the text is none.
    """
    try:
        signature = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise KeyFault("the signature is not base64", "give base64 of the DER bytes") from error
    return lambda message: signature


def _envelope(kind: str, payload: bytes, public: bytes, signer: Signer) -> bytes:
    message = pae(kind, payload)
    signature = signer(message)
    if not signed(public, signature, message):
        raise KeyFault(
            "the signature is not of this key and this message", "sign the SHA-256 of the message again"
        )
    hint = hashlib.sha256(key_pem(public).encode("ascii")).hexdigest()
    return envelope_bytes(kind, payload, signature, hint)
