"""Reads the artifacts of a run into the typed values that its result is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from export.predictions import Predictions, read_predictions
from export.stats import histogram
from pipeline.core.files import read_json
from pipeline.core.store import MANIFEST
from pipeline.results.assemble import Answers, Findings, Provenance, TargetFindings
from pipeline.results.composition import Composition
from pipeline.results.data_summary import summarise
from pipeline.results.engine import Energy, Engine
from pipeline.results.latency import BenchmarkRow, Latency
from pipeline.results.network import Accuracy, Epoch, Network
from pipeline.results.precision import (
    Calibration,
    FineTuning,
    Int8Cpu,
    KeptOut,
    Mixed,
    OutOfRange,
    PrecisionFile,
)
from pipeline.results.rows.engines import read_engines
from pipeline.results.rows.graphs import read_graphs
from pipeline.results.rows.latency import read_latency
from pipeline.results.rows.samples import RawSamples
from pipeline.results.rows.scores import Score, read_scores
from pipeline.stages.base import PREDICTIONS
from pipeline.stages.distill import WAVELET_ORDER
from pipeline.stages.engines import read_logits


def read_findings(
    targets: Sequence[str], inputs: Mapping[str, Path], failures: Mapping[str, Mapping[str, Any]]
) -> Findings:
    """What the stages of a run found.

    Args:
        targets: of the config, in their order.
        inputs: artifact folders by step id; steps of failed targets are absent.
        failures: failed steps: `what`, `fix`, `exit_code`.
    """
    student = _network(inputs["distill"])
    student.wavelet_order = _optional(inputs["distill"] / WAVELET_ORDER)
    found = {target: _target(target, inputs) for target in targets}
    engines = [engine for target in found.values() for engine in target.engines]
    return Findings(
        answers=_answers(inputs),
        data=read_json(inputs["data"] / "data.json"),
        your_data=summarise(inputs["data"]),
        teacher=_network(inputs["teacher"]),
        student=student,
        parity=read_json(inputs["export"] / "parity.json")["cases"],
        targets=found,
        qad=_fine_tunings(inputs, student),
        precisions=precision_files(inputs["precision"], engines),
        provenance=_provenance(inputs),
        failures=failures,
    )


def _target(target: str, inputs: Mapping[str, Path]) -> TargetFindings:
    timed = inputs.get(f"benchmark@{target}")
    return TargetFindings(_engines(target, inputs), read_json(timed / "machine.json") if timed else {})


def _answers(inputs: Mapping[str, Path]) -> Answers:
    from figkd.data import class_names, open_split

    found = read_predictions(inputs["teacher"] / PREDICTIONS)
    found["student"] = Predictions.of(read_logits(inputs["distill"] / "test_logits.npy"))
    for step, folder in inputs.items():
        if step.startswith("validate@"):
            found |= read_predictions(folder / PREDICTIONS)
    return Answers(open_split(inputs["data"], "test").labels, class_names(inputs["data"]), found)


def _provenance(inputs: Mapping[str, Path]) -> Provenance:
    manifests = {step: read_json(path / MANIFEST) for step, path in inputs.items()}
    newest = max(manifests.values(), key=lambda m: str(m["created"]))
    return Provenance(
        created=newest["created"],
        packages=newest["provenance"]["packages"],
        git=newest["provenance"]["git"],
        steps=[_step(step, manifest) for step, manifest in manifests.items()],
    )


def _network(folder: Path) -> Network:
    facts = read_json(folder / "metrics.json")
    return Network(
        model=facts["model"],
        parameters=facts["parameters"],
        test=_accuracy(Score.model_validate({"source": "torch", **facts["test"]})),
        val_top1=facts["val"]["top1"],
        history=[
            Epoch.model_validate(_known(Epoch, record)) for record in read_json(folder / "history.json")
        ],
        method=facts.get("method"),
        options=facts.get("options", {}),
    )


def _accuracy(score: Score) -> Accuracy:
    facts = score.model_dump(mode="json")
    return Accuracy.model_validate(_known(Accuracy, facts) | {"confused": facts["confusions"]})


def _known(part: type[Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key in part.model_fields}


def _engines(target: str, inputs: Mapping[str, Path]) -> list[Engine]:
    built = inputs.get(f"build@{target}")
    if built is None:
        return []
    validated, timed = inputs.get(f"validate@{target}"), inputs.get(f"benchmark@{target}")
    scores = read_scores(validated) if validated else {}
    latency = read_latency(timed) if timed else []
    samples = RawSamples(timed) if timed else None
    graphs = read_graphs(timed) if timed else {}
    runtime: dict[str, Any] = (_optional(timed / "runtime.json") if timed else None) or {}
    energy = read_json(timed / "machine.json").get("energy", {}) if timed else {}
    seconds = read_json(built / "timing.json")
    tuned = read_scores(inputs["qad"])
    engines = []
    for row in read_engines(built):
        measured = [_latency(each, samples) for each in latency if samples and each.id == row.id]
        ran = row.runs and bool(measured) and row.id in scores
        made = row.made
        engines.append(
            Engine(
                id=row.id,
                target=target,
                backend=row.backend,
                precision=row.precision,
                compute_capability=row.compute_capability,
                state="ran" if ran else row.state,
                detail=row.detail,
                fix=row.fix,
                onnx=row.onnx,
                onnx_mb=None if row.onnx_bytes is None else row.onnx_bytes / 1e6,
                engine_mb=made.bytes / 1e6 if made else None,
                build_seconds=seconds.get(row.id),
                accuracy=_accuracy(scores[row.id]) if row.id in scores else None,
                drop=None,
                latency=measured,
                int8=graphs.get(row.id),
                composition=made.composition if made else Composition(),
                skipped_tactics=made.skipped_tactics if made else None,
                runtime={k: v for k, v in runtime.get(row.id, {}).items() if k != "threads_tried"},
                threads_tried=runtime.get(row.id, {}).get("threads_tried", []),
                energy=_energy(energy.get(row.id)),
                budgets=[],
                file=f"engines/{target}/{made.file}" if made else None,
                device=row.device,
                qad=row.onnx in tuned,
            )
        )
    return engines


def _fine_tunings(inputs: Mapping[str, Path], student: Network) -> list[FineTuning]:
    before, after = read_scores(inputs["precision"]), read_scores(inputs["qad"])
    tunings = []
    for name, facts in read_json(inputs["qad"] / "qad.json").items():
        drops = {"drop_before": student.test.top1 - before[name].top1}
        if name in after:
            drops["drop_after"] = student.test.top1 - after[name].top1
        tunings.append(FineTuning.model_validate({"onnx": name, **facts, **drops}))
    return tunings


def precision_files(folder: Path, engines: Sequence[Engine]) -> list[PrecisionFile]:
    """What the `precision` stage says of each file: what is not in its precision, and why."""
    scores = read_scores(folder)
    return [
        PrecisionFile(
            onnx=name,
            precision=name.removesuffix(".onnx").split("_cpu")[0],
            engines=sorted({engine.backend for engine in engines if engine.onnx == name}),
            mb=facts["bytes"] / 1e6,
            top1=scores[name].top1,
            int8_macs_percent=facts.get("int8_macs_percent"),
            calibration=_calibration(facts.get("calibration")),
            kept_out=_kept_out(facts),
            mixed=_mixed(facts.get("mixed")),
            cpu=_cpu(name, facts.get("cpu"), engines),
        )
        for name, facts in read_json(folder / "precision.json").items()
    ]


def _cpu(name: str, facts: Mapping[str, Any] | None, engines: Sequence[Engine]) -> Int8Cpu | None:
    if facts is None:
        return None
    return Int8Cpu(
        **_known(Int8Cpu, facts), targets=sorted({engine.target for engine in engines if engine.onnx == name})
    )


def _calibration(facts: Mapping[str, Any] | None) -> Calibration | None:
    if facts is None:
        return None
    return Calibration(method=facts["method"], percentile=facts["percentile"] or None, images=facts["images"])


def _kept_out(facts: Mapping[str, Any]) -> list[KeptOut]:
    """In the order of what weighs most for a reader: accuracy, range, the user's word, rules."""
    rows: list[KeptOut] = []
    mixed = facts.get("mixed") or {}
    for group in mixed.get("returned", ()):
        rows.append(
            KeptOut(
                what=group["group"],
                cause="accuracy",
                divergence=(group["before"]["divergence"], group["after"]["divergence"]),
                products=len(group["products"]),
                macs_percent=group["macs_percent"],
            )
        )
    for found in facts.get("out_of_range", ()):
        rows.append(
            KeptOut(
                what=found["node"],
                cause="range",
                range=OutOfRange(kind=found["kind"], tensor=found["tensor"], value=found["value"]),
                products=None,
                macs_percent=None,
            )
        )
    excluded = facts.get("excluded")
    if excluded and excluded["products"]:
        named = KeptOut(
            what="precision.exclude",
            cause="config",
            products=len(excluded["products"]),
            macs_percent=excluded["macs_percent"],
        )
        rows.append(named)
    for name, rule in facts.get("rules", {}).items():
        if rule["products"]:  # a rule about other operators is no news
            kept = {"products": len(rule["products"]), "macs_percent": rule["macs_percent"]}
            rows.append(KeptOut(what=name, cause="rule", **kept))
    return rows


def _mixed(facts: Mapping[str, Any] | None) -> Mixed | None:
    if facts is None:
        return None
    return Mixed(
        n=facts["n"],
        max_drop=facts["max_drop"],
        fp32=facts["reference"],
        before=facts["before"]["top1"],
        after=facts["after"]["top1"],
        met=facts["met"],
        groups=len(facts["returned"]),
        macs_percent=sum(group["macs_percent"] for group in facts["returned"]),
    )


def _latency(row: BenchmarkRow, samples: RawSamples) -> Latency:
    facts = row.model_dump(exclude={"id", "disturbed", "histogram"})
    return Latency(**facts, histogram=histogram(samples.of(row.samples)))


def _energy(facts: Mapping[str, Any] | None) -> Energy | None:
    if facts is None:
        return None
    # A device names the rails that were read; this machine, its counter.
    source = facts.get("source") or " + ".join(facts["rails"])
    covers = facts.get("covers") or ("the board" if facts["total_rail"] else "the board, as a sum of rails")
    return Energy.model_validate(_known(Energy, facts) | {"source": source, "covers": covers})


def _step(step: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "step": step,
        "key": manifest["key"],
        "digest": manifest["digest"],
        "created": manifest["created"],
        "seconds": manifest["provenance"]["seconds"],
        "bytes": sum(f["bytes"] for f in manifest["files"].values()),
    }


def _optional(path: Path) -> Any:
    return read_json(path) if path.is_file() else None
