"""A store that takes artifacts from a remote before they are made, and brings there what it made.

    keys/<step>/<key>.json      the manifest of an artifact; written last, so that what it names is there
    blobs/<sha256>              the files, named by their content
    leases/                     see `pipeline.core.remotes.lease`

Nothing that comes from a remote is used before its manifest has passed the types of `pipeline.core.manifest`, is that
of the key, and every file has the size and sha256 that it says. A remote that fails is a warning: the artifact is
made here, and the remote is left alone for the rest of the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pipeline.core.manifest import MANIFEST, Manifest, parse_manifest
from pipeline.core.remotes import lease
from pipeline.core.remotes.files import Files, RemoteFault, TooLarge, Wanted, within
from pipeline.core.store import Artifact, Recipe, Store

T = TypeVar("T")
_MANIFEST_BYTES = 1 << 24
_MOST_FILES, _LONGEST = 10_000, 255
_BLOBS = ".blobs"
_GRACE_S = 10.0
_QUICK_S = 45.0
"""A request without an artifact's files may take so long, in s."""


@dataclass(frozen=True)
class Limits:
    """What one artifact may take: bytes, and seconds for its transfer. `push` is whether anything is written."""

    bytes: int = 20_000_000_000
    seconds: float = 600.0
    push: bool = True


@dataclass
class Traffic:
    """What a run moved."""

    pulled: dict[str, int] = field(default_factory=dict)
    pushed: dict[str, int] = field(default_factory=dict)


class Refused(Exception):
    """What a remote holds for a key cannot be used: why, and which of its blobs are at fault."""

    def __init__(self, what: str, blobs: frozenset[str] = frozenset()) -> None:
        super().__init__(what)
        self.blobs = blobs


class SharedStore:
    """A store and the remote that it shares. Safe for several processes and machines at once."""

    def __init__(
        self,
        store: Store,
        files: Files,
        limits: Limits,
        note: Callable[[str], None],
        pace: lease.Pace = lease.PACE,
    ) -> None:
        self.traffic = Traffic()
        self._store, self._files, self._limits, self._note, self._pace = store, files, limits, note, pace
        self._reads = True
        self._writes = limits.push
        self._spoiled: set[str] = set()  # keys and blobs of the remote that must be written again

    @property
    def writes(self) -> bool:
        """Whether artifacts are still brought there."""
        return self._writes

    @contextlib.contextmanager
    def claim(
        self, recipe: Recipe, check: Callable[[Path], object] = lambda folder: None
    ) -> Iterator[Artifact | None]:
        """The remote's artifact of a recipe, taken into the store; None if it has to be made here.

        Then a lease is held until the block ends, where the remote can hold one. The recipe's lock must be held.

        Args:
            recipe: what is needed.
            check: called with the artifact's folder before it is taken; whatever it raises refuses the artifact.
        """
        artifact, held = self._obtained(recipe, check)
        try:
            yield artifact
        finally:
            if held is not None:
                held.release()

    def push(self, artifact: Artifact) -> None:
        """Bring an artifact to the remote, unless a sound one of its key is there."""
        manifest = artifact.manifest
        if not self._writes or manifest is None:
            return
        name = _key_name(manifest.step, manifest.key)
        wanted = [w for w in _wanted(manifest) if w.bytes]
        size = sum(w.bytes for w in wanted)
        if size > self._limits.bytes:
            self._note(f"{manifest.step}: {_mb(size)} is more than store.remote_gb allows; not shared")
            return
        started = time.monotonic()
        try:
            if (
                name not in self._spoiled
                and self._quick(lambda: self._files.read(name, _MANIFEST_BYTES)) is not None
            ):
                return
            sent = self._quick(lambda: self._files.lacking(wanted))
            sent += [w for w in wanted if w.name in self._spoiled and w not in sent]
            by_blob = {f"blobs/{facts.sha256}": file for file, facts in manifest.files.items()}
            pairs = [(artifact.path / by_blob[w.name], w.name) for w in sent]
            pairs.append((artifact.path / MANIFEST, name))
            until = time.monotonic() + self._limits.seconds
            within(self._limits.seconds + _GRACE_S, lambda: self._files.put(pairs, until))
        except (RemoteFault, OSError) as error:
            self._writes = False
            self._warn(f"{manifest.step}: cannot be brought there", error, "nothing more is, in this run")
            return
        self._spoiled -= {name, *(w.name for w in wanted)}
        moved = sum(w.bytes for w in sent)
        self.traffic.pushed[manifest.step] = moved
        self._note(
            f"{manifest.step}: {_mb(moved)} to {self._files.title}, {time.monotonic() - started:.1f} s"
        )

    def _obtained(
        self, recipe: Recipe, check: Callable[[Path], object]
    ) -> tuple[Artifact | None, lease.Lease | None]:
        watch: lease.Watch | None = None
        name = f"leases/{recipe.step}.{recipe.key}.json"
        while self._reads:
            if (artifact := self._pulled(recipe, check)) is not None:
                return artifact, None
            if not (self._reads and self._writes):
                break
            try:
                held = self._quick(lambda: lease.take(self._files, name, self._pace))
                if held is not None:  # another may have brought it there since it was looked for
                    return self._pulled(recipe, check), held
                if watch is None:
                    watch = lease.Watch(self._files, name, self._pace)
                    self._note(f"{recipe.step}: another machine is making this; waiting for it")
                while not self._quick(watch.over):
                    time.sleep(self._pace.poll_s)
                self._spoiled.discard(_key_name(recipe.step, recipe.key))
            except (RemoteFault, OSError) as error:
                self._writes = False
                self._warn(
                    f"{recipe.step}: cannot be reserved there", error, "it is made here, and not shared"
                )
        return None, None

    def _pulled(self, recipe: Recipe, check: Callable[[Path], object]) -> Artifact | None:
        started = time.monotonic()
        name = _key_name(recipe.step, recipe.key)
        if name in self._spoiled:
            return None
        try:
            content = self._quick(lambda: self._files.read(name, _MANIFEST_BYTES))
            if content is None:
                return None
            manifest = self._checked(recipe, content)
            with self._store.draft(recipe) as draft:
                self._fetch(manifest, draft)
                _try(check, draft)
                artifact = self._store.commit(
                    recipe,
                    draft,
                    volatile={file for file, facts in manifest.files.items() if facts.volatile},
                    provenance={**manifest.provenance, "remote": self._files.title},
                )
        except (Refused, TooLarge) as error:
            self._spoiled |= {name, *(error.blobs if isinstance(error, Refused) else ())}
            self._warn(f"{recipe.step}: what is there cannot be used", error, "it is made here")
            return None
        except (RemoteFault, OSError) as error:
            self._reads = self._writes = False
            self._warn(
                f"{recipe.step}: cannot be taken from there", error, "it is not asked again in this run"
            )
            return None
        size = sum(w.bytes for w in _wanted(manifest))
        self.traffic.pulled[recipe.step] = size
        self._note(f"{recipe.step}: {_mb(size)} from {self._files.title}, {time.monotonic() - started:.1f} s")
        return artifact

    def _checked(self, recipe: Recipe, content: bytes) -> Manifest:
        """The manifest of a key, typed, and that of this recipe; bounded in files and bytes."""
        try:
            manifest = parse_manifest(content)
        except ValueError:
            raise Refused("its manifest is damaged") from None
        if (manifest.step, manifest.key) != (recipe.step, recipe.key):
            raise Refused("its manifest is that of another artifact")
        if manifest.contradiction():
            raise Refused("its manifest contradicts itself")
        if len(manifest.files) > _MOST_FILES or MANIFEST in manifest.files:
            raise Refused(f"it has more than {_MOST_FILES:,} files, or one called {MANIFEST}")
        if any(
            len(part.encode()) > _LONGEST or part == _BLOBS for f in manifest.files for part in Path(f).parts
        ):
            raise Refused("one of its files has a name that cannot be")
        parents = {str(parent) for file in manifest.files for parent in Path(file).parents}
        if parents & set(manifest.files):
            raise Refused("one of its files is a folder of others")
        size = sum(facts.bytes for facts in manifest.files.values())
        if size > self._limits.bytes:
            raise Refused(f"it has {_mb(size)}, more than store.remote_gb allows")
        return manifest

    def _fetch(self, manifest: Manifest, draft: Path) -> None:
        """Bring the blobs, check each, and put them where the manifest has them."""
        wanted = _wanted(manifest)
        blobs = draft / _BLOBS
        blobs.mkdir()
        for one in wanted:
            if not one.bytes:
                (blobs / one.local).touch()
        some = [one for one in wanted if one.bytes]
        until = time.monotonic() + self._limits.seconds
        try:
            within(self._limits.seconds + _GRACE_S, lambda: self._files.fetch(some, blobs, until))
        except RemoteFault as error:
            # A blob that is missing or of another size is a fault of this artifact; a remote that is gone is not.
            lacking = self._quick(lambda: self._files.lacking(some))
            if not lacking:
                raise
            raise Refused(str(error), frozenset(one.name for one in lacking)) from error
        bad = frozenset(one.name for one in wanted if _sha256(blobs / one.local) != one.local)
        if bad:
            raise Refused(f"{len(bad)} of its files have other contents than its manifest says", bad)
        last = {facts.sha256: file for file, facts in manifest.files.items()}
        for file, facts in manifest.files.items():
            target, blob = draft / file, blobs / facts.sha256
            target.parent.mkdir(parents=True, exist_ok=True)
            if last[facts.sha256] == file:
                blob.rename(target)
            else:
                target.write_bytes(blob.read_bytes())
        blobs.rmdir()

    def _quick(self, work: Callable[[], T]) -> T:
        return within(_QUICK_S, work)

    def _warn(self, what: str, error: Exception, then: str) -> None:
        self._note(f"WARNING: store.remote {self._files.title}: {what} ({error}); {then}")


def _try(check: Callable[[Path], object], folder: Path) -> None:
    try:
        check(folder)
    except Exception as error:  # whatever a reader makes of a stranger's files
        raise Refused(f"its files do not hold what they should: {type(error).__name__}") from error


def _wanted(manifest: Manifest) -> list[Wanted]:
    """The blobs of an artifact, each once."""
    sizes = {facts.sha256: facts.bytes for facts in manifest.files.values()}
    return [Wanted(f"blobs/{sha256}", size, sha256) for sha256, size in sorted(sizes.items())]


def _key_name(step: str, key: str) -> str:
    return f"keys/{step}/{key}.json"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
