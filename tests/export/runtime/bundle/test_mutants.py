"""Bundles changed at random: what is accepted has the content that was signed; OpenSSF's own tool agrees."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from export.bundle.keys import new_key, sign
from export.bundle.signing import sign_bundle
from export.runtime.bundle import BundleRefused, Trust, open_bundle
from export.runtime.bundle.ecdsa import key_id
from export.runtime.bundle.trust import Key
from tests.export.runtime.bundle.made import FILES, write_bundle

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl program here")
Mutation = Callable[[Path, random.Random], object]


def _any(folder: Path, chance: random.Random, *, signature: bool = True) -> Path:
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    if signature:
        found += sorted(folder.parent.glob("*.sig"))
    return chance.choice(found)


def _flip(folder: Path, chance: random.Random) -> None:
    path = _any(folder, chance)
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _cut(folder: Path, chance: random.Random) -> None:
    path = _any(folder, chance)
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def _grow(folder: Path, chance: random.Random) -> None:
    with _any(folder, chance).open("ab") as file:
        file.write(chance.choice((b"\n", b" ", b"\0", b"}")))


def _splice(folder: Path, chance: random.Random) -> None:
    path = _any(folder, chance)
    data = path.read_bytes()
    a, b = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    path.write_bytes(data[:a] + data[b:] if chance.random() < 0.5 else data[:b] + data[a:b] + data[b:])


def _swap(folder: Path, chance: random.Random) -> None:
    a, b = _any(folder, chance), _any(folder, chance)
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    b.write_bytes(one)


def _add(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice(
        (".git/config", "x", "engine/.x", "Labels.json", "manifest.json.1", "a/b/c")
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"added")


def _rename(folder: Path, chance: random.Random) -> None:
    path = _any(folder, chance, signature=False)
    path.rename(path.with_name(path.name.swapcase()))


def _link(folder: Path, chance: random.Random) -> None:
    path = _any(folder, chance, signature=False)
    target = folder.parent / "moved"
    path.rename(target)
    path.symlink_to(target)


def _remove(folder: Path, chance: random.Random) -> None:
    _any(folder, chance).unlink()


MUTATIONS: tuple[Mutation, ...] = (
    _flip,
    _flip,
    _flip,
    _cut,
    _grow,
    _splice,
    _splice,
    _swap,
    _add,
    _rename,
    _link,
    _remove,
)


def _mutants(tmp_path: Path, count: int) -> tuple[int, int]:
    """How many mutants were refused and how many taken; a taken one with other content fails the test."""
    key = tmp_path / "k.pem"
    der = new_key(key, None)
    good = tmp_path / "good"
    folder = write_bundle(good / "small")
    sign_bundle(folder, der, lambda message: sign(key, None, message))
    trust = Trust(1, 1, {key_id(der): Key(der)})
    content = {name: (folder / name).read_bytes() for name in [*FILES, "manifest.json"]}
    chance, refused, taken = random.Random(0), 0, 0
    for number in range(count):
        place = tmp_path / "mutant"
        shutil.copytree(good, place)
        mutation = chance.choice(MUTATIONS)
        mutation(place / "small", chance)
        try:
            bundle = open_bundle(place / "small", trust)
            found = {name: bundle.read(name) for name in [*bundle.manifest.files, "manifest.json"]}
        except BundleRefused:
            refused += 1
        else:
            taken += 1
            assert found == content, (number, mutation.__name__)
        shutil.rmtree(place)
    return refused, taken


def test_changed_bundles_are_refused(tmp_path: Path) -> None:
    refused, taken = _mutants(tmp_path, 100)
    assert taken < 0.1 * refused


@pytest.mark.slow
def test_ten_thousand_changed_bundles(tmp_path: Path) -> None:
    refused, taken = _mutants(tmp_path, 10_000)
    print(f"refused {refused}, taken with the signed content {taken}")
    assert taken < 0.1 * refused


needs_model_signing = pytest.mark.skipif(
    shutil.which("model_signing") is None, reason="model_signing (PyPI) is not installed"
)


@pytest.mark.slow
@needs_model_signing
def test_both_ways_with_openssfs_own_tool(tmp_path: Path) -> None:
    key = tmp_path / "k.pem"
    der = new_key(key, None)
    folder = write_bundle(tmp_path / "small")
    ours = sign_bundle(folder, der, lambda message: sign(key, None, message))

    def tool(*words: object) -> subprocess.CompletedProcess[str]:
        done = ["model_signing", *map(str, words)]
        return subprocess.run(done, capture_output=True, text=True, timeout=120)

    checked = ("verify", "key", folder, "--signature", ours, "--public_key", tmp_path / "k.pub")
    assert tool(*checked).returncode == 0, tool(*checked).stderr
    (folder / "labels.json").write_bytes(b'["a","c"]\n')
    assert tool(*checked).returncode != 0
    (folder / "labels.json").write_bytes(FILES["labels.json"])
    for more in ((), ("--no-ignore-git-paths",)):
        ours.unlink()
        made = tool("sign", "key", folder, "--private_key", key, "--signature", ours, *more)
        assert made.returncode == 0, made.stderr
        bundle = open_bundle(folder, Trust(1, 1, {key_id(der): Key(der)}))
        assert bundle.signers == (key_id(der),)
