"""Content-addressed artifacts on disk: found by what they were made from, checked by what they contain.

    <root>/artifacts/<step>/<key>.<digest>/     a finished artifact and its manifest `artifact.json`
    <root>/drafts/<step>.<key>.<random>/        one being written; renamed into place when complete
    <root>/scratch/<step>.<key>/                what a stage keeps to resume from after it was killed
    <root>/locks/<step>.<key>                   held while that key is made
    <root>/damaged/                             artifacts whose contents no longer match their manifest
    <root>/caches/                              what saves time and changes no result, such as timing caches

The key says what an artifact is made *from* (stage, version, arguments, digests of its inputs,
environment). The digest says what it *contains*; it leaves out the files that a stage calls volatile
(timings, logs), so that two runs that made the same thing have the same digest. A step that depends on
an artifact depends on its digest: a rebuilt, identical artifact invalidates nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

MANIFEST = "artifact.json"
_KEY_CHARS = 16
_DIGEST_CHARS = 12


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
        return _sha256_json(asdict(self))


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder and its manifest."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """sha256 over the names and contents of its non-volatile files (hex)."""
        return str(self.manifest["digest"])

    @property
    def bytes(self) -> int:
        """Total size of its files."""
        return sum(int(f["bytes"]) for f in self.manifest["files"].values())


class Store:
    """The artifacts under one folder. Safe for several processes at once, and against being killed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def caches(self) -> Path:
        """Folder for what stages keep for each other between runs; nothing in an artifact depends on it."""
        return self.root / "caches"

    def find(self, recipe: Recipe) -> Artifact | None:
        """The newest artifact of a recipe; contents are not checked (see `damage`)."""
        candidates = []
        for path in self._artifacts(recipe.step).glob(f"{recipe.key[:_KEY_CHARS]}.*"):
            manifest = _read_manifest(path)
            # An unreadable manifest is offered too: `damage` will tell, and the caller sets it aside.
            if not manifest or manifest.get("key") == recipe.key:
                candidates.append(Artifact(path, manifest))
        return max(candidates, key=lambda a: str(a.manifest.get("created", "")), default=None)

    def named(self, step: str, name: str | None) -> Artifact | None:
        """The artifact of a step with a folder name that was noted earlier, if it is still there."""
        manifest = _read_manifest(self._artifacts(step) / name) if name else {}
        return Artifact(self._artifacts(step) / str(name), manifest) if manifest else None

    def damage(self, artifact: Artifact) -> str:
        """What is wrong with an artifact's contents; empty if nothing is."""
        manifest = artifact.manifest
        if not manifest:
            return f"{MANIFEST} is missing or unreadable"
        files: Mapping[str, Any] = manifest["files"]
        if manifest["digest"] != _content_digest(files) or manifest["key"] != _sha256_json(
            manifest["recipe"]
        ):
            return f"{MANIFEST} contradicts itself"
        present = {p.relative_to(artifact.path).as_posix() for p in artifact.path.rglob("*") if p.is_file()}
        if extra := sorted(present - set(files) - {MANIFEST}):
            return f"unexpected file {extra[0]}"
        for name, facts in sorted(files.items()):
            path = artifact.path / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != facts["bytes"]:
                return f"{name} has {path.stat().st_size} bytes instead of {facts['bytes']}"
            if _sha256_file(path) != facts["sha256"]:
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
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire(poll_interval=0.1)
        try:
            yield
        finally:
            lock.release()

    def scratch(self, recipe: Recipe) -> Path:
        """A folder that outlives a killed run of this recipe; removed when the artifact is finished."""
        path = self.root / "scratch" / self._name(recipe)
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def draft(self, recipe: Recipe) -> Iterator[Path]:
        """A folder to write an artifact into; removed on the way out unless `commit` moved it."""
        drafts = self.root / "drafts"
        drafts.mkdir(parents=True, exist_ok=True)
        for left_over in drafts.iterdir():  # of a killed run: we hold the lock
            if _owner(left_over) == self._name(recipe):
                shutil.rmtree(left_over, ignore_errors=True)
        path = Path(tempfile.mkdtemp(prefix=f"{self._name(recipe)}.", dir=drafts))
        path.chmod(0o755)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

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
        files: dict[str, Any] = {}
        for path in sorted(p for p in draft.rglob("*") if p.is_file()):
            name = path.relative_to(draft).as_posix()
            facts = {"bytes": path.stat().st_size, "sha256": _sha256_file(path)}
            files[name] = facts | ({"volatile": True} if name in volatile else {})
            _fsync(path)
        digest = _content_digest(files)
        manifest = {
            "step": recipe.step,
            "key": recipe.key,
            "digest": digest,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "recipe": asdict(recipe),
            "files": files,
            "provenance": dict(provenance),
        }
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
        _fsync(draft / MANIFEST)
        _fsync(draft)
        target = self._artifacts(recipe.step) / f"{recipe.key[:_KEY_CHARS]}.{digest[:_DIGEST_CHARS]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        twin = Artifact(target, _read_manifest(target))
        if target.exists() and self.damage(twin):
            self.set_aside(twin)
        if not target.exists():  # else this was forced, and came out the same
            os.replace(draft, target)
            _fsync(target.parent)
        shutil.rmtree(self.root / "scratch" / self._name(recipe), ignore_errors=True)
        return Artifact(target, _read_manifest(target))

    def clean_drafts(self) -> None:
        """Remove what killed runs left half-written; drafts of running processes stay."""
        for draft in (self.root / "drafts").glob("*"):
            lock = FileLock(self.root / "locks" / _owner(draft))
            try:
                with lock.acquire(timeout=0):
                    shutil.rmtree(draft, ignore_errors=True)
            except (Timeout, OSError):
                continue

    def _artifacts(self, step: str) -> Path:
        return self.root / "artifacts" / step

    @staticmethod
    def _name(recipe: Recipe) -> str:
        return f"{recipe.step}.{recipe.key[:_KEY_CHARS]}"


def _owner(draft: Path) -> str:
    """Step and key of a draft, or of a folder that a stage's atomic writer keeps beside it under a longer name."""
    step, key, *_ = f"{draft.name.lstrip('.')}..".split(".")
    return f"{step}.{key}"


def _content_digest(files: Mapping[str, Any]) -> str:
    return _sha256_json({name: f["sha256"] for name, f in files.items() if not f.get("volatile")})


def _sha256_json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    wanted = {"step", "key", "digest", "created", "recipe", "files", "provenance"}
    return manifest if isinstance(manifest, dict) and wanted <= set(manifest) else {}


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
