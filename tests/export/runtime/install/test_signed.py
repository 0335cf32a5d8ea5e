"""A device takes what was signed by whom it trusts, also from a stick or a mirror; what is revoked serves no longer."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from export.bundle.keys import new_key, sign
from export.bundle.signing import sign_bundle
from export.runtime.bundle import Trust, ecdsa
from export.runtime.bundle.trust import Key
from export.runtime.install.bundles import verifier
from export.runtime.install.disk import LocalDisk
from export.runtime.install.errors import Refused
from export.runtime.install.primitive import install
from export.runtime.install.recovery import recover
from export.runtime.install.site import Site, load
from export.runtime.install.source import FolderSource
from tests.export.runtime.install.made import bundle_at, fine, site_at

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl program here")


@dataclass
class Signer:
    folder: Path
    name: str
    public: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.public = new_key(self.folder / f"{self.name}.pem", None)

    @property
    def id(self) -> str:
        return ecdsa.key_id(self.public)

    def sign(self, folder: str) -> str:
        sign_bundle(
            Path(folder), self.public, lambda message: sign(self.folder / f"{self.name}.pem", None, message)
        )
        return folder


@dataclass
class Case:
    tmp_path: Path

    def __post_init__(self) -> None:
        self.a, self.b = Signer(self.tmp_path, "a"), Signer(self.tmp_path, "b")
        self.trust = Trust(1, 1, {one.id: Key(one.public) for one in (self.a, self.b)})

    def site(self, trust: Trust | None = None) -> Site:
        site = site_at(self.tmp_path / "root")
        return replace(site, verify=verifier(trust or self.trust, lambda: load(site).seen))

    def bundle(self, sequence: int, *signers: Signer) -> str:
        folder = bundle_at(self.tmp_path / f"b{sequence}", sequence)
        for signer in signers:
            signer.sign(folder)
        return folder


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def _install(site: Site, folder: str) -> str:
    return install(site, FolderSource(folder, LocalDisk()), fine, fine, 60).release.id


def test_a_signed_bundle_is_taken_and_an_unsigned_one_refused(case: Case) -> None:
    serves = _install(case.site(), case.bundle(1, case.a))
    assert load(case.site()).committed[0].signers == (case.a.id,)
    with pytest.raises(Refused, match="0 of the 1 signatures"):
        _install(case.site(), case.bundle(2))
    assert recover(case.site()).state.active == serves


def test_a_release_whose_key_was_revoked_gives_way_to_the_newest_that_is_still_trusted(case: Case) -> None:
    older, _ = _install(case.site(), case.bundle(1, case.b)), _install(case.site(), case.bundle(2, case.a))
    done = recover(case.site(replace(case.trust, revoked=frozenset({case.a.id}))))
    assert done.state.active == older
    assert "no longer trusted: release" in done.notes[0]
    none = recover(case.site(replace(case.trust, revoked=frozenset({case.a.id, case.b.id}))))
    assert none.state.active is None and "nothing serves" in none.notes[0]


def test_sequences_are_compared_for_each_key(case: Case) -> None:
    """Whoever stole a key can sign a sequence of 10^9; once it is revoked, that bars nobody."""
    _install(case.site(), case.bundle(10**9, case.a))
    with pytest.raises(Refused, match="sequence 2 of small is older than 1000000000"):
        _install(case.site(), case.bundle(2, case.a, case.b))
    _install(case.site(), case.bundle(3, case.b))
    with pytest.raises(Refused, match="older than 3"):
        _install(case.site(), case.bundle(1, case.b))


def test_a_signature_that_came_later_is_added_to_a_release_that_is_here(case: Case) -> None:
    """So a key can be retired without another download of the engine."""
    folder = case.bundle(1, case.a)
    id = _install(case.site(), folder)
    case.b.sign(folder)
    assert _install(case.site(), folder) == id
    assert recover(case.site(replace(case.trust, revoked=frozenset({case.a.id})))).state.active == id


def test_expiry_counts_from_the_newest_release_that_was_committed_here(case: Case) -> None:
    """A clock that is behind revives no key."""
    _install(case.site(), case.bundle(1, case.a))
    assert load(case.site()).seen == "2025-01-02T03:04:05Z"
    later = replace(case.trust, keys={case.b.id: Key(case.b.public, (), "2999-01-01T00:00:00Z")})
    folder = case.bundle(2, case.b)
    with pytest.raises(Refused, match="expired"):
        verifier(later, lambda: "2999-06-01T00:00:00Z")(folder)
    assert verifier(later)(folder).sequence == 2
