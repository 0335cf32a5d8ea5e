"""Whose signatures count: `trust.json`, and how one version of it follows another (TUF's rule).

    {"format": 1, "version": 3, "threshold": 2,
     "keys": {KEYID: {"pem": "-----BEGIN PUBLIC KEY...", "channels": [], "not_after": ""}},
     "revoked": [KEYID]}

A bundle is taken if `threshold` different keys signed it that are not revoked, may sign for its channel (no channels:
for all) and have not expired.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from . import strict_json
from .dsse import parse_envelope
from .ecdsa import key_bytes, key_id, signed
from .errors import BundleRefused, shown

NAME = "trust.json"
PAYLOAD_TYPE = "application/vnd.figkd.trust+json"
MOST_BYTES = 1 << 20
_MOST_KEYS = 100
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}\Z")
_FIX = "take the file that the maker of the bundles gave you, or make one with figkd-pipeline key trust"


@dataclass(frozen=True)
class Key:
    """A signer."""

    der: bytes
    channels: tuple[str, ...] = ()
    """For which it may sign; empty: for all."""
    not_after: str = ""
    """UTC; empty: no end."""


@dataclass(frozen=True)
class Trust:
    """Whose signatures count."""

    version: int
    threshold: int
    keys: Mapping[str, Key]
    """By id."""
    revoked: frozenset[str] = frozenset()

    def fault(self, keyid: str, channel: str, when: str) -> str:
        """Why a key does not count; empty if it does."""
        key = self.keys.get(keyid)
        if keyid in self.revoked:
            return "is revoked"
        if key is None:
            return "is of nobody who is trusted"
        if key.channels and channel not in key.channels:
            return "may not sign for the channel %s" % channel
        if key.not_after and key.not_after < when:
            return "expired at %s" % key.not_after
        return ""


def parse_trust(data: bytes) -> Trust:
    """The trust in a file's bytes.

    Raises:
        BundleRefused: it is none; a key is listed under another id than its own; or so few keys are left that the
            threshold cannot be reached.
    """
    found = strict_json.read(data, NAME, MOST_BYTES)
    wanted = {"format", "version", "threshold", "keys", "revoked"}
    if (
        not isinstance(found, dict)
        or set(found) != wanted
        or not (_whole(found["format"]) and found["format"] == 1)
    ):
        raise BundleRefused("%s is none, or of another version of the format" % NAME, _FIX)
    keys, revoked = found["keys"], found["revoked"]
    if not isinstance(keys, dict) or not 1 <= len(keys) <= _MOST_KEYS or not _texts(revoked):
        raise BundleRefused("%s lists no keys, or too many" % NAME, _FIX)
    read = {keyid: _key(keyid, value) for keyid, value in keys.items()}
    usable = len(set(read) - set(revoked))
    if not (_whole(found["version"]) and _whole(found["threshold"]) and found["threshold"] <= usable):
        raise BundleRefused(
            "%s asks for %s signatures of %d keys" % (NAME, shown(found["threshold"]), usable), _FIX
        )
    return Trust(found["version"], found["threshold"], read, frozenset(revoked))


def count(
    signatures: Mapping[str, bytes], trust: Trust, channel: str, when: str
) -> tuple[dict[str, str], list[str]]:
    """Which signature files are of keys that count, whatever they sign.

    Args:
        signatures: the bytes of signature files, by name.
        trust: whose count.
        channel: for which they have to be.
        when: UTC, what expiry is compared with.

    Returns:
        Key id to the name of the file with its signature; and why others do not count.

    Raises:
        CannotRun: there is no OpenSSL here.
    """
    good: dict[str, str] = {}
    why: list[str] = []
    for name, data in sorted(signatures.items()):
        try:
            envelope = parse_envelope(data, name)
        except BundleRefused as error:
            why.append(error.what)
            continue
        message = envelope.message
        owner = next((i for i, key in trust.keys.items() if signed(key.der, envelope.signature, message)), "")
        if fault := trust.fault(owner, channel, when):
            why.append("%s %s" % (name, fault))
        else:
            good.setdefault(owner, name)
    return good, why


def follow(old: Trust, data: bytes, signatures: Mapping[str, bytes]) -> Trust:
    """The trust that takes the place of `old`: the next version, signed by a threshold of the old keys and of its own.

    Args:
        old: what counts now.
        data: the bytes of the new file.
        signatures: of signature files of it, by name.

    Raises:
        BundleRefused: it is not the next version, or too few signed it.
    """
    new = parse_trust(data)
    if new.version != old.version + 1:
        raise BundleRefused(
            "%s is version %d, and version %d is in use" % (NAME, new.version, old.version),
            "give version %d" % (old.version + 1),
        )
    of_it = {}
    for name, content in signatures.items():
        envelope = parse_envelope(content, name)
        if (envelope.payload_type, envelope.payload) == (PAYLOAD_TYPE, data):
            of_it[name] = content
    for trust, whose in ((old, "the keys in use"), (new, "its own keys")):
        good, why = count(of_it, _without_channels(trust), "", utc())
        if len(good) < trust.threshold:
            raise BundleRefused(
                "%s is signed by %d of %s, %d are needed%s"
                % (NAME, len(good), whose, trust.threshold, _reasons(why)),
                "have it signed by more of them",
            )
    return new


def require(signatures: Mapping[str, bytes], trust: Trust, channel: str, when: str) -> dict[str, str]:
    """The signature files that count, by key id; at least as many as the threshold.

    Raises:
        BundleRefused: there are fewer.
    """
    good, why = count(signatures, trust, channel, when)
    if len(good) < trust.threshold:
        raise BundleRefused(
            "the bundle has %d of the %d signatures that %s asks for%s"
            % (len(good), trust.threshold, NAME, _reasons(why)),
            "have it signed: figkd-pipeline bundle sign BUNDLE --key KEY.pem",
        )
    return good


def utc(seconds: float | None = None) -> str:
    """A time as the files tell it; now where none is given."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _without_channels(trust: Trust) -> Trust:
    """Channels are of bundles; a trust has none."""
    keys = {keyid: Key(key.der, (), key.not_after) for keyid, key in trust.keys.items()}
    return Trust(trust.version, trust.threshold, keys, trust.revoked)


def _key(keyid: str, value: Any) -> Key:
    if not isinstance(value, dict) or set(value) != {"pem", "channels", "not_after"}:
        raise BundleRefused("%s: the key %s is invalid" % (NAME, shown(keyid)), _FIX)
    pem, channels, not_after = value["pem"], value["channels"], value["not_after"]
    if not isinstance(pem, str) or not _texts(channels) or not all(map(_WORD.match, channels)):
        raise BundleRefused("%s: the key %s is invalid" % (NAME, shown(keyid)), _FIX)
    if not isinstance(not_after, str) or (not_after and not _TIME.match(not_after)):
        raise BundleRefused("%s: not_after of %s is %s" % (NAME, shown(keyid), shown(not_after)), _FIX)
    der = key_bytes(pem)
    if key_id(der) != keyid:
        raise BundleRefused("%s: a key is listed as %s, and is %s" % (NAME, shown(keyid), key_id(der)), _FIX)
    return Key(der, tuple(channels), not_after)


def _texts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_KEYS
        and all(isinstance(text, str) and len(text) <= 200 for text in value)
        and len(set(value)) == len(value)
    )


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 1


def _reasons(why: Sequence[str]) -> str:
    return "; ".join(["", *why[:4]])
