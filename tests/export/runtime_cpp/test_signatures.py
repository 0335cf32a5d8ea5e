"""The C++ runtime counts the signatures that Python counts, and takes no bundle that it refuses."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from export.bundle.keys import new_key, sign
from export.bundle.signing import sign_bundle, trust_bytes
from export.runtime.bundle import BundleRefused, parse_trust, verify
from export.runtime.bundle.dsse import parse_envelope
from export.runtime.bundle.ecdsa import key_id
from export.runtime.bundle.trust import Key, Trust
from tests.export.runtime.bundle.made import write_bundle
from tests.export.runtime_cpp.mutants import mutant
from tests.export.runtime_cpp.programs import read_by_cpp, verified

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl program here"),
]
Signer = tuple[Path, bytes]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[Signer]:
    folder = tmp_path_factory.mktemp("keys")
    return [(folder / f"{i}.pem", new_key(folder / f"{i}.pem", None)) for i in range(3)]


def _sign(folder: Path, key: Signer) -> Path:
    return sign_bundle(folder, key[1], lambda message: sign(key[0], None, message))


def _trust(signers: list[Signer], threshold: int = 1, **changes: Any) -> Trust:
    made = Trust(1, threshold, {key_id(der): Key(der) for _, der in signers})
    return replace(made, **changes)


def _both(programs: Path, folder: Path, trust: Trust) -> tuple[bool, str]:
    """Whether C++ takes a bundle, and what it says; Python has to agree."""
    path = folder.parent / "trust.json"
    path.write_bytes(trust_bytes(trust))
    try:
        release = verify(folder, parse_trust(path.read_bytes())).release
    except BundleRefused:
        release = ""
    ((status, words),) = verified(programs, [folder], path)
    assert (status, words) == (0, release) if release else status == 6, words
    return bool(release), words


def test_whose_signatures_count(programs: Path, tmp_path: Path, keys: list[Signer]) -> None:
    folder = write_bundle(tmp_path / "small")
    ident = key_id(keys[0][1])
    assert "0 of the 1" in _both(programs, folder, _trust(keys))[1]
    first = _sign(folder, keys[0])
    assert _both(programs, folder, _trust(keys))[0]
    assert "nobody who is trusted" in _both(programs, folder, _trust(keys[1:]))[1]
    assert "revoked" in _both(programs, folder, _trust(keys, revoked=frozenset({ident})))[1]
    for channels, not_after, word in (
        (("beta",), "", "channel stable"),
        (("beta", "stable"), "", ""),
        ((), "2024-12-31T00:00:00Z", "expired"),
        ((), "9990-01-01T00:00:00Z", ""),
    ):
        trust = _trust(keys, keys={ident: Key(keys[0][1], channels, not_after)})
        taken, words = _both(programs, folder, trust)
        assert taken != bool(word) and word in words
    shutil.copy(first, tmp_path / "small.00000000.sig")
    assert "1 of the 2" in _both(programs, folder, _trust(keys, 2))[1]
    _sign(folder, keys[2])
    assert _both(programs, folder, _trust(keys, 2))[0]
    (tmp_path / "current").symlink_to("small")
    assert _both(programs, tmp_path / "current", _trust(keys, 2))[0]
    (folder / "labels.json").write_bytes(b'["b","a"]\n')
    assert "labels.json" in _both(programs, folder, _trust(keys, 2))[1]


def test_a_signature_of_other_files(programs: Path, tmp_path: Path, keys: list[Signer]) -> None:
    signature = _sign(write_bundle(tmp_path / "small"), keys[0])
    content = {"engine/fp32.onnx": b"x", "engine/fp32.onnx.json": b"{}"}
    other = write_bundle(tmp_path / "other", content)
    shutil.copy(signature, tmp_path / signature.name.replace("small", "other"))
    taken, words = _both(programs, other, _trust(keys))
    assert not taken and ("other files" in words or "signs another" in words)
    link = tmp_path / signature.name.replace("small", "third")
    third = write_bundle(tmp_path / "third")
    link.symlink_to(signature)
    assert not _both(programs, third, _trust(keys))[0]


def test_signatures_that_were_changed(programs: Path, tmp_path: Path, keys: list[Signer]) -> None:
    """No mutant is taken that Python refuses."""
    rng = random.Random(4)
    trust = tmp_path / "trust.json"
    trust.write_bytes(trust_bytes(_trust(keys)))
    folders, refused = [], set()
    for n in range(300):
        folder = write_bundle(tmp_path / f"b{n}")
        if n == 0:
            good = _sign(folder, keys[0]).read_bytes()
        else:
            path = tmp_path / f"b{n}.{key_id(keys[0][1])[:8]}.sig"
            path.write_bytes(mutant(rng, good))
        folders.append(folder)
        try:
            verify(folder, parse_trust(trust.read_bytes()))
        except BundleRefused:
            refused.add(n)
    found = [status for status, _ in verified(programs, folders, trust)]
    assert set(found) == {0, 6} and found[0] == 0
    assert not [n for n in refused if found[n] == 0]
    assert len(refused) > 150


@pytest.mark.parametrize("kind", ["trust", "envelope"])
def test_no_document_means_more_than_to_python(
    programs: Path, tmp_path: Path, keys: list[Signer], kind: str
) -> None:
    """Base64 and large numbers are read more strictly than in Python; nothing else differs."""
    rng = random.Random(5)
    revoked = frozenset({key_id(keys[2][1])})
    good = {
        "trust": trust_bytes(replace(_trust(keys, 2), revoked=revoked)),
        "envelope": _sign(write_bundle(tmp_path / "small"), keys[0]).read_bytes(),
    }[kind]
    documents = [good, *(mutant(rng, good) for _ in range(1500))]
    found = read_by_cpp(programs, kind, documents)
    expected = [_read(kind, data) for data in documents]
    differing = [item for item in zip(documents, found, expected, strict=True) if item[1] != item[2]]
    assert not [item for item in differing if item[1] != "refused"], differing[:3]
    assert found[0] != "refused" and len(differing) < 30


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(threshold=0),
        lambda d: d.update(threshold=4),
        lambda d: d.update(version=0),
        lambda d: d.update(format=2),
        lambda d: d.update(format=True),
        lambda d: d.update(format=1.0),
        lambda d: d.update(more=1),
        lambda d: d.update(keys={}),
        lambda d: d.update(revoked=list(d["keys"])),
        lambda d: d.update(keys={"0" * 64: next(iter(d["keys"].values()))}),
        lambda d: next(iter(d["keys"].values())).update(pem="-----BEGIN PUBLIC KEY-----\nAA\n-----END"),
        lambda d: next(iter(d["keys"].values())).update(not_after="soon"),
        lambda d: next(iter(d["keys"].values())).update(channels=["a b"]),
        lambda d: next(iter(d["keys"].values())).pop("channels"),
    ],
)
def test_trusts_that_are_none(programs: Path, keys: list[Signer], edit: Callable[[Any], Any]) -> None:
    found = json.loads(trust_bytes(_trust(keys)))
    edit(found)
    data = json.dumps(found).encode()
    assert (read_by_cpp(programs, "trust", [data]), _read("trust", data)) == (["refused"], "refused")


def _read(kind: str, data: bytes) -> str:
    try:
        if kind == "trust":
            trust = parse_trust(data)
            return f"ok {trust.version} {trust.threshold} {len(trust.keys)} {len(trust.revoked)}"
        envelope = parse_envelope(data, "it")
    except BundleRefused:
        return "refused"
    message, signature = envelope.message, envelope.signature
    return f"ok {hashlib.sha256(message).hexdigest()} {hashlib.sha256(signature).hexdigest()}"
