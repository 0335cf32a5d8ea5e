"""A story of installs on the model of a disk, cut off at every change, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from export.runtime.install.errors import InstallError, Refused, TakenBack
from export.runtime.install.primitive import collect, install, rollback
from export.runtime.install.recovery import recover, serving
from export.runtime.install.site import Machine, Site, load
from export.runtime.install.source import Entry
from export.runtime.install.state import Release
from tests.export.runtime.install.model_disk import ModelDisk, Tree, disk_of

ROOT = "/srv/releases"


@dataclass(frozen=True)
class Bundle:
    """A source made of texts; its manifest names the digests of its files."""

    sequence: int
    files: tuple[tuple[str, bytes], ...] = (("engine/e", b"engine"), ("labels", b"a b"))

    @property
    def manifest(self) -> bytes:
        digests = {name: _sha(content + b"%d" % self.sequence) for name, content in self.files}
        return json.dumps({"sequence": self.sequence, "files": digests}).encode()

    @property
    def id(self) -> str:
        return _sha(self.manifest)

    def size(self) -> int:
        return 1000

    def entries(self) -> Iterator[Entry]:
        yield Entry("bundle/manifest.json", [self.manifest])
        for name, content in self.files:
            yield Entry(f"bundle/{name}", [content, b"%d" % self.sequence])
        yield Entry("bundle.0123456789ab.sig", [b"signature"])


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def verify_on(disk: ModelDisk) -> Callable[[str], Release]:
    """Digests of all files; and the signature must be there."""

    def verify(folder: str) -> Release:
        manifest = disk.read(f"{folder}/manifest.json", 10_000)
        try:
            found = json.loads(manifest or b"")
        except ValueError:
            raise Refused("no manifest", folder) from None
        for name, digest in found["files"].items():
            if _sha(disk.read(f"{folder}/{name}", 10_000) or b"") != digest:
                raise Refused("changed", name)
        if disk.read(f"{folder}.0123456789ab.sig", 100) != b"signature":
            raise Refused("unsigned", folder)
        return Release(_sha(manifest or b""), "small", "stable", found["sequence"], ("0123456789ab",))

    return verify


def site_on(disk: ModelDisk, boot: str = "one") -> Site:
    return Site(ROOT, disk, verify_on(disk), Machine(boot, lambda: 1.0, lambda s: None))


def _fail(word: str) -> None:
    raise TakenBack(word)


@dataclass(frozen=True)
class Act:
    """One command, and the release that serves once it returned."""

    words: str
    run: Callable[[Site], object]
    target: Bundle | None
    succeeds: bool = True


def install_act(bundle: Bundle) -> Act:
    return Act(f"install {bundle.sequence}", lambda s: install(s, bundle, _fine, _fine, 60), bundle)


def _fine(word: str) -> None:
    pass


A, B, BAD, SICK, C, D = (Bundle(n) for n in range(1, 7))
FAILS = Act("watch fails", lambda s: install(s, SICK, _fine, _fail, 60), SICK, succeeds=False)
ROLLBACK = Act("rollback", rollback, B)
STORY = (
    install_act(A),
    install_act(B),
    Act("self-test fails", lambda s: install(s, BAD, _fail, _fine, 60), BAD, succeeds=False),
    FAILS,
    install_act(C),
    ROLLBACK,
    install_act(D),
    Act("gc", lambda s: collect(s, keep=1), D),
    install_act(D),
)


@dataclass
class Checker:
    """Plays a story, and examines what may be found after a power cut before each change and after each command."""

    most: int = 200
    """Combinations of losses taken at one moment."""
    nested: int = 20
    """The same for a recovery that is cut off itself."""
    left_out: int | None = None
    disk: ModelDisk = field(init=False)
    states: int = 0
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(7)
        self._seen: set[tuple[Tree, tuple[str | None, ...], str | None]] = set()
        self.disk = ModelDisk(left_out=self.left_out)

    def play(self, story: tuple[Act, ...] = STORY, stop_at_first: bool = False) -> None:
        active: Bundle | None = None
        for act in story:
            after = act.target if act.succeeds else active
            allowed = (active and active.id, after and after.id)
            name = f"{act.words}, change "
            self.disk.before = lambda a=allowed, n=name: self._examine(n, a, None)  # type: ignore[misc]
            try:
                act.run(site_on(self.disk))
            except TakenBack:
                assert not act.succeeds
            self.disk.before = lambda: None
            active = after
            self._examine(f"{act.words}, done ", (active and active.id,), active and active.id)
            if stop_at_first and self.problems:
                return

    def _examine(self, name: str, allowed: tuple[str | None, ...], done: str | None) -> None:
        for tree in self.disk.after_power_cut(self.most, self._chance):
            self._check(name + str(self.disk.changes), tree, allowed, done, self.nested)

    def _check(
        self, name: str, tree: Tree, allowed: tuple[str | None, ...], done: str | None, nested: int
    ) -> None:
        if (tree, allowed, done) in self._seen:
            return
        self._seen.add((tree, allowed, done))
        self.states += 1
        disk = disk_of(tree)
        site = site_on(disk, boot="two")
        faults = list(_faults(site, allowed, done, try_next=self.states % 4 == 0))
        if nested:
            again = disk_of(tree)
            again.before = lambda: self._cut_again(again, f"{name}, recovery", allowed, done, nested)
            recover(site_on(again, boot="two"))
        self.problems += [f"{name}: {fault}" for fault in faults]

    def _cut_again(
        self, disk: ModelDisk, name: str, allowed: tuple[str | None, ...], done: str | None, most: int
    ) -> None:
        for tree in disk.after_power_cut(most, self._chance):
            self._check(name, tree, allowed, None, 0)


def _faults(site: Site, allowed: tuple[str | None, ...], done: str | None, try_next: bool) -> Iterator[str]:
    """What is wrong with a disk as it was found at boot."""
    had_one = None not in allowed
    if done and site.disk.target(f"{ROOT}/current") != f"releases/{done}":
        yield "current does not lead to what was committed, where nothing recovers"
    try:
        chosen = serving(load(site), "two", 1.0, install_at_work=False)
        if chosen not in allowed:
            yield f"a runtime that only reads would serve {_short(chosen)}"
        elif chosen and not site.is_good(chosen):
            yield "a runtime that only reads would find a damaged release"
    except ValueError as error:
        if had_one:
            yield f"state.json is damaged: {error}"
    try:
        state = recover(site).state
    except (InstallError, AssertionError) as error:
        yield f"recovery failed: {error!r}"
        return
    if state.active not in allowed:
        yield f"{_short(state.active)} serves"
    if state.active and not site.is_good(state.active):
        yield "what serves is damaged"
    wanted = f"releases/{state.active}" if state.active else None
    if site.disk.target(f"{ROOT}/current") != wanted:
        yield "current does not follow the state"
    if site.disk.names(f"{ROOT}/staging") or site.disk.names(f"{ROOT}/trash"):
        yield "something is left over"
    release = state.release(state.active or "")
    if release and max(state.highest.values()) < release.sequence:
        yield "the highest sequence was lost"
    if try_next:
        newest = Bundle(99)
        install(site, newest, _fine, _fine, 60)
        if load(site).active != newest.id:
            yield "the next install does not serve"


def _short(id: str | None) -> str:
    return id[:8] if id else "nothing"
