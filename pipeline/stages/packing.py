"""From the artifacts of a run to what a bundle is made of: an engine of a target, or several of one student."""

from __future__ import annotations

import calendar
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.cpu_layouts import features_for
from export.engine_kinds import ENGINE_KINDS
from pipeline.core.errors import ConfigError, StageFailed
from pipeline.core.files import read_json
from pipeline.core.manifest import sha256_json
from pipeline.results.choice import Shipping
from pipeline.results.engine import Engine
from pipeline.results.network import Accuracy
from pipeline.results.result import Result
from pipeline.stages import packed_images as images
from pipeline.stages.engines import onnx_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.bundle.content import Content, Measured, Packed
    from export.runtime.bundle.manifest import Needs
    from export.runtime.bundle.preprocess import Preprocessing

_AT_ONCE = 64
_BESIDE = (".json", ".weights.onnx")


@dataclass(frozen=True)
class Choice:
    """What is packed of a target, and how it is released."""

    target: str
    """Of the engine that the verdict ships, where none is named."""
    engines: tuple[str, ...] = ()
    """Ids; a device takes the first of them that fits it."""
    channel: str = "stable"
    sequence: int | None = None
    """None: the seconds of `created`, which grow by themselves."""
    licence: str = "NOASSERTION"
    unshipped: bool = False
    """Also what the verdict does not ship; the manifest records it."""
    counts: bool = True
    """Devices count answers by class and confidence."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Whose engines are packed."""
        return tuple(dict.fromkeys(id.split("/", 1)[0] for id in self.engines)) or (self.target,)


def why_not(result: Result, choice: Choice) -> str:
    """Why there is no bundle of the engine that the verdict ships, or that is chosen without it; empty if there is."""
    reason = _verdict(result, choice.target)
    built = any(engine.target == choice.target and engine.file for engine in result.engines)
    return "" if choice.unshipped and built else reason


def _verdict(result: Result, target: str) -> str:
    """Why the verdict does not ship a target; empty if it does."""
    found = _shipping(result, target)
    if found.state != "ship" or found.engine is None:
        return found.state.replace("_", " ")
    engine = _engine(result, found.engine)
    return "" if engine.has_goal else "no goal says how good is good enough"


def content_of(inputs: Mapping[str, Path], result: Result, choice: Choice) -> Content:
    """What `export.bundle.write.write_bundle` takes.

    Args:
        inputs: artifact folders by step: those of `package`.
        result: of the run.
        choice: what is packed.

    Raises:
        ConfigError: there is no such engine, it was not built, or the verdict does not ship it.
        StageFailed: its preprocessing is not that of the training.
    """
    from export.bundle.content import Content, Lineage

    chosen, verdict = _chosen(result, choice)
    several = len(chosen) > 1
    sources = [_Source.of(inputs, engine) for engine in chosen]
    spec = sources[0].spec
    if other := next((source for source in sources if source.spec != spec), None):
        raise ConfigError(
            f"{other.engine.id} takes other inputs than {chosen[0].id}",
            where="--engine",
            fix="make a bundle of each",
        )
    golden = images.golden(inputs["data"], spec)
    known = images.validation(inputs["data"], spec)
    labelled = images.labelled(known, result.outputs)
    return Content(
        name=result.name,
        target="+".join(choice.targets),
        channel=choice.channel,
        sequence=choice.sequence if choice.sequence is not None else _seconds(result.created),
        created=result.created,
        verdict=verdict,
        summary=_summary(chosen),
        engines=[
            _packed(inputs, result, source, (golden.views, known.views), labelled, several=several)
            for source in sources
        ],
        classes=result.outputs,
        preprocessing=spec,
        inputs=golden.views,
        pictures=golden.pictures,
        lineage=Lineage(
            data=str(result.data["dataset"]),
            teacher=result.teacher.model,
            student=result.student.model,
            method=str(result.student.method),
            config_sha256=sha256_json(result.config),
            git=result.git,
            steps=[
                {"step": str(step["step"]), "key": str(step["key"]), "digest": str(step["digest"])}
                for step in result.steps
                if "@" not in step["step"] or step["step"].partition("@")[2] in choice.targets
            ],
        ),
        licence=choice.licence,
        parameters=result.student.parameters,
        counts=choice.counts,
        more=labelled.files,
    )


@dataclass(frozen=True)
class _Source:
    """A built engine."""

    engine: Engine
    file: Path
    facts: Mapping[str, Any]
    """Of its sidecar."""
    spec: Preprocessing

    @classmethod
    def of(cls, inputs: Mapping[str, Path], engine: Engine) -> _Source:
        """Where an engine's build left it."""
        if engine.file is None:
            raise ConfigError(f"{engine.id} was not built: {engine.detail}", fix=engine.fix)
        file = inputs[f"build@{engine.target}"] / Path(engine.file).name
        facts = read_json(file.with_name(f"{file.name}.json"))
        return cls(engine, file, facts, _preprocessing(facts, file))


def _packed(
    inputs: Mapping[str, Path],
    result: Result,
    source: _Source,
    views: Sequence[npt.NDArray[np.uint8]],
    labelled: images.Labelled,
    *,
    several: bool,
) -> Packed:
    """An engine with its answers to golden and validation images (`views`)."""
    from export.bundle.content import Packed
    from export.runtime.bundle.manifest import EngineEntry

    engine, file = source.engine, source.file
    (logits, answers), how = _answers(inputs, engine, file, source.spec, views)
    name = engine.id.replace("/", "-") if several else ""
    folder = f"engine/{name}" if several else "engine"
    return Packed(
        EngineEntry(
            f"{folder}/{file.name}",
            engine.backend,
            engine.precision,
            int(engine.runtime.get("threads") or 0),
            _needs(source.facts, engine, several=several),
            name,
        ),
        files={
            f"{folder}/{path.name}": path
            for path in (file, *(file.with_name(file.name + suffix) for suffix in _BESIDE))
            if path.is_file()
        },
        logits=logits,
        source=how,
        measured=_measured(result, engine),
        answers=labelled.answers(answers),
    )


def _chosen(result: Result, choice: Choice) -> tuple[list[Engine], str]:
    """The engines to pack, and the verdict on them."""
    if len(choice.engines) < 2:
        engine, verdict = _only(result, choice)
        return [engine], verdict
    twice = sorted({id for id in choice.engines if choice.engines.count(id) > 1})
    if twice:
        raise ConfigError(f"{twice[0]} is named twice", where="--engine", fix="name it once")
    engines = [_engine(result, id) for id in choice.engines]
    reasons = {engine.id: _unfit(result, engine) for engine in engines}
    bad = next((id for id, reason in reasons.items() if reason), None)
    if bad is None:
        return engines, "ship"
    if not choice.unshipped:
        raise _not_shipped(bad, reasons[bad])
    return engines, f"not shipped: {bad}: {reasons[bad]}"


def _unfit(result: Result, engine: Engine) -> str:
    """Why an engine may not ship beside others; empty if it meets every goal of a target that ships."""
    if reason := _verdict(result, engine.target):
        return reason
    shipped = _shipping(result, engine.target).engine
    meets = engine.state == "ran" and engine.within_budget and engine.has_goal
    return "" if meets or engine.id == shipped else f"{shipped} is shipped"


def _not_shipped(what: str, reason: str) -> ConfigError:
    return ConfigError(
        f"the verdict does not ship {what}: {reason}",
        where="--engine",
        fix="meet the budgets, or add --allow-unshipped, which the bundle records",
    )


def _only(result: Result, choice: Choice) -> tuple[Engine, str]:
    """The engine to pack, and the verdict on it."""
    shipping = _shipping(result, choice.target)
    reason = _verdict(result, choice.target)
    wanted = next(iter(choice.engines), None) or shipping.engine
    if wanted is None and choice.unshipped:
        wanted = next((e.id for e in result.engines if e.target == choice.target and e.file), None)
    if not reason and wanted == shipping.engine:
        return _engine(result, str(wanted)), "ship"
    reason = reason or f"{shipping.engine} is shipped"
    if not choice.unshipped or wanted is None:
        raise ConfigError(
            f"the verdict does not ship {wanted or choice.target}: {reason}",
            where=choice.target,
            fix="meet the budgets, or add --allow-unshipped, which the bundle records"
            if wanted
            else "build an engine",
        )
    return _engine(result, wanted), f"not shipped: {reason}"


def _shipping(result: Result, target: str) -> Shipping:
    for found in result.shipping:
        if found.target == target:
            return found
    names = ", ".join(each.target for each in result.shipping)
    raise ConfigError(f"no target '{target}'", where="--target", fix=f"targets are: {names}")


def _engine(result: Result, name: str) -> Engine:
    for engine in result.engines:
        if engine.id == name:
            return engine
    raise ConfigError(
        f"no engine '{name}'", where="--engine", fix=f"engines are: {', '.join(e.id for e in result.engines)}"
    )


def _answers(
    inputs: Mapping[str, Path],
    engine: Engine,
    file: Path,
    spec: Preprocessing,
    several: Sequence[npt.NDArray[np.uint8]],
) -> tuple[list[npt.NDArray[np.float32]], str]:
    """Logits of each set of views by the engine, or by its ONNX file where the engine does not run here; and which."""
    import numpy as np

    from export.engines import BACKENDS

    here = engine.state == "ran" and not engine.device
    path = file if here else onnx_path(inputs, engine.onnx)
    threads = engine.runtime.get("threads") if here else None
    loaded = BACKENDS[engine.backend if here else "onnxruntime"].load(path, threads=threads, spinning=False)
    try:
        found = [
            np.concatenate(
                [
                    loaded.infer(spec.batch(list(views[at : at + _AT_ONCE])))
                    for at in range(0, len(views), _AT_ONCE)
                ]
            )
            for views in several
        ]
        return found, "engine" if here else "onnxruntime"
    finally:
        loaded.close()


def _preprocessing(facts: Mapping[str, Any], file: Path) -> Preprocessing:
    from export.contract import preprocessing_of

    found = preprocessing_of(facts.get("image"))
    if found is None:
        raise StageFailed(
            f"{file.name}.json does not say how a photo becomes its input",
            fix="run again with --from export",
        )
    return found


def _needs(facts: Mapping[str, Any], engine: Engine, *, several: bool) -> Needs:
    """What tells the machines apart. A CPU's INT8 layout does so only where there is another engine to take."""
    from export.runtime.bundle.manifest import Needs

    bound = ENGINE_KINDS[engine.backend].gpu
    compatible = facts["options"].get("hardware_compatibility") not in (
        None,
        "none",
    )  # the library says which
    _, cpu, layout = Path(engine.onnx).stem.partition("_cpu_")
    return Needs(
        architecture=str(facts["platform"]),
        compute_capability=() if compatible else tuple(facts["compute_capability"]),
        l4t=str(facts["l4t"]),
        versions={engine.backend: str(facts["versions"].get(engine.backend, ""))} if bound else {},
        cpu_features=features_for(layout) if several and cpu else (),
    )


def _measured(result: Result, engine: Engine) -> Measured:
    from export.bundle.content import Measured

    return Measured(
        accuracy=_accuracy(engine.accuracy),
        latency=[
            {
                "boundary": row.boundary, "batch": str(row.batch), "n": str(row.n),
                "median_ms": _number(row.median), "p99_ms": _number(row.p99),
            }
            for row in engine.latency
            if row.plain and not row.power_mode
        ],
        budgets=[
            {
                "metric": judged.metric, "goal": judged.goal, "limit": _number(judged.limit),
                "value": _number(judged.value), "verdict": judged.verdict,
            }
            for judged in engine.budgets
        ],
        machine=_machine(result, engine),
        packages={name: version for name, version in result.packages.items() if version != "none"},
    )  # fmt: skip


def _accuracy(found: Accuracy | None) -> dict[str, str]:
    if found is None:
        return {}
    numbers = {"top1": found.top1, "top5": found.top5, "mean_per_class": found.mean_per_class}
    rows = {name: _number(value) for name, value in numbers.items() if value is not None}
    return {**rows, "n": str(found.n), "source": found.source}


def _machine(result: Result, engine: Engine) -> dict[str, str]:
    if engine.device:
        return {"device": engine.device}
    before = result.machine.get("before", {})
    cpu, gpus = before.get("cpu", {}), before.get("gpus", [])
    named = {
        "cpu": cpu.get("model"),
        "architecture": cpu.get("architecture"),
        "cores": cpu.get("usable"),
        "gpu": gpus[0].get("name") if gpus and ENGINE_KINDS[engine.backend].gpu else None,
        "os": before.get("os"),
    }
    return {name: str(value) for name, value in named.items() if value}


def _summary(engines: Sequence[Engine]) -> str:
    """Of several engines that of the first: the card has all."""
    accuracy = engines[0].accuracy
    if accuracy is None:
        return "It was not scored."
    whose = f" ({engines[0].id})" if len(engines) > 1 else ""
    return f"Right on {accuracy.top1:.2f} % of {accuracy.n} test images{whose}."


def _number(value: float | None) -> str:
    """Six significant digits; empty for what was not measured."""
    return "" if value is None else f"{value:.6g}"


def _seconds(created: str) -> int:
    return calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ"))
