"""A made-up result for tests of the views; no number in it was measured."""

from __future__ import annotations

import math
from typing import Any, Literal

from pipeline.results.choice import Judged, Ratio, Reason, Rival, Shipping
from pipeline.results.engine import Engine
from pipeline.results.evidence import ClassCount, Confusion, Gap, Load, Mistake, Share, Standing
from pipeline.results.latency import Decoded, Latency, Warned
from pipeline.results.network import Accuracy, Epoch, Network
from pipeline.results.precision import Calibration, KeptOut, Mixed, OutOfRange, PrecisionFile
from pipeline.results.result import Result
from tests.pipeline.report.data_sample import data_sample

CLASSES = [
    "DejaVu Sans",
    "DejaVu Sans Bold",
    "DejaVu Sans Oblique",
    "DejaVu Sans Bold Oblique",
    "DejaVu Sans Mono",
    "DejaVu Sans Mono Bold",
    "DejaVu Sans Mono Oblique",
    "DejaVu Sans Mono Bold Oblique",
    "DejaVu Serif",
    "DejaVu Serif Bold",
    "DejaVu Serif Italic",
    "DejaVu Serif Bold Italic",
    "DejaVu Sans Display",
    "STIX General",
    "STIX General Bold",
    "STIX General Italic",
    "STIX General Bold Italic",
    "Computer Modern Roman",
    "Computer Modern Bold",
    "Computer Modern Sans",
    "Computer Modern Typewriter",
]
N_TEST = 2100
RIVAL = Rival(id="cpu/fp32", median=0.148, times=Ratio(ratio=1.22, low=1.21, high=1.24, n=10))
SECONDS = {
    "data": 6.4,
    "teacher": 98.2,
    "distill": 71.5,
    "export": 7.9,
    "precision": 14.1,
    "build@cpu": 0.8,
    "build@rtx": 41.3,
    "validate@cpu": 3.9,
    "validate@rtx": 0.2,
    "benchmark@cpu": 31.0,
}


Source = Literal["engine", "onnx", "torch"]


def accuracy(top1: float, source: Source = "engine", agreement: float | None = 99.1) -> Accuracy:
    worst = [
        ("Computer Modern Roman", 0.42),
        ("STIX General", 0.47),
        ("DejaVu Sans Oblique", 0.55),
        ("DejaVu Sans Mono Oblique", 0.58),
        ("DejaVu Serif", 0.66),
    ]
    pairs = [
        ("Computer Modern Roman", "STIX General", 31),
        ("STIX General", "Computer Modern Roman", 27),
        ("DejaVu Sans Oblique", "DejaVu Sans", 19),
        ("DejaVu Sans Mono Oblique", "DejaVu Sans Mono", 17),
        ("DejaVu Serif", "DejaVu Serif Italic", 12),
        ("STIX General Italic", "STIX General", 11),
        ("DejaVu Sans Display", "DejaVu Sans", 9),
        ("DejaVu Sans", "DejaVu Sans Display", 8),
    ]
    return Accuracy(
        source=source,
        n=N_TEST,
        top1=top1,
        top5=min(100.0, top1 + 27),
        mean_per_class=top1 - 0.01,
        worst_classes=[
            {"name": name, "n": 100, "accuracy": round(share * top1 * 1.2, 1)} for name, share in worst
        ],
        confused=[{"true": t, "predicted": p, "count": c} for t, p, c in pairs],
        agreement=agreement,
        finite=True,
        identical_rows=True if source == "engine" else None,
    )


def against(top1: float, teacher: float | None = 94.48) -> Standing:
    """Where a model of so many percent stands; the intervals are about as wide as they would be."""

    def share(percent: float) -> Share:
        return Share(percent=percent, low=max(0.0, percent - 2), high=min(100.0, percent + 2))

    def gap(points: float) -> Gap:
        return Gap(points=points, low=points - 1.8, high=points + 1.8)

    return Standing(
        n=N_TEST, classes=len(CLASSES), top1=share(top1), chance=100 / len(CLASSES), majority_class=CLASSES[0],
        majority=share(4.76), over_majority=gap(top1 - 4.76),
        over_teacher=None if teacher is None else gap(top1 - teacher), at_chance=[], at_chance_count=0,
        too_few_count=0, not_tested=[], not_tested_count=0, only_class=None, findings=[],
    )  # fmt: skip


def sample_useless() -> Result:
    """A run whose model is worse than always giving one answer, timed while others were at work."""
    standing = Standing(
        n=101, classes=8, top1=Share(percent=10.89, low=6.19, high=18.46), chance=12.5, majority_class="flags",
        majority=Share(percent=23.76, low=16.52, high=32.93), over_majority=Gap(points=-12.87, low=-23.3, high=-1.9),
        over_teacher=Gap(points=-21.78, low=-32.34, high=-10.38),
        at_chance=[ClassCount(index=i, name=name, n=11, correct=i) for i, name in enumerate(("birds", "fish"))],
        at_chance_count=7, too_few_count=0, not_tested=["waves"], not_tested_count=1, only_class="cars",
        findings=["no_better_than_majority", "one_class_only", "classes_at_chance", "classes_not_tested"],
    )  # fmt: skip
    result = sample(name="useless", verdict="no_better_than_guessing")
    result.engines[0].standing = standing
    reason = Reason(code="guess", about="cpu/fp32")
    result.shipping = [Shipping(target="cpu", engine=None, state="no_better_than_guessing", reason=reason)]
    result.student.standing = standing
    result.looked_at = "student"
    result.loads = {"cpu": Load(others=1.7, stolen=0.0, seconds=30.0, rounds=10, repeated=10, disturbed=True)}
    return result


def history(
    epochs: int, start: float, end: float, loss: float, parts: dict[str, float] | None = None
) -> list[Epoch]:
    shape = [1 - math.exp(-4 * (i + 1) / epochs) for i in range(epochs)]
    return [
        Epoch(
            epoch=i + 1,
            loss=loss * (1 - 0.93 * s),
            parts={name: share * loss * (1 - 0.93 * s) for name, share in (parts or {}).items()},
            train_top1=start + (end - start) * s - 2,
            val_top1=start + (end - start) * s / shape[-1] + 1.2 * math.sin(i * 2.1) * (1 - s / shape[-1]),
            lr=1e-3 * (1 - i / epochs),
        )
        for i, s in enumerate(shape)
    ]


DECODED = Decoded(
    source="files", n=32, formats={"JPEG": 31, "PNG": 1}, median_megapixels=12.19, median_kb=4310.2
)


def latency(
    boundary: Literal["engine", "engine+copies", "image_to_class"],
    median: float,
    n: int,
    key: str,
    cv: float = 2.0,
) -> Latency:
    low, p99 = median * 0.96, median * (1 + cv / 12)
    edges = [low + (p99 - low) * (i + 1) / 40 for i in range(40)]
    bumps = [math.exp(-(((i - 5) / 4) ** 2)) + 0.04 * math.exp(-(((i - 24) / 6) ** 2)) for i in range(40)]
    counts = [round(n * 0.99 * b / sum(bumps)) for b in bumps]
    return Latency(
        batch=1,
        boundary=boundary,
        n=n,
        min=low,
        mean=median * 1.01,
        median=median,
        p90=median * 1.03,
        p95=median * 1.05,
        p99=p99 if n >= 1000 else None,
        intervals={
            "median": (median * 0.99, median * 1.01),
            "p99": (p99 * 0.98, p99 * 1.04) if n >= 1000 else None,
        },
        round_medians=[median * (1 + 0.004 * (i % 3 - 1)) for i in range(10)],
        outlier_percent=0.3,
        max=median * 3.4,
        std=median * cv / 100,
        cv_percent=cv,
        throughput=1000 / median * 0.985,
        drift_percent=0.4,
        warnings=[Warned(code="unstable", values={"cv_percent": cv, "allowed": 2.5})] if cv > 2.5 else [],
        samples=f"{key}|1|{boundary}",
        histogram=list(zip(edges, counts, strict=True)),
        median_of_parts_ms={"decode": 0.21, "resize": 0.05, "infer": median - 0.26}
        if boundary == "image_to_class"
        else {},
        decoded=DECODED if boundary == "image_to_class" else None,
    )


def judged(
    metric: str,
    goal: Literal["min", "max", "max_drop"],
    limit: float,
    value: float | None,
    scoped: bool = False,
) -> Judged:
    margin = None if value is None else (value - limit if goal == "min" else limit - value)
    verdict: Literal["pass", "miss", "not_judged"] = (
        "not_judged" if margin is None else "pass" if margin >= 0 else "miss"
    )
    return Judged(
        metric=metric, goal=goal, limit=limit, value=value, verdict=verdict, margin=margin, scoped=scoped
    )


def cpu_engine(precision: str, top1: float, median: float, mb: float, cv: float) -> Engine:
    engine_id = f"cpu/{precision}"
    rows = [
        latency("engine", median, 8412, engine_id, cv),
        latency("engine+copies", median * 1.04, 8120, engine_id, cv),
        latency("image_to_class", median + 0.33, 3100, engine_id, cv + 1.5),
    ]
    drop = 67.14 - top1
    return Engine(
        id=engine_id,
        target="cpu",
        backend="onnxruntime",
        precision=precision,
        compute_capability="",
        state="ran",
        detail="",
        fix="",
        onnx=f"{precision}.onnx",
        onnx_mb=mb,
        engine_mb=mb,
        build_seconds=0.2,
        accuracy=accuracy(top1),
        standing=against(top1),
        drop=drop,
        latency=rows,
        budgets=[
            judged("top1", "max_drop", 1.0, drop),
            judged("latency_p99_ms", "max", 0.2, rows[0].p99),
            judged("engine_mb", "max", 0.06, mb),
        ],
        file=f"engines/cpu/{precision}.onnx",
    )


def rtx_engine(precision: str, capability: str, mb: float) -> Engine:
    top1 = {"fp32": 67.14, "fp16": 67.14, "int8": 66.62}[precision]
    return Engine(
        id=f"rtx/{precision}-{capability}",
        target="rtx",
        backend="tensorrt_rtx",
        precision=precision,
        compute_capability=capability,
        state="built",
        detail="built, not run: no NVIDIA GPU on this machine",
        fix="run the same config on a machine with an NVIDIA RTX GPU to validate and time these engines",
        onnx=f"{precision}.onnx",
        onnx_mb=0.04,
        engine_mb=mb,
        build_seconds=4.4,
        accuracy=accuracy(top1, "onnx"),
        drop=67.14 - top1,
        latency=[],
        budgets=[
            judged("top1", "max_drop", 1.0, 67.14 - top1),
            judged("latency_p99_ms", "max", 0.2, None),
            judged("engine_mb", "max", 0.06, mb),
        ],
        file=f"engines/rtx/{precision}-{capability}.engine",
    )


def engines() -> list[Engine]:
    rows = [
        cpu_engine("fp32", 67.14, 0.148, 0.0412, 2.1),
        cpu_engine("fp16", 67.10, 0.231, 0.0298, 3.4),
        cpu_engine("int8", 66.62, 0.121, 0.0344, 2.3),
    ]
    sizes = {"fp32": 0.0712, "fp16": 0.0521, "int8": 0.0588}
    rows += [rtx_engine(p, cc, mb) for p, mb in sizes.items() for cc in ("SM86", "SM89", "SM120")]
    return rows


def config() -> dict[str, Any]:
    return {
        "name": "fonts_cpu",
        "seed": 0,
        "data": {"dataset": "fonts", "image_size": 32, "options": {"train_per_class": 600}},
        "teacher": {"model": "figkd/resnet8x2", "epochs": 10, "optimizer": "sgd", "lr": 0.1},
        "student": {"model": "figkd/depthwise_xs"},
        "distill": {
            "method": "figkd",
            "epochs": 10,
            "figkd": {"wavelet": "haar", "level": 1, "order": "confusion"},
        },
        "targets": {"cpu": {"engine": "onnxruntime"}, "rtx": {"engine": "tensorrt_rtx", "required": False}},
        "budgets": {"top1": {"max_drop": 1.0}, "latency_p99_ms": {"max": 0.2}, "engine_mb": {"max": 0.06}},
    }


def precisions() -> list[PrecisionFile]:
    kept = [
        KeptOut(
            what="backbone.blocks.2",
            cause="accuracy",
            divergence=(0.031, 0.012),
            products=2,
            macs_percent=11.5,
        ),
        KeptOut(
            what="classifier",
            cause="rule",
            products=1,
            macs_percent=0.2,
        ),
    ]
    wide = KeptOut(
        what="0031_Mul",
        cause="range",
        range=OutOfRange(kind="overflow", tensor="scaled", value=2.1e5),
        products=None,
        macs_percent=None,
    )
    mixed = Mixed(
        n=1050, max_drop=0.5, fp32=66.5, before=65.1, after=66.2, met=True, groups=1, macs_percent=11.5
    )
    return [
        PrecisionFile(onnx="fp32.onnx", precision="fp32", engines=["onnxruntime"], mb=0.0412, top1=67.14),
        PrecisionFile(
            onnx="fp16.onnx",
            precision="fp16",
            engines=["onnxruntime", "tensorrt_rtx"],
            mb=0.0298,
            top1=67.10,
            kept_out=[wide],
        ),
        PrecisionFile(
            onnx="int8.onnx",
            precision="int8",
            engines=["tensorrt_rtx"],
            mb=0.0344,
            top1=66.62,
            int8_macs_percent=88.3,
            calibration=Calibration(method="entropy", images=512),
            kept_out=kept,
            mixed=mixed,
        ),
    ]


def sample(**changes: Any) -> Result:
    """The whole result; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "name": "fonts_cpu",
        "created": "2026-01-31T09:26:53Z",
        "verdict": "pass",
        "shipping": [
            Shipping(
                target="cpu",
                engine="cpu/int8",
                state="ship",
                reason=Reason(code="fastest", rivals=[RIVAL]),
            ),
            Shipping(target="rtx", engine=None, state="not_run", reason=Reason(code="built_only")),
        ],
        "data": {
            "dataset": "fonts",
            "classes": 21,
            "image_size": 32,
            "class_names": CLASSES,
            "skipped": [],
            "counts": {"train": 12600, "val": 1050, "test": N_TEST},
        },
        "your_data": data_sample(CLASSES),
        "outputs": CLASSES,
        "teacher": Network(
            model="figkd/resnet8x2",
            parameters=701_461,
            test=accuracy(94.48, "torch", None),
            standing=against(94.48, None),
            val_top1=94.1,
            history=history(10, 30, 94.1, 2.9),
        ),
        "student": Network(
            model="figkd/depthwise_xs",
            parameters=5_213,
            test=accuracy(67.14, "torch", None),
            standing=against(67.14),
            val_top1=66.5,
            history=history(10, 12, 66.5, 6.2, {"task": 0.6, "detail": 0.15, "correlation": 0.25}),
            method="figkd",
            options={"wavelet": "haar", "level": 1, "order": "confusion", "weight": 1.0},
            wavelet_order=CLASSES[::-1],
        ),
        "parity": [
            {
                "what": what,
                "input": i,
                "batch": batch,
                "n": batch,
                "max_abs": 3.1e-6 + i * 1e-8,
                "allowed": 0.0121,
                "cosine": 0.9999999,
                "top1_agreement": 100.0,
                "ok": True,
            }
            for what, batch, total in (
                ("real images", 1, 96),
                ("real images", 3, 32),
                ("random images", 1, 6),
            )
            for i in range(total)
        ],
        "engines": engines(),
        "precisions": precisions(),
        "loads": {"cpu": Load(others=0.02, stolen=0.0, seconds=30.0, rounds=10, repeated=1, disturbed=False)},
        "looked_at": "cpu/int8",
        "mistakes": [
            Mistake(index=i, true=CLASSES[i % 21], predicted=CLASSES[(i + 1) % 21], confidence=99.9 - i)
            for i in range(12)
        ],
        "confusion": Confusion(
            classes=CLASSES[:12],
            counts=[[60 if i == j else (i * j) % 7 for j in range(12)] for i in range(12)],
            elsewhere=[i % 4 for i in range(12)],
        ),
        "failures": {},
        "steps": [
            {
                "step": step,
                "key": f"{i:02x}" * 32,
                "digest": f"{i + 160:02x}" * 32,
                "created": "2026-01-31T09:20:00Z",
                "seconds": s,
                "bytes": 1_234_567 * (i + 1),
            }
            for i, (step, s) in enumerate(SECONDS.items())
        ],
        "machine": {
            "cpu": "Example CPU @ 2.50GHz",
            "cores": 2,
            "memory_gb": 8.0,
            "gpu": "none",
            "os": "Linux 6.1 x86_64",
            "before": {"load": [0.2, 0.4, 0.3], "governor": "performance"},
        },
        "packages": {"torch": "2.11.0", "onnx": "1.19.0", "onnxruntime": "1.23.0", "tensorrt_rtx": "1.4.0.1"},
        "git": "0123456789abcdef0123456789abcdef01234567",
        "config": config(),
    }
    return Result(**(fields | changes))


def sample_missed() -> Result:
    """A run whose budgets nobody met, with a failed and a missing row and a failed step."""
    rows = engines()
    tight = [
        engine.model_copy(
            update={
                "budgets": [
                    *engine.budgets,
                    judged("top1", "min", 70.0, engine.accuracy and engine.accuracy.top1),
                ]
            }
        )
        for engine in rows[:3]
    ]
    failed = rows[3].model_copy(
        update={
            "state": "failed",
            "detail": "node Conv_12: no tactic for FP32 with this padding",
            "fix": "set precision.exclude to [Conv_12]",
            "engine_mb": None,
            "build_seconds": None,
            "accuracy": None,
            "drop": None,
            "budgets": [],
            "file": None,
        }
    )
    missing = rows[4].model_copy(
        update={
            "id": "jetson/fp16",
            "target": "jetson",
            "backend": "tensorrt",
            "compute_capability": "",
            "state": "missing",
            "detail": "the Python module `tensorrt` is not installed",
            "fix": "pip install 'figkd-pipeline[tensorrt]'",
            "engine_mb": None,
            "build_seconds": None,
            "accuracy": None,
            "drop": None,
            "budgets": [],
            "file": None,
        }
    )
    return sample(
        verdict="budget_missed",
        shipping=[
            Shipping(
                target="cpu",
                engine=None,
                state="budget_missed",
                reason=Reason(code="misses", about="cpu/int8"),
            ),
            Shipping(
                target="rtx",
                engine=None,
                state="failed",
                reason=Reason(code="recorded", text="node Conv_12: no tactic for FP32 with this padding"),
            ),
            Shipping(
                target="jetson",
                engine=None,
                state="not_run",
                reason=Reason(code="recorded", text="the Python module `tensorrt` is not installed"),
            ),
        ],
        engines=[*tight, failed, *rows[5:8], missing],
        failures={
            "validate@rtx": {
                "what": "the engine returned 3 rows that are not finite",
                "fix": "keep the norms in FP32",
                "exit_code": 1,
            }
        },
    )


def sample_crowded() -> Result:
    """Twelve engines that ran on two targets, from 0.09 to 41 ms, two batch sizes, few samples for some."""
    rows = engines()
    medians = [0.148, 0.231, 0.121, 12.4, 12.1, 41.0, 0.31, 0.29, 0.33, 0.0912, 0.094, 0.102]
    ran = []
    for engine, median in zip(rows, medians, strict=True):
        timed = [
            latency("engine", median, 1000 if median < 10 else 244, engine.id, 2.0),
            latency("engine", median * 5, 1000, engine.id, 6.0).model_copy(update={"batch": 8}),
        ]
        accuracy_ = engine.accuracy and engine.accuracy.model_copy(update={"source": "engine"})
        ran.append(
            engine.model_copy(
                update={"state": "ran", "detail": "", "fix": "", "latency": timed, "accuracy": accuracy_}
            )
        )
    return sample(
        name="crowded",
        engines=ran,
        shipping=[
            Shipping(target="rtx", engine="rtx/int8-SM86", state="ship", reason=Reason(code="fastest")),
            Shipping(
                target="cpu", engine="cpu/int8", state="ship", reason=Reason(code="fastest", rivals=[RIVAL])
            ),
        ],
    )


def sample_bare() -> Result:
    """The least that a run can have: nothing trained, nothing ran, no goals, no top-5, no provenance."""
    bare = accuracy(50.0, "torch", None).model_copy(update={"top5": None, "confused": []})
    network = Network(
        model="torchvision/resnet18", parameters=11_700_000, test=bare, val_top1=50.0, history=[]
    )
    engine = rtx_engine("fp16", "SM89", 1.0).model_copy(
        update={"budgets": [], "accuracy": None, "drop": None}
    )
    return sample(
        name="bare",
        engines=[engine],
        teacher=network,
        student=network,
        parity=[],
        steps=[],
        packages={},
        machine={},
        git="",
        config={},
        data={"dataset": "image_folder"},
        your_data=None,
        loads={},
        looked_at="",
        mistakes=[],
        confusion=None,
        verdict="failed",
        shipping=[Shipping(target="rtx", engine=None, state="not_run", reason=Reason(code="built_only"))],
    )
