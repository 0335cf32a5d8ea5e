"""A search without any training: what a trial comes to is a function of its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.schema import DeployConfig
from pipeline.config.search_file import LoadedSearch, load_search
from pipeline.core.store import Store
from pipeline.results.rows.scouted import Candidate, ScoutRow
from pipeline.results.rows.trials import Rung, SeedResult, ValidationScore
from pipeline.results.searched import Point
from pipeline.search.outcome import points_with_front
from pipeline.search.points import Judge
from pipeline.search.study import Study
from pipeline.search.trial import Failure, TrialOutcome, TrialRequest
from tests.pipeline.search.tiny import Told

BASE = """\
name: demo
data: {dataset: fonts, image_size: 32}
teacher: {model: figkd/resnet_tiny}
student: {model: figkd/dsconv_nano}
distill: {epochs: 4}
precision: {modes: [fp32, int8]}
targets:
  cpu: {engine: onnxruntime, precisions: [fp32, int8]}
"""
SEARCH = """\
base: base.yaml
name: pretend
space:
  student.model: [figkd/dsconv_nano, figkd/mobilenetv2_half]
  data.image_size: [24, 32, 40]
  distill.lr: {log: [0.01, 1]}
objectives: {val_top1: max, latency_p50_ms@cpu: min}
sampler: random
wave: 8
trials: 16
halving: {min_epochs: 1, factor: 2}
"""
FILES = {("cpu", "fp32"): "fp32.onnx", ("cpu", "int8"): "int8.onnx"}


def searched(folder: Path, text: str = SEARCH, *overrides: str, base: str = BASE) -> LoadedSearch:
    """The search over the pretended config; its store is in the folder."""
    (folder / "base.yaml").write_text(base, encoding="utf-8")
    (folder / "search.yaml").write_text(text, encoding="utf-8")
    return load_search(folder / "search.yaml", [f"store={folder / 'store'}", *overrides])


def chance(*parts: object) -> float:
    """0 to 1, the same for the same parts."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) / 2**32


def accuracy(config: DeployConfig, epoch: int) -> float:
    """Rises with the epochs; a student of more parameters and pixels is better."""
    seed = config.distill.seed or 0
    model = len(config.student.model) / 30
    noise = chance(config.student.model, config.data.image_size, config.distill.lr, epoch, seed)
    return round(20 * model + 0.5 * config.data.image_size + 8 * epoch + 6 * noise, 3)


def score(top1: float) -> ValidationScore:
    return ValidationScore(n=500, top1=top1, top5=None, mean_per_class=top1, worst_class=top1 / 2)


def pretend(request: TrialRequest) -> TrialOutcome:
    """What `run_trial` would come to."""
    config = DeployConfig.model_validate_json(request.config)
    if request.kind == "prepare":
        return TrialOutcome(0.0)
    full = config.distill.epochs
    epochs = request.epochs if request.kind == "rung" else full
    rungs = tuple(Rung(epochs=e, val_top1=accuracy(config, e), n=0) for e in range(1, epochs + 1))
    if request.kind == "rung":
        return TrialOutcome(0.0, rungs)
    top1 = accuracy(config, full)
    files = {"fp32.onnx": score(top1), "int8.onnx": score(top1 - 1)}
    result = SeedResult(seed=config.distill.seed or 0, epochs=full, student=score(top1), files=files)
    return TrialOutcome(0.0, rungs, result)


def failing(request: TrialRequest) -> TrialOutcome:
    """Every third trial fails whatever is done, by its learning rate."""
    config = DeployConfig.model_validate_json(request.config)
    if request.kind != "prepare" and chance("fails", config.distill.lr) < 1 / 3:
        return TrialOutcome(0.0, failure=Failure("the loss is nan in epoch 1", "lower the learning rate"))
    return pretend(request)


def latency(model: str, size: int) -> float:
    """ms."""
    return round(len(model) / 20 * (size / 32) ** 2, 4)


def scouted(config: DeployConfig, candidates: Sequence[Candidate]) -> list[ScoutRow]:
    """Untrained engines; INT8 takes half the time."""
    found = []
    for each in candidates:
        for precision, share in (("fp32", 1.0), ("int8", 0.5)):
            ms = latency(each.model, each.image_size) * share
            found.append(
                ScoutRow(
                    candidate=each, target="cpu", backend="onnxruntime", precision=precision, state="timed",
                    n=1000, p50_ms=ms, p50_interval=(0.98 * ms, 1.02 * ms), engine_bytes=int(1e4 * share),
                )
            )  # fmt: skip
    return found


def study(search: LoadedSearch, run=pretend, scouting=scouted) -> Study:  # type: ignore[no-untyped-def]
    store = Store(search.base.store.folder)
    judge = Judge(search.objectives, search.base.budgets, FILES)
    return Study(search, store, Told(), run, scouting, judge)


def front_of(work: Study) -> list[Point]:
    """The points on the front, as their numbers have them."""
    points = points_with_front(work.done, work.judge)
    return sorted((p for p in points if p.front), key=lambda p: p.front or 0)


def told(points: Sequence[Point]) -> str:
    """All that is known of points, to compare them."""
    return json.dumps([point.model_dump(mode="json") for point in points])
