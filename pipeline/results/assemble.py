"""From the artifacts of a run to its Result: reads JSON, judges budgets, invents nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.predictions import Predictions, read_predictions
from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json
from pipeline.core.store import MANIFEST
from pipeline.report import words
from pipeline.results.budgets import choose, judge, run_verdict, scoped_misses, times
from pipeline.results.clocks import Clocks, clocks_of
from pipeline.results.composition import Composition, Outlook, int8_outlook
from pipeline.results.data_summary import summarise
from pipeline.results.doubts import load_of
from pipeline.results.evidence import Confusion, Load, Mistake, Standing
from pipeline.results.result import (
    Accuracy,
    Energy,
    Engine,
    Epoch,
    FineTuning,
    Int8Cpu,
    Int8Share,
    KeptOut,
    Latency,
    Mixed,
    Network,
    PrecisionFile,
    Result,
    Shipping,
    SkippedTactics,
)
from pipeline.results.standing import confusion, mistakes, standing
from pipeline.stages.base import PREDICTIONS
from pipeline.stages.distill import WAVELET_ORDER
from pipeline.stages.engines import read_logits

_BINS = 60


def assemble(
    config: Mapping[str, Any], inputs: Mapping[str, Path], failures: Mapping[str, Mapping[str, Any]]
) -> Result:
    """Build the Result of a run.

    Args:
        config: the resolved config as plain values.
        inputs: artifact folders by step id; steps of failed targets are absent.
        failures: failed steps: `what`, `fix`, `exit_code`.
    """
    resolved = DeployConfig.model_validate(config)
    manifests = {step: read_json(path / MANIFEST) for step, path in inputs.items()}
    answered = _answers(inputs)
    student = _network(inputs["distill"], answered.standing("student"))
    student.wavelet_order = _optional(inputs["distill"] / WAVELET_ORDER)
    names = read_json(inputs["data"] / "classes.json")
    engines: list[Engine] = []
    shipping: list[Shipping] = []
    machine: dict[str, Any] = {}
    devices: dict[str, dict[str, Any]] = {}
    loads: dict[str, Load] = {}
    clocks: dict[str, Clocks] = {}
    for target in resolved.targets:
        rows = _engines(target, inputs)
        bench = inputs.get(f"benchmark@{target}")
        measured = read_json(bench / "machine.json") if bench else {}
        if found := clocks_of(measured, gpu=resolved.targets[target].engine != "onnxruntime"):
            clocks[target] = found
        for mode, facts in measured.get("modes", {}).items():
            if found := clocks_of(facts, gpu=resolved.targets[target].engine != "onnxruntime"):
                clocks[f"{target} in {mode}"] = found
        if load := load_of(measured):
            loads[target] = load
        disturbed = load is not None and load.disturbed
        for row in rows:
            row.standing = answered.standing(row.id)
            if row.accuracy is not None:
                row.drop = student.test.top1 - row.accuracy.top1
            row.budgets = judge(row, resolved.budgets, student.test, disturbed=disturbed)
        _compare(rows)
        foretell(rows)
        engines += rows
        failed = [f for step, f in failures.items() if step.endswith(f"@{target}")]
        if failed:
            shipping.append(Shipping(target=target, engine=None, state="failed", why=failed[0]["what"]))
        else:
            shipping.append(choose(target, rows, resolved.precision.select, disturbed=disturbed))
        if "device" in measured:
            devices[target] = measured
        else:
            machine = machine or measured
    verdict = run_verdict(engines, shipping, failures, resolved, student)
    looked_at = next((s.engine for s in shipping if s.engine in answered.of), None) or "student"
    data = read_json(inputs["data"] / "data.json") | {"class_names": names}
    newest = max(manifests.values(), key=lambda m: str(m["created"]))
    return Result(
        name=resolved.name,
        created=newest["created"],
        verdict=verdict,
        summary=_summary(shipping, engines, student),
        shipping=shipping,
        data=data,
        your_data=summarise(inputs["data"]),
        outputs=names,
        teacher=_network(inputs["teacher"], answered.standing("teacher")),
        student=student,
        parity=read_json(inputs["export"] / "parity.json")["cases"],
        engines=engines,
        qad=_fine_tunings(inputs, student),
        precisions=precision_files(inputs["precision"], engines),
        loads=loads,
        clocks=clocks,
        looked_at=looked_at,
        mistakes=answered.mistakes(looked_at),
        confusion=answered.confusion(looked_at),
        failures={step: dict(f) for step, f in failures.items()},
        steps=[_step(step, manifest) for step, manifest in manifests.items()],
        machine=machine,
        devices=devices,
        packages=newest["provenance"]["packages"],
        git=newest["provenance"]["git"],
        config=dict(config),
    )


def _compare(rows: Sequence[Engine]) -> None:
    """Each engine against FP32; INT8 against the fastest other, with the reason where it is not faster."""
    for row in (row for row in rows if row.state == "ran"):
        alike = [r for r in rows if r.state == "ran" and r.compute_capability == row.compute_capability]
        reference = next((r for r in alike if r.precision == "fp32" and r is not row), None)
        row.speedup = times(reference, row) if reference else None
        rivals = [r for r in alike if r.precision != "int8"]
        if row.precision == "int8" and rivals:
            rival = min(rivals, key=lambda r: r.latency[0].median)
            found = times(row, rival)
            if found is not None and found.high >= 1:
                row.detail = "; ".join(filter(None, [row.detail, words.int8_story(row, rival, found)]))


def foretell(rows: Sequence[Engine]) -> None:
    """What the layers of each INT8 engine let expect against FP16's, else FP32's, of the same GPU."""
    for row in (row for row in rows if row.precision == "int8" and row.composition.engine):
        alike = [r for r in rows if r.compute_capability == row.compute_capability and r.composition.engine]
        rivals = {r.precision: r for r in alike}
        rival = rivals.get("fp16") or rivals.get("fp32")
        if rival is None or row.composition.engine is None or rival.composition.engine is None:
            continue
        if expect := int8_outlook(row.composition.engine, rival.composition.engine):
            row.outlook = Outlook(rival=rival.id, expect=expect)


@dataclass(frozen=True)
class _Answers:
    """The test images' classes and what each network and engine answered, by name."""

    labels: np.ndarray[Any, np.dtype[Any]]
    names: list[str]
    of: dict[str, Predictions]

    def standing(self, name: str) -> Standing | None:
        if name not in self.of:
            return None
        teacher = None if name == "teacher" else self.of["teacher"].classes
        return standing(self.labels, self.of[name].classes, self.names, teacher)

    def mistakes(self, name: str) -> list[Mistake]:
        return mistakes(self.labels, self.of[name].classes, self.of[name].confidence, self.names)

    def confusion(self, name: str) -> Confusion | None:
        return confusion(self.labels, self.of[name].classes, self.names)


def _answers(inputs: Mapping[str, Path]) -> _Answers:
    from figkd.data import class_names, open_split

    found = read_predictions(inputs["teacher"] / PREDICTIONS)
    found["student"] = Predictions.of(read_logits(inputs["distill"] / "test_logits.npy"))
    for step, folder in inputs.items():
        if step.startswith("validate@"):
            found |= read_predictions(folder / PREDICTIONS)
    return _Answers(open_split(inputs["data"], "test").labels, class_names(inputs["data"]), found)


def _network(folder: Path, against: Standing | None) -> Network:
    facts = read_json(folder / "metrics.json")
    return Network(
        model=facts["model"],
        parameters=facts["parameters"],
        test=_accuracy({"source": "torch", **facts["test"]}),
        standing=against,
        val_top1=facts["val"]["top1"],
        history=[
            Epoch.model_validate(_known(Epoch, record)) for record in read_json(folder / "history.json")
        ],
        method=facts.get("method"),
        options=facts.get("options", {}),
    )


def _accuracy(facts: Mapping[str, Any]) -> Accuracy:
    return Accuracy.model_validate(_known(Accuracy, facts) | {"confused": facts["confusions"]})


def _known(part: type[Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key in part.model_fields}


def _engines(target: str, inputs: Mapping[str, Path]) -> list[Engine]:
    built = inputs.get(f"build@{target}")
    if built is None:
        return []
    validated, timed = inputs.get(f"validate@{target}"), inputs.get(f"benchmark@{target}")
    accuracy = read_json(validated / "accuracy.json") if validated else {}
    latency = read_json(timed / "latency.json") if timed else []
    samples = dict(np.load(timed / "samples.npz")) if timed else {}
    graphs: dict[str, Any] = (_optional(timed / "graphs.json") if timed else None) or {}
    runtime: dict[str, Any] = (_optional(timed / "runtime.json") if timed else None) or {}
    energy = read_json(timed / "machine.json").get("energy", {}) if timed else {}
    seconds = read_json(built / "timing.json")
    tuned = read_json(inputs["qad"] / "accuracy.json")
    engines = []
    for row in read_json(built / "engines.json"):
        measured = [_latency(facts, samples) for facts in latency if facts["id"] == row["id"]]
        ran = row["runs"] and bool(measured) and row["id"] in accuracy
        engines.append(
            Engine(
                id=row["id"],
                target=target,
                backend=row["backend"],
                precision=row["precision"],
                compute_capability=row["compute_capability"],
                state="ran" if ran else row["state"],
                detail=row["detail"],
                fix=row["fix"],
                onnx=row["onnx"],
                onnx_mb=None if row["onnx_bytes"] is None else row["onnx_bytes"] / 1e6,
                engine_mb=row["bytes"] / 1e6 if "bytes" in row else None,
                build_seconds=seconds.get(row["id"]),
                accuracy=_accuracy(accuracy[row["id"]]) if row["id"] in accuracy else None,
                drop=None,
                latency=measured,
                int8=Int8Share.model_validate(graphs[row["id"]]) if row["id"] in graphs else None,
                composition=Composition.model_validate(row.get("composition") or {}),
                skipped_tactics=SkippedTactics.model_validate(row["skipped_tactics"])
                if "skipped_tactics" in row
                else None,
                runtime=runtime.get(row["id"], {}),
                energy=_energy(energy.get(row["id"])),
                budgets=[],
                file=f"engines/{target}/{row['file']}" if "file" in row else None,
                device=row.get("device", ""),
                qad=row["onnx"] in tuned,
            )
        )
    return engines


def _fine_tunings(inputs: Mapping[str, Path], student: Network) -> list[FineTuning]:
    before = read_json(inputs["precision"] / "accuracy.json")
    after = read_json(inputs["qad"] / "accuracy.json")
    tunings = []
    for name, facts in read_json(inputs["qad"] / "qad.json").items():
        drops = {"drop_before": student.test.top1 - before[name]["top1"]}
        if name in after:
            drops["drop_after"] = student.test.top1 - after[name]["top1"]
        tunings.append(FineTuning.model_validate({"onnx": name, **facts, **drops}))
    return tunings


def precision_files(folder: Path, engines: Sequence[Engine]) -> list[PrecisionFile]:
    """What the `precision` stage says of each file: what is not in its precision, and why."""
    accuracy = read_json(folder / "accuracy.json")
    return [
        PrecisionFile(
            onnx=name,
            precision=name.removesuffix(".onnx").split("_cpu")[0],
            engines=sorted({engine.backend for engine in engines if engine.onnx == name}),
            mb=facts["bytes"] / 1e6,
            top1=accuracy[name]["top1"],
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
    return Int8Cpu(**facts, targets=sorted({engine.target for engine in engines if engine.onnx == name}))


def _calibration(facts: Mapping[str, Any] | None) -> str | None:
    if facts is None:
        return None
    method = facts["method"] + (f" {facts['percentile']:g} %" if facts["percentile"] else "")
    return f"{method}, {facts['images']} images"


def _kept_out(facts: Mapping[str, Any]) -> list[KeptOut]:
    """In the order of what weighs most for a reader: accuracy, range, the user's word, rules."""
    rows: list[KeptOut] = []
    mixed = facts.get("mixed") or {}
    for group in mixed.get("returned", ()):
        rows.append(
            KeptOut(
                what=group["group"],
                cause="accuracy",
                why=f"in floating point it brings the divergence from FP32 from "
                f"{group['before']['divergence']:.2g} to {group['after']['divergence']:.2g} nats",
                products=len(group["products"]),
                macs_percent=group["macs_percent"],
            )
        )
    for found in facts.get("out_of_range", ()):
        rows.append(
            KeptOut(
                what=f"{found['node']} (FP32)",
                cause="range",
                why=found["says"],
                products=None,
                macs_percent=None,
            )
        )
    excluded = facts.get("excluded")
    if excluded and excluded["products"]:
        named = KeptOut(
            what="precision.exclude",
            cause="config",
            why="the config names them",
            products=len(excluded["products"]),
            macs_percent=excluded["macs_percent"],
        )
        rows.append(named)
    for name, rule in facts.get("rules", {}).items():
        if rule["products"]:  # a rule about other operators is no news
            kept = {"products": len(rule["products"]), "macs_percent": rule["macs_percent"]}
            rows.append(KeptOut(what=name, cause="rule", why=rule["because"], **kept))
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


def _latency(facts: Mapping[str, Any], samples: Mapping[str, np.ndarray]) -> Latency:
    raw = samples[f"{facts['samples']}|latency".replace("/", ":")]
    return Latency.model_validate(_known(Latency, facts) | {"histogram": _histogram(raw)})


def _energy(facts: Mapping[str, Any] | None) -> Energy | None:
    if facts is None:
        return None
    # A device names the rails that were read; this machine, its counter.
    source = facts.get("source") or " + ".join(facts["rails"])
    covers = facts.get("covers") or ("the board" if facts["total_rail"] else "the board, as a sum of rails")
    return Energy.model_validate(_known(Energy, facts) | {"source": source, "covers": covers})


def _histogram(samples: np.ndarray) -> list[tuple[float, int]]:
    shown = samples[samples <= np.quantile(samples, 0.99)]
    # Latencies have a long tail: bins of equal ratio show the bulk and the tail alike.
    counts, edges = np.histogram(shown, bins=np.geomspace(shown.min(), shown.max() * (1 + 1e-9), _BINS + 1))
    return [(float(edge), int(count)) for edge, count in zip(edges[1:], counts, strict=True)]


def _summary(shipping: Sequence[Shipping], engines: Sequence[Engine], student: Network) -> str:
    parts = []
    for choice in shipping:
        if choice.engine is None:
            parts.append(f"{choice.target}: {choice.why}")
            continue
        engine = next(e for e in engines if e.id == choice.engine)
        row = engine.latency_at() or engine.latency[0]
        assert engine.accuracy is not None  # `choose` takes only engines with an accuracy
        parts.append(
            f"{'ship' if engine.has_goal else 'best so far'} {engine.id}: top-1 {engine.accuracy.top1:.1f} % "
            f"(student {student.test.top1:.1f} %), "
            f"{row.median:.3f} ms median at batch {row.batch}, {engine.engine_mb:.2f} MB"
        )
    parts += scoped_misses(engines)
    return "; ".join(parts) or f"student top-1 {student.test.top1:.1f} %"


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
