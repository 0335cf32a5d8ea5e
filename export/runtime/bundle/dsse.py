"""Signed envelopes: DSSE v1 in a Sigstore bundle, as OpenSSF Model Signing v1.0 lays them out."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from . import strict_json
from .errors import BundleRefused, shown

MOST_BYTES = 1 << 23
IN_TOTO = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_MATERIAL = {"publicKey", "tlogEntries", "timestampVerificationData"}


@dataclass(frozen=True)
class Envelope:
    """What was signed, and the signature; nothing is checked yet."""

    payload_type: str
    payload: bytes
    signature: bytes

    @property
    def message(self) -> bytes:
        """The bytes that the signature is of: DSSE's pre-authentication encoding."""
        return pae(self.payload_type, self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding.

    Source: https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def parse_envelope(data: bytes, name: str) -> Envelope:
    """The envelope in a signature file's bytes.

    Args:
        data: the bytes.
        name: of the file, for messages.

    Raises:
        BundleRefused: it is none, or has more than one signature.
    """
    found = strict_json.read(data, name, MOST_BYTES)
    _keys(found, name, "", {"mediaType", "verificationMaterial", "dsseEnvelope"})
    if found["mediaType"] != MEDIA_TYPE:
        raise BundleRefused("%s: mediaType is %s" % (name, shown(found["mediaType"])))
    material = found["verificationMaterial"]
    if not isinstance(material, dict) or not set(material) <= _MATERIAL or "publicKey" not in material:
        raise BundleRefused("%s was not made with a key of its signer" % name, "sign with a key")
    envelope = found["dsseEnvelope"]
    _keys(envelope, name, "dsseEnvelope", {"payload", "payloadType", "signatures"})
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise BundleRefused("%s holds other than one signature" % name, "give each signer a file")
    if not set(signatures[0]) <= {"sig", "keyid"} or not isinstance(envelope["payloadType"], str):
        raise BundleRefused("%s is no signed envelope" % name)
    return Envelope(
        envelope["payloadType"],
        _decoded(envelope["payload"], name),
        _decoded(signatures[0].get("sig"), name),
    )


def envelope_bytes(payload_type: str, payload: bytes, signature: bytes, hint: str) -> bytes:
    """The bytes of a signature file; the same for the same signature."""
    from json import dumps

    text = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": payload_type,
            "signatures": [{"sig": base64.b64encode(signature).decode("ascii"), "keyid": ""}],
        },
    }
    return (dumps(text, indent=1, sort_keys=True) + "\n").encode("ascii")


def _keys(value: Any, name: str, where: str, wanted: set[str]) -> None:
    if not isinstance(value, dict) or set(value) != wanted:
        raise BundleRefused("%s is no signed envelope%s" % (name, ": " + where if where else ""))


def _decoded(value: Any, name: str) -> bytes:
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, ValueError, AttributeError):
        raise BundleRefused("%s: a text in it is not base64" % name) from None
