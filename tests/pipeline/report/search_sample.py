"""Searches and scoutings for the tests of their views: small ones, and crowded ones with names of any length."""

from __future__ import annotations

from typing import Any

from pipeline.config.schema import Budgets, Goal
from pipeline.results.rows.scouted import Candidate, ScoutDocument, ScoutRow
from pipeline.results.searched import (
    Confirmed,
    Effort,
    Missed,
    Point,
    SearchedTrial,
    SearchResult,
    Sought,
    TrainedEngine,
    Value,
)

ENDLESS = "Pseudopseudohypoparathyroidism" * 3
NETWORKS = (
    "figkd/dsconv_nano", "timm/mobilenetv4_conv_small_050.e3000_r224_in1k", "figkd/mobilenetv2_half",
    "timm/tf_efficientnet_lite0.in1k", "figkd/resnet20", f"nets:{ENDLESS}",
)  # fmt: skip


def trial(number: int, state: str = "finished", **more: object) -> SearchedTrial:
    values = {"reason": "", "fix": "", "epochs": 4, "val_top1": [50.0, 55.5, 60.0, 61.0 + number]}
    settings = {"student.model": "figkd/dsconv_nano", "distill.lr": 0.1 * number + 0.123456789}
    return SearchedTrial.model_validate(
        {"number": number, "settings": settings, "state": state, "seconds": 3.0, "failures": []}
        | values
        | more
    )


def point(number: int, precision: str, ms: float, front: int | None, **more: object) -> Point:
    values = {
        "val_top1": Value(value=61.0 + number, low=58.0, high=65.0),
        "latency_p50_ms@cpu": Value(value=ms, low=0.9 * ms, high=1.1 * ms),
    }
    found = {"id": f"t{number:04d}/{precision}", "trial": number, "precision": precision, "values": values}
    return Point.model_validate(found | {"front": front} | more)


def searched() -> SearchResult:
    engine = TrainedEngine(
        target="cpu", test_top1=60.5, test_low=58.4, test_high=62.6, n=2100, engine_mb=0.02,
        latency_p50_ms=Value(value=0.31, low=0.30, high=0.33),
        misses=[Missed(metric="top1", target="cpu", side="min", limit=62, value=60.5)],
    )  # fmt: skip
    missed = Missed(metric="latency_p50_ms", target="cpu", side="max", limit=1, value=1.4)
    return SearchResult(
        name="students", base="demo", created="2026-01-02T03:04:05Z", sampler="tpe",
        objectives=[
            Sought(name="val_top1", metric="top1", target="", direction="max", limit=62),
            Sought(name="latency_p50_ms@cpu", metric="latency_p50_ms", target="cpu", direction="min", limit=1),
        ],
        space={"student.model": "figkd/dsconv_nano", "distill.lr": "0.1 to 1, logarithmic"},
        seeds=1, rungs=[1, 2, 4], validation_images=500,
        trials=[
            trial(0), trial(1), trial(2, "paused", val_top1=[40.0], epochs=1),
            trial(3, "excluded", val_top1=[], epochs=0, reason="untrained, it misses the budgets"),
            trial(4, "failed", val_top1=[], epochs=0, reason="the loss is nan", fix="lower the learning rate"),
        ],
        points=[
            point(1, "fp32", 0.8, 1, confirmed=Confirmed(config="students-t0001-fp32", engines=[engine])),
            point(0, "int8", 0.3, 2, confirmed=Confirmed(config="students-t0000-int8", failure="no disk")),
            point(0, "fp32", 1.4, None, misses=[missed]),
        ],
        effort=Effort(epochs=9, epochs_of_everything=20, training_seconds=15, shared_seconds=9),
        cpu="a CPU", gpu="none",
    )  # fmt: skip


def searched_crowded() -> SearchResult:
    """Six networks on the front of 24 trials, three objectives on two targets, names and reasons that never end."""
    small = searched()
    trials, points = [], []
    for number in range(24):
        network = number % len(NETWORKS)
        settings = {
            "student.model": NETWORKS[network],
            "data.image_size": 160,
            "distill.lr": 0.01 * (number + 1),
        }
        state = "finished" if number < 12 else ("paused", "excluded", "failed")[number % 3]
        more: dict[str, object] = {"settings": settings, "seconds": 1234.5}
        if state in ("excluded", "failed"):
            more |= {"epochs": 0, "val_top1": [], "reason": f"{ENDLESS} {ENDLESS * 2}", "fix": ENDLESS}
        trials.append(trial(number, state, **more))
        for precision, share in (("fp32", 1.0), ("int8", 0.4)) if state == "finished" else ():
            ms, mb = share * (0.3 + network**2), share * (0.1 + 3 * network)
            values = {
                "val_top1": Value(
                    value=58.0 + 2 * network + share, low=55.0 + 5 * network, high=72.0 + 5 * network
                ),
                "latency_p50_ms@cpu": Value(value=ms, low=0.95 * ms, high=1.05 * ms),
                "engine_mb@edge_camera_number_one": Value(value=mb),
            }
            front = 2 * network + (precision == "int8") + 1 if number < len(NETWORKS) else None
            points.append(point(number, precision, ms, front, values=values))
    objectives = [*small.objectives, Sought(
        name="engine_mb@edge_camera_number_one", metric="engine_mb", target="edge_camera_number_one", direction="min",
        limit=None,
    )]  # fmt: skip
    engine = TrainedEngine(
        target="edge_camera_number_one", test_top1=60.5, test_low=58.4, test_high=62.6, n=2100, engine_mb=0.02,
        latency_p50_ms=Value(value=0.31, low=0.30, high=0.33), misses=[],
    )  # fmt: skip
    engines = [engine, engine.model_copy(update={"target": "cpu"})]
    points[0] = points[0].model_copy(
        update={"confirmed": Confirmed(config=f"{ENDLESS}-t0000-fp32", engines=engines)}
    )
    space = {"student.model": ", ".join(NETWORKS), "distill.lr": "0.01 to 1, logarithmic"}
    update = {"name": ENDLESS, "objectives": objectives, "trials": trials, "points": points, "space": space}
    return small.model_copy(update={**update, "cpu": ENDLESS * 2})


BUDGETS = Budgets(latency_p50_ms=Goal(max=2.0), engine_mb=Goal(max=1.0, target=["cpu"]), top1=Goal(min=80))


def scouted_row(model: str, target: str = "cpu", p50: float | None = 1.0, **changes: Any) -> ScoutRow:
    facts: dict[str, Any] = {
        "candidate": Candidate(model=model, image_size=32), "target": target, "backend": "onnxruntime",
        "precision": "int8", "state": "timed" if p50 else "failed", "p50_ms": p50, "n": 900, "parameters": 5_181,
        "engine_bytes": 24_262, "memory_bytes": 27_000_000, "calibration": "synthetic",
    }  # fmt: skip
    return ScoutRow(**facts | changes)


def scouting(*rows: ScoutRow) -> ScoutDocument:
    return ScoutDocument(config="demo", created="2026-11-29T00:00:00Z", classes=21, rows=rows, cpu="a CPU")


SCOUTED = scouting(
    scouted_row("figkd/dsconv_nano", p50_interval=(0.9, 1.1), n=2000, p99_ms=1.9, p99_interval=(1.5, 2.5)),
    scouted_row("timm/resnet18", p50=1.5, p50_interval=(1.2, 3.0), disturbed=True),
    scouted_row("timm/vgg16", p50=40.0, engine_bytes=500_000_000),
    scouted_row("figkd/dsconv_nano", "edge", p50=0.5),
    scouted_row("nets:<b>odd</b>\x1b[31m", p50=None, reason="no ONNX form: <script>", fix="leave it out"),
)


def scouted_crowded() -> ScoutDocument:
    """Six networks in three sizes and two precisions on two targets; one target is lost, one network has no form."""
    rows = []
    for target in ("cpu", "edge_camera_number_one"):
        for place, network in enumerate(NETWORKS):
            for size in (96, 160, 224):
                for precision, share in (("fp32", 1.0), ("int8", 0.4)):
                    ms = share * (0.3 + place**2) * (size / 96) ** 2
                    changes: dict[str, Any] = {
                        "candidate": Candidate(model=network, image_size=size), "precision": precision,
                        "p50_interval": (0.95 * ms, 1.05 * ms), "parameters": 5_000 * 8**place,
                        "engine_bytes": int(share * 20_000 * 8**place), "n": 2000, "p99_ms": 2 * ms,
                        "p99_interval": (1.8 * ms, 2.4 * ms),
                    }  # fmt: skip
                    rows.append(scouted_row(network, target, ms, **changes))
    rows.append(scouted_row(f"nets:{ENDLESS}", p50=None, reason=ENDLESS * 3, fix=ENDLESS))
    return scouting(*rows).model_copy(update={"config": ENDLESS, "cpu": ENDLESS * 2})
