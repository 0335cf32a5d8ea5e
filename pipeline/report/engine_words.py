"""Engines in words: what became of each, how it was built and run, why INT8 is not faster."""

from __future__ import annotations

from collections.abc import Iterable

from export.engine_kinds import ENGINE_KINDS
from pipeline.report import numbers
from pipeline.results.choice import Rival
from pipeline.results.engine import Engine, SkippedTactics
from pipeline.results.result import Result

STATES = {"ran": "ran", "built": "built, not run", "missing": "back end missing", "failed": "failed"}
BACKENDS = {name: kind.label for name, kind in ENGINE_KINDS.items()}
# An INT8 graph begins with a quantisation and ends with a dequantisation; a few extra Q/DQ pairs are harmless.
_FEW_CONVERSIONS = 4
# Below this many multiply-accumulates a CPU spends more time on starting operators than in them.
_SMALL_NETWORK = 5_000_000
# What ONNX Runtime's CPU has no INT8 kernel for, among the operators of image networks.
_FLOAT_OPERATORS = (
    "HardSigmoid", "HardSwish", "Mul", "Sigmoid", "Erf", "Gelu", "Softmax", "LayerNormalization", "ReduceMean",
)  # fmt: skip


def reason(engine: Engine) -> str:
    """Why a row has no timings, or what is to be said of one that has; empty where that is nothing."""
    story = int8_story(engine, engine.rival) if engine.rival else ""
    return "; ".join(filter(None, [engine.detail.removeprefix("built, not run: "), story]))


def remarks(engine: Engine) -> list[tuple[str, str]]:
    """What is to be said of a row, each with what to do about it: why it did not run, and how it was built."""
    found = [(why, engine.fix)] if (why := reason(engine)) or engine.fix else []
    return found + ([skipped_tactics(engine.skipped_tactics)] if engine.skipped_tactics else [])


def skipped_tactics(found: SkippedTactics) -> tuple[str, str]:
    """What it means that a builder left kernels out because memory did not suffice, and what to do about it."""
    many = f"{numbers.count(found.tactics)} {'tactic' if found.tactics == 1 else 'tactics'}"
    if found.by_workspace:
        why, fix = (
            "for lack of scratch memory",
            "raise workspace_mb or leave it out, and run again",
        )
    else:
        why = "for lack of memory"
        fix = (
            "free memory where it is built (close other programs, on a Jetson its desktop too), and run again with "
            "--force build"
        )
    asked = f", the largest asked for {numbers.count(found.largest_mb)} MiB" if found.largest_mb else ""
    return f"built with {many} skipped {why}{asked}: it may be slower than it could be", fix


def measured_elsewhere(engine: Engine) -> bool:
    """The accuracy is that of the ONNX file, not of the engine."""
    return engine.accuracy is not None and engine.accuracy.source != "engine"


def short_id(engine: Engine) -> str:
    """An engine's id without its target: 'int8', 'int8-SM89'."""
    return engine.id.removeprefix(f"{engine.target}/")


def tag(engine: Engine) -> str:
    """What follows an engine's name: ' (QAD)' if its INT8 file was fine-tuned."""
    return " (QAD)" if engine.qad else ""


def by_target(result: Result) -> list[tuple[str, list[Engine]]]:
    """Engines grouped by target, in the order of the result."""
    groups: dict[str, list[Engine]] = {}
    for engine in result.engines:
        groups.setdefault(engine.target, []).append(engine)
    return list(groups.items())


def tested(engines: Iterable[Engine]) -> int:
    """Test images that the engines' accuracy comes from; 0 if there is none."""
    return max((e.accuracy.n for e in engines if e.accuracy), default=0)


def any_elsewhere(engines: Iterable[Engine]) -> bool:
    """Some row's accuracy is not the engine's own."""
    return any(measured_elsewhere(e) for e in engines)


def int8_story(engine: Engine, rival: Rival) -> str:
    """Why INT8 is not faster than another precision, as far as counting the graph tells; empty where it is faster.

    Args:
        engine: the INT8 engine.
        rival: the fastest engine of another precision, and how many times as long the INT8 engine takes.
    """
    found = rival.times
    if found is None or found.high < 1:
        return ""
    level = "slower than" if found.low > 1 else "not faster than"
    name = rival.id.removeprefix(f"{engine.target}/")
    head = f"INT8 is {level} {name} here: {numbers.ratio(found)}, n = {found.n} rounds"
    graph = engine.int8
    if graph is None or not graph.layers:
        return head
    macs = f"{numbers.share(graph.int8_macs, graph.macs)} of {graph.macs / 1e6:,.1f} million multiply-accumulates"
    counted = f"{graph.int8_layers} of {graph.layers} layers{f' and {macs}' if graph.macs else ''} are INT8"
    reasons = []
    if graph.macs and graph.int8_macs < 0.9 * graph.macs:
        named = ", ".join(f"{layer.name} ({layer.macs_percent:.0f} %)" for layer in graph.float_layers)
        reasons.append(f"the rest computes in floating point: {named}")
    conversions = sum(graph.operators.get(op, 0) for op in ("QuantizeLinear", "DequantizeLinear"))
    if graph.operators and conversions > _FEW_CONVERSIONS:
        around = [f"{n} {op}" for op, n in graph.operators.items() if op in _FLOAT_OPERATORS]
        reasons.append(
            f"{conversions} conversions between INT8 and floating point are left after fusion"
            + (f", around {', '.join(around)}" if around else "")
        )
    elif not graph.operators and graph.dequantize > 2 * graph.layers:
        reasons.append(
            f"{graph.quantize} Q and {graph.dequantize} DQ of activations for {graph.layers} layers"
        )
    if (built := engine.composition.engine) and built.reformats:
        reasons.append(f"{built.reformats} of the built engine's {built.layers} layers only reformat")
    if built and built.requantise:
        reasons.append(f"{built.requantise} of the built engine's {built.layers} layers only requantise")
    if 0 < graph.macs < _SMALL_NETWORK:
        reasons.append("so small a network spends its time on starting operators and changing layouts")
    if graph.macs and graph.depthwise_macs > 0.05 * graph.macs:
        depthwise = numbers.share(graph.depthwise_macs, graph.macs)
        reasons.append(f"{depthwise} of the multiply-accumulates are depthwise, which wait for memory")
    return f"{head}. {counted}" + (f"; {'; '.join(reasons)}" if reasons else "")


def chosen_threads(engines: Iterable[Engine]) -> list[str]:
    """With how many CPU threads engines were timed, where that was chosen, such as 'cpu/fp32 with 1 thread: ...'."""
    found = []
    for engine in (e for e in engines if e.threads_tried):
        chosen = engine.runtime.get("threads")
        tried = ", ".join(
            f"{t.threads} {'takes' if t.threads == 1 else 'take'} {numbers.ratio(t.times)}"
            for t in engine.threads_tried
        )
        found.append(f"{engine.id} with {chosen} {'thread' if chosen == 1 else 'threads'}: {tried}")
    return found


def energy(engine: Engine) -> str:
    """Energy of one image in words; empty if it is not known."""
    found = engine.energy
    if found is None:
        return ""
    above, whole, work, idle = (
        numbers.fixed(x, 2)
        for x in (found.mj_per_image, found.mj_per_image_total, found.load_w, found.idle_w)
    )
    return (
        f"{above} mJ an image above idle, {whole} mJ with it; {work} W at work, {idle} W idle "
        f"({found.source}: {found.covers})"
    )


def accuracy_source(engine: Engine) -> str:
    """What computed the logits that an engine's accuracy comes from."""
    source = engine.accuracy.source if engine.accuracy else ""
    where = {"onnx": "in ONNX Runtime", "onnx_emulated": "emulated in ONNX Runtime"}.get(source)
    return f"{engine.onnx} {where}" if where else source
