"""Candidates are measured once; what cannot be built, exported or survived is a row with the reason.

Protects: a scouting of many networks is not ended by one of them, a second scouting costs nothing, and a damaged
measurement is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from figkd.progress import Progress, no_progress
from pipeline.config import load_config
from pipeline.config.schema import DeployConfig
from pipeline.core.errors import EnvironmentFault, PipelineError
from pipeline.core.store import Store
from pipeline.core.store_usage import collect, survey
from pipeline.places.int8_layouts import int8_layouts
from pipeline.results.rows.scouted import Candidate
from pipeline.run.planning import known_devices
from pipeline.search.candidates import of_config
from pipeline.search.jobs import recipes
from pipeline.search.maker import CannotBeMade, Maker
from pipeline.search.scouting import Scouted, measure_candidates
from pipeline.search.untrained import Making

FONTS = Path(__file__).parents[3] / "deploy_configs" / "fonts_cpu.yaml"
NETS = """
import os, signal
import torch
from torch import nn

def small(num_classes, width=8):
    return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(width, num_classes))

def wide(num_classes):
    return small(num_classes, 16)

class _Sorted(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x[:, 0, :5, :5]).real.repeat(1, 9)[:, :21]

def no_onnx(num_classes):
    return _Sorted()

def crashes(num_classes):
    os.kill(os.getpid(), signal.SIGSEGV)
"""
TINY = {
    "data.options": "{train_per_class: 4, val_per_class: 4, test_per_class: 4}",
    "scout.targets": "[cpu]",
    "scout.images": "synthetic",
    "scout.min_samples": "20",
    "scout.min_seconds": "0",
    "scout.warmup_ms": "1",
    "scout.rounds": "2",
}


@dataclass
class Told:
    """What a user would see."""

    cached: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def step_started(self, step: str, reason: str) -> Progress:
        return no_progress

    def step_finished(self, step: str, summary: str, seconds: float, artifact: Path) -> None:
        self.finished.append(summary)

    def step_cached(self, step: str, summary: str) -> None:
        self.cached.append(summary)

    def step_failed(self, step: str, error: PipelineError) -> None:
        self.failed.append(str(error))

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def scout(tmp_path: Path) -> Callable[..., tuple[Scouted, Told, DeployConfig]]:
    """Scout networks of a file beside the config."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "c.yaml").write_text(f"extends: {FONTS}\nname: tiny\nstore: {tmp_path / 'store'}\n")

    def run(*models: str, **changes: str) -> tuple[Scouted, Told, DeployConfig]:
        values = TINY | {key.replace("__", "."): value for key, value in changes.items()}
        names = ", ".join(f"'nets:{name}'" for name in models)
        (tmp_path / "d.yaml").write_text(f"extends: c.yaml\nscout: {{models: [{names}]}}\n")
        config = load_config(tmp_path / "d.yaml", [f"{key}={value}" for key, value in values.items()])
        told = Told()
        return measure_candidates(config, of_config(config), Store(config.store.folder), told), told, config

    return run


def test_end_to_end(
    scout: Callable[..., tuple[Scouted, Told, DeployConfig]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows for all: times where it ran, reasons elsewhere; then everything is known, but for what was damaged."""
    found, told, config = scout("small", "no_onnx", "wide", "crashes")
    rows = {(row.candidate.model, row.precision): row for row in found.rows}
    assert len(rows) == 12
    for precision in ("fp32", "fp16", "int8"):
        small, wide = rows["nets:small", precision], rows["nets:wide", precision]
        assert small.timed and small.n >= 20 and small.p99_ms is None
        assert (
            small.p50_interval is None
            or small.p50_interval[0] <= (small.p50_ms or 0) <= small.p50_interval[1]
        )
        assert 0 < (small.engine_bytes or 0) < (wide.engine_bytes or 0)
        assert small.parameters == 8 * 27 + 8 + 16 + 8 * 21 + 21
        assert small.memory_bytes is None or small.memory_bytes > 100_000
        assert "ONNX" in rows["nets:no_onnx", precision].reason
        assert "SIGSEGV" in rows["nets:crashes", precision].reason
    assert rows["nets:small", "int8"].calibration == "synthetic"
    assert (found.classes, found.measured, found.failures) == (21, 4, {})
    assert len(told.finished) == len(told.failed) == 2
    assert any("4 measurements to make, of 4 candidates: nothing like it" in note for note in told.notes)

    store = Store(config.store.folder)
    folders = sorted((store.root / "artifacts" / "scout@cpu").iterdir())
    assert len(folders) == 4
    assert not list((store.root / "drafts").iterdir())
    kept = collect(store, survey(store), None, delete=False)
    assert not kept.removed  # `store gc` leaves what the last scouting refers to
    (damaged,) = (path for path in folders if '"nets:wide"' in (path / "rows.json").read_text())
    (damaged / "rows.json").write_text("[]")

    made: list[str] = []

    def make(self: Maker, making: Making, *_: object) -> CannotBeMade:
        made.append(making.candidate.model)
        return CannotBeMade("not now", "", lasting=False)

    monkeypatch.setattr(Maker, "make", make)
    again, told, _ = scout("small", "no_onnx", "wide", "crashes")
    assert made == ["nets:wide"]
    assert any("damaged" in note for note in told.notes)
    assert again.measured == 0  # what may go better next time is not kept
    assert [row for row in again.rows if row.candidate.model != "nets:wide"] == [
        row for row in found.rows if row.candidate.model != "nets:wide"
    ]
    later, told, _ = scout("small", "no_onnx", "wide", "crashes")
    assert any("1 measurements to make, of 4 candidates: about" in note for note in told.notes)
    assert later.foreseen_s > 0


def test_what_decides_a_measurement(tmp_path: Path) -> None:
    """Its network's code, the sampling, the size; not the seed, the teacher, the other targets or the budgets."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "c.yaml").write_text(f"extends: {FONTS}\nstore: {tmp_path / 'store'}\n")

    def key(*overrides: str, size: int = 32) -> str:
        config = load_config(tmp_path / "c.yaml", overrides)
        store = Store(config.store.folder)
        known = known_devices(store)
        candidate = Candidate(model="nets:small", image_size=size, code=tmp_path / "nets.py")
        found = recipes(config, candidate, 21, int8_layouts(config, known), known, store, real=True)
        return found.jobs["cpu"][1].key

    usual = key()
    for same in (
        "seed=7", "teacher.epochs=2", "targets.rtx=null", "budgets=null", "benchmark.min_seconds=2",
        "scout.targets=[cpu]", "precision.calibration_method=entropy", "name=other",
    ):  # fmt: skip
        assert key(same) == usual, same
    for other in (
        "scout.min_samples=50", "targets.cpu.threads=1", "export.opset=21", "precision.modes=[fp32]",
        "scout.memory=false", "targets.cpu.spinning=false",
    ):  # fmt: skip
        assert key(other) != usual, other
    assert key(size=40) != usual
    (tmp_path / "nets.py").write_text(NETS + "\n# changed\n")
    assert key() != usual


def test_the_usual_candidates() -> None:
    """Without a list: the config's student, and what is known to export at about this size."""
    config = load_config(FONTS)
    names = [candidate.model for candidate in of_config(config)]
    assert names[0] == "figkd/dsconv_nano"
    assert "figkd/wrn_16_2" in names
    assert not any(name.startswith("timm/") for name in names)
    large = [c.model for c in of_config(load_config(FONTS, ["data.image_size=224", "data.store_size=256"]))]
    assert "timm/mobilenetv3_small_100" in large
    assert "figkd/wrn_16_2" not in large


def test_data_that_are_not_there(tmp_path: Path) -> None:
    """Nothing is measured without knowing how many classes there are."""
    config = load_config(
        FONTS,
        [
            "data.dataset=image_folder",
            f"data.root={tmp_path / 'none'}",
            "data.options=null",
            f"store={tmp_path / 's'}",
        ],
    )
    with pytest.raises(EnvironmentFault):
        measure_candidates(config, of_config(config), Store(config.store.folder), Told())
