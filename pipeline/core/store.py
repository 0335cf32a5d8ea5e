"""Content-addressed artifacts on disk: found by what they were made from, checked by what they contain.

    <root>/artifacts/<step>/<key>.<digest>/     a finished artifact and its manifest (`pipeline.core.manifest`)
    <root>/drafts/<step>.<key>.<random>/        one being written; renamed into place when complete
    <root>/scratch/<step>.<key>/                what a stage keeps to resume from after it was killed
    <root>/locks/<step>.<key>                   held while that key is made
    <root>/damaged/                             artifacts whose contents no longer match their manifest
    <root>/caches/                              what saves time and changes no result, such as timing caches
    <root>/in_use/                              what running processes work with (`pipeline.core.pins`)

The key says what an artifact is made *from* (stage, version, arguments, digests of its inputs,
environment). The digest says what it *contains*; it leaves out the files that a stage calls volatile
(timings, logs), so that two runs that made the same thing have the same digest. A step that depends on
an artifact depends on its digest: a rebuilt, identical artifact invalidates nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from export.folders import sync
from export.runtime.files import sha256
from pipeline.core.files import Json, write_text
from pipeline.core.fingerprint import digests_or_errors
from pipeline.core.locks import held
from pipeline.core.manifest import (
    DIGEST_CHARS,
    KEY_CHARS,
    MANIFEST,
    FileFacts,
    MadeFrom,
    Manifest,
    content_digest,
    read_manifest,
    sha256_json,
)
from pipeline.core.pins import Pins, pinned

__all__ = ["MANIFEST", "Artifact", "Manifest", "Recipe", "Store"]

# Step and key, with which the name of everything that a step keeps beside its artifact begins.
_OURS = re.compile(rf"\.?(?P<owner>(?P<step>[^/]+)\.(?P<key>[0-9a-f]{{{KEY_CHARS}}}))(?:\..*)?", re.DOTALL)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what an artifact contains."""

    step: str
    version: int
    arguments: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """sha256 over the recipe as canonical JSON (hex)."""
        return sha256_json(asdict(self))


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder and its manifest, which is None where that cannot be used."""

    path: Path
    manifest: Manifest | None

    @property
    def digest(self) -> str:
        """sha256 over the names and contents of its non-volatile files (hex); empty without a manifest."""
        return self.manifest.digest if self.manifest else ""

    @property
    def bytes(self) -> int:
        """Total size of its files; 0 without a manifest."""
        return sum(facts.bytes for facts in self.manifest.files.values()) if self.manifest else 0


class Store:
    """The artifacts under one folder. Safe for several processes at once, and against being killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._pins = Pins(root)
        self._digests: Json = {}

    @property
    def caches(self) -> Path:
        """Folder for what stages keep for each other between runs; nothing in an artifact depends on it."""
        return self.root / "caches"

    def find(self, recipe: Recipe) -> Artifact | None:
        """The artifact of a recipe that was made last; contents are not checked (see `damage`)."""
        return max(self._made(recipe), key=_age, default=None)

    def named(self, step: str, name: str | None) -> Artifact | None:
        """The artifact of a step with a folder name that was noted earlier, if it is still there."""
        if not name or Path(name).name != name:
            return None
        found = Artifact(self._artifacts(step) / name, read_manifest(self._artifacts(step) / name))
        return found if found.manifest else None

    def artifact(self, step: str, name: str) -> Artifact:
        """What lies in the folder `name` of a step, whatever it is."""
        path = self._artifacts(step) / name
        return Artifact(path, read_manifest(path))

    def pin(self, artifact: Artifact) -> None:
        """Keep an artifact from `discard` until this process ends; call it while the recipe's lock is held."""
        self._pins.add(f"{artifact.path.parent.name}/{artifact.path.name}")

    def foreign(self, artifact: Artifact) -> str:
        """Why a folder is not exactly what this store once wrote; empty if it is. Sizes are compared, not contents."""
        if artifact.path.is_symlink() or not artifact.path.is_dir():
            return "is no folder"
        if artifact.manifest is None:
            return f"{MANIFEST} is missing or unreadable"
        present = _files(artifact.path)
        if extra := sorted(set(present) - set(artifact.manifest.files) - {MANIFEST}):
            return f"unexpected file {extra[0]}"
        if strange := sorted(name for name, regular in present.items() if not regular):
            return f"{strange[0]} is no regular file"
        for name, facts in artifact.manifest.files.items():
            if name in present and (artifact.path / name).stat().st_size != facts.bytes:
                return f"{name} has another size than was written"
        return ""

    def discard(self, artifact: Artifact) -> str:
        """Remove an artifact that the store made and nobody uses; the reason if it stays.

        It disappears at once; if this process is killed then, the next run removes the rest.
        """
        if reason := self.foreign(artifact):
            return reason
        assert artifact.manifest is not None
        pin = f"{artifact.manifest.step}/{artifact.path.name}"
        return self._discard(
            artifact.path, f"{artifact.manifest.step}.{artifact.manifest.key[:KEY_CHARS]}", pin
        )

    def discard_scratch(self, name: str) -> str:
        """Remove what a step kept to go on from, by the name of its folder; the reason if it stays."""
        path, ours = self.root / "scratch" / name, _OURS.fullmatch(name)
        if not ours or ours["owner"] != name or path.is_symlink() or not path.is_dir():
            return "is none of the store's folders"
        return self._discard(path, name)

    def _discard(self, folder: Path, owner: str, pin: str = "") -> str:
        """Remove a folder of ours at once, under the lock of its step and key."""
        lock, drafts = self.root / "locks" / owner, self.root / "drafts"
        for place in (lock.parent, drafts):
            place.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(lock).acquire(timeout=0):
                if pin and pin in pinned(self.root):
                    return "a running process uses it"
                grave = tempfile.mkdtemp(prefix=f"{owner}.", dir=drafts)
                os.replace(folder, grave)
                shutil.rmtree(grave, ignore_errors=True)
        except Timeout:
            return "a running process makes it"
        return ""

    def damage(self, artifact: Artifact) -> str:
        """What is wrong with an artifact's contents; empty if nothing is.

        Every file is read, but those that this store has read before and that did not change since.

        Raises:
            OSError: a file cannot be read.
        """
        manifest = artifact.manifest
        if manifest is None:
            return f"{MANIFEST} is missing or unreadable"
        if manifest.contradiction():
            return f"{MANIFEST} contradicts itself"
        present = _files(artifact.path)
        if strange := sorted(name for name, regular in present.items() if not regular):
            return f"{strange[0]} is no regular file"
        if extra := sorted(set(present) - set(manifest.files) - {MANIFEST}):
            return f"unexpected file {extra[0]}"
        paths = {name: artifact.path / name for name in sorted(manifest.files)}
        for name, path in paths.items():
            if name not in present:
                return f"{name} is missing"
            if (size := path.stat().st_size) != manifest.files[name].bytes:
                return f"{name} has {size} bytes instead of {manifest.files[name].bytes}"
        found = digests_or_errors([*paths.values()], self._digests)
        for name, path in paths.items():
            digest = found[path]
            if isinstance(digest, OSError):
                raise digest
            if digest != manifest.files[name].sha256:
                return f"{name} has other contents than were written"
        return ""

    def set_aside(self, artifact: Artifact) -> Path:
        """Move a damaged artifact out of the way; nothing is deleted."""
        graveyard = self.root / "damaged"
        graveyard.mkdir(parents=True, exist_ok=True)
        target = (
            Path(tempfile.mkdtemp(prefix=f"{artifact.path.parent.name}.", dir=graveyard)) / artifact.path.name
        )
        os.replace(artifact.path, target)
        return target

    @contextlib.contextmanager
    def lock(self, recipe: Recipe, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the recipe's lock; `on_wait` is called once if another process holds it."""
        path = self.root / "locks" / self._name(recipe)
        path.parent.mkdir(parents=True, exist_ok=True)
        with held(FileLock(path), on_wait):
            yield

    def scratch(self, recipe: Recipe) -> Path:
        """A folder that outlives a killed run of this recipe; removed when the artifact is finished."""
        path = self.root / "scratch" / self._name(recipe)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def begun(self, recipe: Recipe) -> bool:
        """Whether an earlier attempt at this recipe left something to go on from."""
        path = self.root / "scratch" / self._name(recipe)
        return path.is_dir() and any(path.iterdir())

    @contextlib.contextmanager
    def draft(self, recipe: Recipe) -> Iterator[Path]:
        """A folder to write an artifact into.

        Removed on the way out unless `commit` moved it; so is the recipe's scratch folder if nothing is in it.
        """
        drafts = self.root / "drafts"
        drafts.mkdir(parents=True, exist_ok=True)
        for left_over in drafts.iterdir():  # of a killed run: we hold the lock
            ours = _OURS.fullmatch(left_over.name)
            if ours and ours["owner"] == self._name(recipe):
                shutil.rmtree(left_over, ignore_errors=True)
        path = Path(tempfile.mkdtemp(prefix=f"{self._name(recipe)}.", dir=drafts))
        path.chmod(0o755)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                (self.root / "scratch" / self._name(recipe)).rmdir()

    def commit(
        self, recipe: Recipe, draft: Path, *, volatile: Collection[str] = (), provenance: Mapping[str, Any]
    ) -> Artifact:
        """Turn a draft into an artifact: hash, write the manifest, fsync everything, rename.

        Args:
            recipe: what it was made from.
            draft: the folder from `draft`.
            volatile: names of files that are kept and verified, but do not count for the digest.
            provenance: facts to keep in the manifest.
        """
        files: dict[str, FileFacts] = {}
        for path in sorted(p for p in draft.rglob("*") if p.is_file()):
            name = path.relative_to(draft).as_posix()
            files[name] = FileFacts(bytes=path.stat().st_size, sha256=sha256(path), volatile=name in volatile)
            sync(path)
        manifest = Manifest(
            step=recipe.step,
            key=recipe.key,
            digest=content_digest(files),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            sequence=1 + max((_age(other)[0] for other in self._made(recipe)), default=0),
            recipe=MadeFrom(**json.loads(json.dumps(asdict(recipe)))),
            files=files,
            provenance=dict(provenance),
        )
        target = self._artifacts(recipe.step) / f"{manifest.key[:KEY_CHARS]}.{manifest.digest[:DIGEST_CHARS]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        twin = Artifact(target, read_manifest(target))
        if os.path.lexists(target) and self.damage(twin):
            self.set_aside(twin)
            twin = Artifact(target, None)
        if twin.manifest:  # this was forced, and came out the same: the old one is the last now
            manifest = twin.manifest.model_copy(update={"sequence": manifest.sequence})
        write_text(draft / MANIFEST, manifest.to_json())
        if twin.manifest:
            os.replace(draft / MANIFEST, target / MANIFEST)
            sync(target)
        else:
            sync(draft)
            os.replace(draft, target)
            sync(target.parent)
        shutil.rmtree(self.root / "scratch" / self._name(recipe), ignore_errors=True)
        return Artifact(target, manifest)

    def clean_drafts(self, again: Collection[str] = ()) -> None:
        """Remove what killed runs left behind; what running processes hold stays, and what is not ours.

        These are half-written artifacts, and scratch folders that are empty or whose artifact is finished.

        Args:
            again: steps that will be made although they are finished; they may resume from their scratch.
        """
        for draft in (self.root / "drafts").glob("*"):
            self._remove(draft, lambda ours: True)

        def done_with(ours: re.Match[str]) -> bool:
            empty = not any((self.root / "scratch" / ours["owner"]).iterdir())
            finished = self._artifacts(ours["step"]).glob(f"{ours['key']}.*")
            return empty or (ours["step"] not in again and any(map(read_manifest, finished)))

        for scratch in (self.root / "scratch").glob("*"):
            self._remove(scratch, done_with)

    def _remove(self, folder: Path, useless: Callable[[re.Match[str]], bool]) -> None:
        """Remove a folder whose name is ours, whose step nobody makes, and that is `useless`."""
        ours = _OURS.fullmatch(folder.name)
        if not ours or folder.is_symlink() or not folder.is_dir():
            return
        try:
            with FileLock(self.root / "locks" / ours["owner"]).acquire(timeout=0):
                if useless(ours):
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            return

    def _made(self, recipe: Recipe) -> Iterator[Artifact]:
        """The artifacts of a recipe; one with an unusable manifest is among them, so that its damage is reported."""
        for path in self._artifacts(recipe.step).glob(f"{recipe.key[:KEY_CHARS]}.*"):
            manifest = read_manifest(path)
            if manifest is None or manifest.key == recipe.key:
                yield Artifact(path, manifest)

    def _artifacts(self, step: str) -> Path:
        return self.root / "artifacts" / step

    @staticmethod
    def _name(recipe: Recipe) -> str:
        return f"{recipe.step}.{recipe.key[:KEY_CHARS]}"


def _age(artifact: Artifact) -> tuple[int, str]:
    """Later artifacts of a recipe have larger values; a clock decides only in stores that did not count."""
    manifest = artifact.manifest
    return (manifest.sequence, manifest.created) if manifest else (-1, "")


def _files(folder: Path) -> dict[str, bool]:
    """What is in a folder, by path relative to it; whether each is a regular file. Links are not followed."""
    if folder.is_symlink():
        return {folder.name: False}
    found = {}
    for place, folders, names in os.walk(folder):
        for name in [*names, *(f for f in folders if os.path.islink(os.path.join(place, f)))]:
            path = Path(place, name)
            found[path.relative_to(folder).as_posix()] = stat.S_ISREG(path.lstat().st_mode)
    return found
