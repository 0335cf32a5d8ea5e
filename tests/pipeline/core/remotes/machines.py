"""Two machines that share a remote: stores of their own, and something to make."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.remotes.files import Files
from pipeline.core.remotes.lease import Pace
from pipeline.core.remotes.shared import Limits, SharedStore
from pipeline.core.store import Artifact, Recipe, Store

RECIPE = Recipe("teacher", 1, {"epochs": 3}, {"data": "abc"})
CONTENT = {
    "model.pt": b"weights" * 1000,
    "copy/model.pt": b"weights" * 1000,
    "log.txt": b"fast",
    "empty": b"",
}
LIMITS = Limits()
QUICK = Pace(beat_s=0.1, expires_s=0.6, poll_s=0.05)


@dataclass
class Machine:
    """A store, its part in a remote, and what it told."""

    root: Path
    files: Files
    limits: Limits = LIMITS
    pace: Pace = QUICK
    notes: list[str] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self.store = Store(self.root)
        self.shared = SharedStore(self.store, self.files, self.limits, self.notes.append, self.pace)

    @property
    def warnings(self) -> list[str]:
        """Notes that warn."""
        return [note for note in self.notes if note.startswith("WARNING")]

    def obtain(self, recipe: Recipe = RECIPE, content: dict[str, bytes] | None = None) -> Artifact:
        """As the conductor does it: take it, or make it and bring it there."""
        with self.store.lock(recipe), self.shared.claim(recipe) as artifact:
            if artifact is None:
                artifact = self.make(recipe, content)
                self.shared.push(artifact)
        assert self.store.damage(artifact) == ""
        assert self.store.find(recipe) == artifact
        return artifact

    def make(self, recipe: Recipe = RECIPE, content: dict[str, bytes] | None = None) -> Artifact:
        """Make it here."""
        self.made += 1
        with self.store.draft(recipe) as draft:
            for name, data in (content or CONTENT).items():
                (draft / name).parent.mkdir(exist_ok=True)
                (draft / name).write_bytes(data)
            return self.store.commit(recipe, draft, volatile={"log.txt"}, provenance={"seconds": 1})


def shares(one: Machine, two: Machine) -> None:
    """What one made, two takes: the same files and digest, each blob moved once."""
    made = one.obtain()
    taken = two.obtain()
    assert (one.made, two.made) == (1, 0), (one.notes, two.notes)
    assert taken.digest == made.digest
    assert taken.manifest is not None and taken.manifest.files["log.txt"].volatile
    for name, data in CONTENT.items():
        assert (taken.path / name).read_bytes() == data
    assert one.shared.traffic.pushed == two.shared.traffic.pulled == {"teacher": 7004}
    assert not one.warnings and not two.warnings
    assert not (one.files.read(f"leases/{RECIPE.step}.{RECIPE.key}.json", 100))
