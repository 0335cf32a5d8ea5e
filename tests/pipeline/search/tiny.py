"""A search over the tiny demonstration that trains for seconds, and scouting that measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figkd.progress import Progress, no_progress
from pipeline.config.schema import DeployConfig
from pipeline.config.search_file import LoadedSearch, load_search
from pipeline.results.rows.scouted import Candidate, ScoutRow
from tests.pipeline.conftest import FONTS, TINY, sets

SMALL: dict[str, Any] = TINY | {
    "data.options": "{train_per_class: 6, val_per_class: 3, test_per_class: 3}",
    "teacher.epochs": 1,
    "precision.modes": "[fp32, int8]",
    "precision.mixed": "never",
    "precision.qad.when": "never",
    "targets.rtx": "null",
    "budgets.engine_mb": "null",
    "teacher.model": "figkd/dsconv_nano",
}
TEXT = f"""\
base: {FONTS}
name: tiny
space:
  distill.lr: [0.1, 0.3, 0.6]
  distill.weight_decay: [0.0, 0.0005]
objectives: {{val_top1: max, latency_p50_ms@cpu: min}}
sampler: random
halving: {{min_epochs: 1, factor: 2}}
trials: 4
confirm: false
"""
MODEL_MS = {"figkd/dsconv_nano": 1.0, "figkd/mobilenetv2_half": 2.0}


def tiny(folder: Path, text: str = TEXT, *overrides: str, **changes: Any) -> LoadedSearch:
    """The search, its file written into a folder, its store there too."""
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    values = SMALL | {"store": folder / "store", "output": folder / "runs"} | changes
    return load_search(path, [*sets(values)[1::2], *overrides])


def measured(config: DeployConfig, candidates: Sequence[Candidate]) -> list[ScoutRow]:
    """Untrained engines as a scouting would find them; INT8 takes half the time."""
    return [
        ScoutRow(
            candidate=each,
            target=target,
            backend="onnxruntime",
            precision=precision,
            state="timed",
            n=1000,
            p50_ms=MODEL_MS[each.model] / (2 if precision == "int8" else 1),
            p50_interval=(0.9 * MODEL_MS[each.model], 1.1 * MODEL_MS[each.model]),
            engine_bytes=20_000,
        )
        for each in candidates
        for target in config.targets
        for precision in ("fp32", "int8")
    ]


class Told:
    """An interface that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step_started(self, step: str, reason: str) -> Progress:
        self.lines.append(step)
        return no_progress

    def step_finished(self, step: str, summary: str, seconds: float, artifact: Path) -> None: ...

    def step_cached(self, step: str, summary: str) -> None: ...

    def step_failed(self, step: str, error: Exception) -> None:
        self.lines.append(str(error))

    def note(self, text: str) -> None:
        self.lines.append(text)
