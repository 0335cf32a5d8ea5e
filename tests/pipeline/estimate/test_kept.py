"""A run is compared with the estimate that was made for it, once, and the next estimate learns from the difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.store import Artifact, Recipe, Store
from pipeline.estimate.kept import corrected, how_far_off, keep
from pipeline.places import environment
from pipeline.report import estimate_words
from pipeline.results.estimate import Estimate, StepEstimate
from pipeline.run.history import earlier_seconds

ESTIMATE = Estimate(
    steps=(
        StepEstimate(step="teacher", seconds=10.0, disk_bytes=1000, memory_bytes=5000),
        StepEstimate(step="benchmark@cpu", seconds=20.0, source="config"),
        StepEstimate(step="package", seconds=None, source="unknown"),
    )
)


def made(store: Store, step: str, seconds: float, content: bytes = b"x" * 1500) -> Artifact:
    """An artifact that took so long."""
    recipe = Recipe(step, 1, {"seconds": seconds})
    with store.lock(recipe), store.draft(recipe) as draft:
        (draft / "file").write_bytes(content)
        return store.commit(recipe, draft, provenance={"seconds": seconds, "cpu": environment.cpu_model()})


def test_compared_once_and_learnt_from(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store, "c", ESTIMATE)
    artifacts = {"teacher": made(store, "teacher", 15.0), "benchmark@cpu": made(store, "benchmark@cpu", 30.0)}
    found = how_far_off(store, "c", [*artifacts, "package"], artifacts, 6000)
    assert found is not None
    assert found.steps == {"teacher": (10.0, 15.0), "benchmark@cpu": (20.0, 30.0)}
    assert found.percent == pytest.approx(100 * 15 / 45)
    assert (found.disk, found.memory) == ((1000, 1500), (5000, 6000))
    said = estimate_words.off(found)
    assert "45 s in 2 steps, 30 s were estimated (+33 %)" in said and "furthest off: benchmark@cpu" in said
    assert how_far_off(store, "c", list(artifacts), artifacts, 0) is None

    again = corrected(store, ESTIMATE)
    assert [step.seconds for step in again.steps] == [15.0, 20.0, None]  # only what was measured is corrected
    assert again.factor == pytest.approx(35 / 30)
    # The corrected estimate was right: the factor stays.
    keep(store, "c", again)
    how_far_off(store, "c", ["teacher"], artifacts, 0)
    assert corrected(store, ESTIMATE).steps[0].seconds == pytest.approx(15.0)


def test_a_run_that_nobody_estimated(tmp_path: Path) -> None:
    """Nor one whose steps were all there; what cannot be read counts as none."""
    store = Store(tmp_path)
    assert how_far_off(store, "c", ["teacher"], {}, 0) is None
    keep(store, "c", ESTIMATE)
    assert how_far_off(store, "c", [], {}, 0) is None
    (tmp_path / "last" / "estimates" / "c.json").write_text("[]")
    assert how_far_off(store, "c", ["teacher"], {}, 0) is None
    (tmp_path / "caches" / "rates").mkdir(parents=True)
    (tmp_path / "caches" / "rates" / "took_over_foreseen.json").write_text('{"teacher": "x"}')
    assert corrected(store, ESTIMATE) == ESTIMATE


def test_earlier_runs(tmp_path: Path) -> None:
    """The median of what a step took on this machine."""
    store = Store(tmp_path)
    for seconds in (1.0, 3.0, 8.0):
        made(store, "package", seconds)
    assert earlier_seconds(store, ["package", "qad"]) == {"package": 3.0}
