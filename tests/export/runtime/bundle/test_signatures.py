"""Who must have signed a bundle did, or nothing is loaded: thresholds, expiry, revocation, rotation; fail closed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from export.bundle.keys import KeyFault, is_encrypted, new_key, public_of, read_public, sign
from export.bundle.signing import external, message_of, sign_bundle, sign_trust, trust_bytes
from export.runtime.bundle import BundleRefused, Trust, ecdsa, open_bundle, parse_trust, verify
from export.runtime.bundle.dsse import pae, parse_envelope
from export.runtime.bundle.trust import Key, follow
from export.runtime.bundle.verify import signatures_of
from tests.export.runtime.bundle.made import write_bundle

_PEM = "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n"
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl program here")
pytestmark = needs_openssl


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, bytes]]:
    folder = tmp_path_factory.mktemp("keys")
    return [(folder / f"{i}.pem", new_key(folder / f"{i}.pem", None)) for i in range(3)]


def _trust(signers: list[tuple[Path, bytes]], threshold: int = 1, **changes: Any) -> Trust:
    listed = {ecdsa.key_id(der): Key(der) for _, der in signers}
    return parse_trust(trust_bytes(replace(Trust(1, threshold, listed), **changes)))


def _sign(folder: Path, key: tuple[Path, bytes]) -> Path:
    return sign_bundle(folder, key[1], lambda message: sign(key[0], None, message))


def _refused(folder: Path, trust: Trust, **options: str) -> str:
    with pytest.raises(BundleRefused) as caught:
        verify(folder, trust, **options)
    return caught.value.what


def test_a_signed_bundle_is_taken_and_an_unsigned_one_is_not(
    tmp_path: Path, keys: list[tuple[Path, bytes]]
) -> None:
    folder = write_bundle(tmp_path / "small")
    assert "0 of the 1 signatures" in _refused(folder, _trust(keys))
    signature = _sign(folder, keys[0])
    assert signature.name == f"small.{ecdsa.key_id(keys[0][1])[:8]}.sig"
    assert open_bundle(folder, _trust(keys)).signers == (ecdsa.key_id(keys[0][1]),)
    (tmp_path / "current").symlink_to("small")
    assert verify(tmp_path / "current", _trust(keys)).name == "small"


def test_a_signature_of_another_key_of_another_bundle_or_cut(
    tmp_path: Path, keys: list[tuple[Path, bytes]]
) -> None:
    folder = write_bundle(tmp_path / "small")
    signature = _sign(folder, keys[1])
    assert "nobody who is trusted" in _refused(folder, _trust(keys[:1]))
    other = write_bundle(tmp_path / "other", {**{"engine/fp32.onnx": b"x", "engine/fp32.onnx.json": b"{}"}})
    shutil.copy(signature, tmp_path / signature.name.replace("small", "other"))
    assert "signs another" in _refused(other, _trust(keys)) or "other files" in _refused(other, _trust(keys))
    content = signature.read_bytes()
    for bad in (b"", content[:-20], content.replace(b"payloadType", b"payloadTyp"), b"[]", content * 9):
        signature.write_bytes(bad)
        assert "0 of the 1" in _refused(folder, _trust(keys))
    signature.write_bytes(content)
    assert verify(folder, _trust(keys))
    (folder / "labels.json").write_bytes(b'["b","a"]\n')
    assert "labels.json" in _refused(folder, _trust(keys))


def test_a_threshold_counts_different_keys(tmp_path: Path, keys: list[tuple[Path, bytes]]) -> None:
    folder = write_bundle(tmp_path / "small")
    first = _sign(folder, keys[0])
    shutil.copy(first, tmp_path / "small.00000000.sig")
    assert "1 of the 2" in _refused(folder, _trust(keys, 2))
    _sign(folder, keys[2])
    assert len(open_bundle(folder, _trust(keys, 2)).signers) == 2


def test_revoked_expired_and_of_another_channel(tmp_path: Path, keys: list[tuple[Path, bytes]]) -> None:
    folder = write_bundle(tmp_path / "small")
    _sign(folder, keys[0])
    ident = ecdsa.key_id(keys[0][1])
    assert "is revoked" in _refused(folder, _trust(keys, revoked=frozenset({ident})))
    old = {ident: Key(keys[0][1], (), "2024-12-31T00:00:00Z")}
    assert "expired" in _refused(folder, _trust(keys, keys=old))
    later = {ident: Key(keys[0][1], (), "9990-01-01T00:00:00Z")}
    assert verify(folder, _trust(keys, keys=later))
    assert "expired" in _refused(folder, _trust(keys, keys=later), seen="9995-01-01T00:00:00Z")
    beta = {ident: Key(keys[0][1], ("beta",), "")}
    assert "channel" in _refused(folder, _trust(keys, keys=beta))


def test_trust_follows_trust_by_the_keys_of_both(tmp_path: Path, keys: list[tuple[Path, bytes]]) -> None:
    old = _trust(keys[:2], 1)
    path = tmp_path / "trust.json"
    data = trust_bytes(Trust(2, 1, _trust(keys[2:]).keys, frozenset({ecdsa.key_id(keys[0][1])})))

    def signatures(*signers: int) -> dict[str, bytes]:
        for stale in tmp_path.glob("*.sig"):
            stale.unlink()
        for i in signers:
            sign_trust(path, data, keys[i][1], lambda message, i=i: sign(keys[i][0], None, message))
        return signatures_of(str(path))

    assert follow(old, data, signatures(1, 2)).version == 2
    for too_few in ((), (1,), (2,)):
        with pytest.raises(BundleRefused, match="signed by 0"):
            follow(old, data, signatures(*too_few))
    with pytest.raises(BundleRefused, match="version 2 is in use"):
        follow(replace(old, version=2), data, signatures(1, 2))
    # A bundle's signature is none of a trust, though the key is the same.
    folder = write_bundle(tmp_path / "trust.json")
    _sign(folder, keys[1])
    with pytest.raises(BundleRefused, match="signed by 0"):
        follow(old, data, signatures_of(str(path)))


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(threshold=0),
        lambda d: d.update(threshold=4),
        lambda d: d.update(threshold=True),
        lambda d: d.update(version=0),
        lambda d: d.update(format=2),
        lambda d: d.update(format=True),
        lambda d: d.update(format=1.0),
        lambda d: d.update(more=1),
        lambda d: d.update(keys={}),
        lambda d: d.update(revoked=list(d["keys"])),
        lambda d: d.update(keys={"0" * 64: next(iter(d["keys"].values()))}),
        lambda d: next(iter(d["keys"].values())).update(
            pem="-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
        ),
        lambda d: next(iter(d["keys"].values())).update(not_after="soon"),
        lambda d: next(iter(d["keys"].values())).update(channels="beta"),
        lambda d: next(iter(d["keys"].values())).pop("channels"),
    ],
)
def test_trusts_that_are_none(edit: Callable[[Any], None], keys: list[tuple[Path, bytes]]) -> None:
    found = json.loads(trust_bytes(_trust(keys)))
    edit(found)
    with pytest.raises(BundleRefused):
        parse_trust(json.dumps(found).encode())


def test_a_key_listed_twice_in_the_text_is_no_trust(keys: list[tuple[Path, bytes]]) -> None:
    text = trust_bytes(_trust(keys)).decode()
    with pytest.raises(BundleRefused, match="twice"):
        parse_trust(text.replace('"threshold": 1', '"threshold": 1, "threshold": 2').encode())


def test_library_and_program_agree_on_changed_signatures(keys: list[tuple[Path, bytes]]) -> None:
    (path, der), message = keys[0], b"a message"
    signature = sign(path, None, message)
    assert ecdsa.signed(der, signature, message)
    assert ecdsa.by_program(der, signature, message)
    assert not ecdsa.by_program(der, signature, message + b"!")
    assert not ecdsa.signed(keys[1][1], signature, message)
    generator = random.Random(0)
    for _ in range(2000):
        bad = bytearray(signature)
        for _ in range(generator.randint(1, 3)):
            bad[generator.randrange(len(bad))] ^= 1 << generator.randrange(8)
        bad = bad[: generator.choice((len(bad), len(bad) - 1, 9))]
        if bytes(bad) != signature:
            assert not ecdsa.signed(der, bytes(bad), message)
    assert not ecdsa.signed(der, b"", message)
    assert not ecdsa.signed(der, b"0" * 10_000, message)


def test_without_a_library_the_program_checks(
    monkeypatch: pytest.MonkeyPatch, keys: list[tuple[Path, bytes]]
) -> None:
    monkeypatch.setattr(ecdsa, "_library", lambda: None)
    signature = sign(keys[0][0], None, b"m")
    assert ecdsa.signed(keys[0][1], signature, b"m")
    assert not ecdsa.signed(keys[0][1], signature, b"n")


def test_keys_are_guarded(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    der = new_key(path, b"open sesame")
    assert path.stat().st_mode & 0o777 == 0o600
    assert is_encrypted(path)
    assert b"ENCRYPTED" in path.read_bytes()
    assert read_public(tmp_path / "k.pub") == der == public_of(path, b"open sesame")
    assert ecdsa.signed(der, sign(path, b"open sesame", b"m"), b"m")
    for wrong in (b"other", None):
        with pytest.raises(KeyFault, match="passphrase"):
            sign(path, wrong, b"m")
    # What a wrong passphrase decrypts to is now and then padded well; openssl then complains of the content alone.
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = tmp_path / "damaged.pem"
    damaged.write_bytes(b"".join((*lines[:3], lines[3].swapcase(), *lines[4:])))
    damaged.chmod(0o600)
    for use in (lambda: sign(damaged, b"open sesame", b"m"), lambda: public_of(damaged, b"open sesame")):
        with pytest.raises(KeyFault, match="passphrase"):
            use()
    with pytest.raises(KeyFault, match="exists"):
        new_key(path, None)
    path.chmod(0o644)
    with pytest.raises(KeyFault, match="others than its owner"):
        sign(path, b"open sesame", b"m")
    with pytest.raises(KeyFault, match="no private key"):
        (tmp_path / "k.pub").chmod(0o600)
        sign(tmp_path / "k.pub", None, b"m")


def test_other_curves_are_no_keys(tmp_path: Path) -> None:
    for curve in ("secp384r1", "secp256k1"):
        key = tmp_path / f"{curve}.pem"
        subprocess.run(["openssl", "ecparam", "-name", curve, "-genkey", "-noout", "-out", key], check=True)
        key.chmod(0o600)
        with pytest.raises(KeyFault, match="P-256"):
            public_of(key, None)


def test_a_key_elsewhere_signs_the_message(tmp_path: Path, keys: list[tuple[Path, bytes]]) -> None:
    import base64

    folder = write_bundle(tmp_path / "small")
    given: list[bytes] = []

    def elsewhere(message: bytes) -> bytes:
        given.append(message)
        return external(base64.encodebytes(sign(keys[0][0], None, message)).decode())(message)

    path = sign_bundle(folder, keys[0][1], elsewhere)
    assert verify(folder, _trust(keys[:1]))
    envelope = parse_envelope(path.read_bytes(), path.name)
    assert (
        given
        == [envelope.message]
        == [message_of(envelope.payload)]
        == [pae(envelope.payload_type, envelope.payload)]
    )
    with pytest.raises(KeyFault, match="not of this key"):
        sign_bundle(folder, keys[0][1], lambda message: sign(keys[1][0], None, message))
    with pytest.raises(KeyFault, match="base64"):
        external("?")


def test_the_same_key_and_files_are_signed_alike_by_name(
    tmp_path: Path, keys: list[tuple[Path, bytes]]
) -> None:
    first, again = write_bundle(tmp_path / "a" / "small"), write_bundle(tmp_path / "b" / "small")
    payloads = [parse_envelope(_sign(f, keys[0]).read_bytes(), "x").payload for f in (first, again)]
    assert payloads[0] == payloads[1]
