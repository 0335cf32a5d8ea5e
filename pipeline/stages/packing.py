"""From the artifacts of a run to what a bundle is made of, for one engine of one target."""

from __future__ import annotations

import calendar
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.engine_kinds import ENGINE_KINDS
from pipeline.core.errors import ConfigError, StageFailed
from pipeline.core.files import read_json
from pipeline.core.manifest import sha256_json
from pipeline.results.choice import Shipping
from pipeline.results.engine import Engine
from pipeline.results.network import Accuracy
from pipeline.results.result import Result
from pipeline.stages.engines import onnx_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.bundle.content import Content, Measured
    from export.runtime.bundle.preprocess import Preprocessing

INPUTS = 16
"""Golden inputs, from the test images."""
REFERENCE = 1000
"""Validation images at most whose answers are counted for comparison with a device's."""
MOST_VIEW_BYTES = 100 << 20
_AT_ONCE = 64
_PNGS = 4
_ORIENTATIONS = (1, 6)
_BESIDE = (".json", ".weights.onnx")


@dataclass(frozen=True)
class Choice:
    """What is packed of a target, and how it is released."""

    target: str
    engine: str | None = None
    """Id of the engine; None takes the one that the verdict ships."""
    channel: str = "stable"
    sequence: int | None = None
    """None: the seconds of `created`, which grow by themselves."""
    licence: str = "NOASSERTION"
    unshipped: bool = False
    """Also what the verdict does not ship; the manifest records it."""


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
    from export.runtime.bundle.manifest import EngineEntry

    engine, verdict = _chosen(result, choice)
    built = inputs[f"build@{choice.target}"]
    if engine.file is None:
        raise ConfigError(f"{engine.id} was not built: {engine.detail}", fix=engine.fix)
    file = built / Path(engine.file).name
    facts = read_json(file.with_name(f"{file.name}.json"))
    spec = _preprocessing(facts, file)
    golden = _golden(inputs["data"], spec)
    known = _validation(inputs["data"], spec)
    (logits, answers), source = _answers(inputs, engine, file, spec, (golden.views, known.views))
    return Content(
        name=result.name,
        target=choice.target,
        channel=choice.channel,
        sequence=choice.sequence if choice.sequence is not None else _seconds(result.created),
        created=result.created,
        verdict=verdict,
        summary=_summary(engine),
        engine=EngineEntry(
            f"engine/{file.name}", engine.backend, engine.precision, int(engine.runtime.get("threads") or 0)
        ),
        needs=_needs(facts, engine),
        files={
            f"engine/{path.name}": path
            for path in (file, *(file.with_name(file.name + suffix) for suffix in _BESIDE))
            if path.is_file()
        },
        classes=result.outputs,
        preprocessing=spec,
        inputs=golden.views,
        logits=logits,
        source=source,
        pictures=golden.pictures,
        measured=_measured(result, engine),
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
                if "@" not in step["step"] or step["step"].endswith(f"@{choice.target}")
            ],
        ),
        licence=choice.licence,
        parameters=result.student.parameters,
        more=_after_shipping(known, answers, result.outputs),
    )


def _chosen(result: Result, choice: Choice) -> tuple[Engine, str]:
    """The engine to pack, and the verdict on it."""
    shipping = _shipping(result, choice.target)
    reason = _verdict(result, choice.target)
    wanted = choice.engine or shipping.engine
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


@dataclass(frozen=True)
class _Golden:
    views: npt.NDArray[np.uint8]
    """[N, S, S, 3]; those of the pictures come first."""
    pictures: dict[str, bytes]


def _golden(data: Path, spec: Preprocessing) -> _Golden:
    """Views of test images; some as files, whose way through the runtime must be that of the training."""
    import numpy as np

    from export.bundle.pictures import photograph, png_bytes
    from figkd.data import open_split
    from figkd.data.crop import centre_crop
    from figkd.data.decode import decode_square
    from figkd.data.levels import from_json

    images = open_split(data, "test").images
    rows = np.unique(np.linspace(0, len(images) - 1, min(INPUTS, len(images))).astype(np.int64))
    stored = np.asarray(images[rows])
    pictures = {f"{i}.png": png_bytes(stored[i]) for i in range(min(_PNGS, len(stored)))}
    for number, orientation in enumerate(_ORIENTATIONS):
        pictures[f"{len(pictures)}.jpg"] = photograph(stored[number % len(stored)], orientation=orientation)
    rules = from_json(read_json(data / "data.json").get("decoding", {}).get("levels", {}))
    views = []
    for name, encoded in pictures.items():
        view = spec.view(encoded)
        square = decode_square(partial(bytes, encoded), spec.side, rules=rules)
        if not np.array_equal(view, centre_crop(square[None], spec.size)[0]):
            raise StageFailed(
                f"the runtime's preprocessing of {name} gives other pixels than the training's",
                fix="use the version of Pillow that constraints.txt names, and report this",
            )
        views.append(view)
    rest = centre_crop(stored, spec.size)[min(_PNGS, len(stored)) :]
    return _Golden(np.concatenate([np.stack(views), rest]), pictures)


@dataclass(frozen=True)
class _Known:
    """Labelled images."""

    views: npt.NDArray[np.uint8]
    """[N, S, S, 3]"""
    labels: list[str]
    """Their classes."""


def _validation(data: Path, spec: Preprocessing) -> _Known:
    """Validation images, evenly over the set: test images stay unseen."""
    import numpy as np

    from figkd.data import class_names, open_split
    from figkd.data.crop import centre_crop

    split, names = open_split(data, "val"), class_names(data)
    most = min(REFERENCE, max(MOST_VIEW_BYTES // (3 * spec.size**2), 1), len(split.images))
    rows = np.unique(np.linspace(0, len(split.images) - 1, most).astype(np.int64))
    return _Known(
        centre_crop(np.asarray(split.images[rows]), spec.size), [names[split.labels[row]] for row in rows]
    )


def _after_shipping(
    known: _Known, logits: npt.NDArray[np.float32], outputs: Sequence[str]
) -> dict[str, bytes]:
    """What a device compares itself with: how answers are distributed, and images whose class is known."""
    import numpy as np

    from export.runtime.bundle import canary, canonical, golden
    from export.runtime.counts import counts_of
    from export.runtime.install.outputs import REFERENCE as REFERENCE_FILE

    fit = canary.MOST_BYTES // known.views[0].nbytes
    few = np.unique(
        np.linspace(0, len(logits) - 1, min(canary.MOST_IMAGES, fit, len(logits))).astype(np.int64)
    )
    labels = np.array([outputs.index(known.labels[row]) for row in few], "<i4")
    found = {REFERENCE_FILE: canonical.encode(counts_of(logits).to_json())}
    if len(few):
        found |= {
            canary.INPUTS: golden.npy_bytes(known.views[few]),
            canary.LABELS: golden.npy_bytes(labels),
            canary.ANSWERS: golden.npy_bytes(logits[few].argmax(axis=1).astype("<i4")),
        }
    return found


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


def _needs(facts: Mapping[str, Any], engine: Engine) -> Any:
    from export.runtime.bundle.manifest import Needs

    bound = ENGINE_KINDS[engine.backend].gpu
    several = facts["options"].get("hardware_compatibility") not in (None, "none")  # the library says which
    return Needs(
        architecture=str(facts["platform"]),
        compute_capability=() if several else tuple(facts["compute_capability"]),
        l4t=str(facts["l4t"]),
        versions={engine.backend: str(facts["versions"].get(engine.backend, ""))} if bound else {},
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


def _summary(engine: Engine) -> str:
    if engine.accuracy is None:
        return "It was not scored."
    return f"Right on {engine.accuracy.top1:.2f} % of {engine.accuracy.n} test images."


def _number(value: float | None) -> str:
    """Six significant digits; empty for what was not measured."""
    return "" if value is None else f"{value:.6g}"


def _seconds(created: str) -> int:
    return calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ"))
