"""Numbers with units, states and verdicts in words: what the three views say alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from export.proportions import wilson
from pipeline.results.evidence import Load
from pipeline.results.result import (
    Accuracy,
    Engine,
    FineTuning,
    Judged,
    Latency,
    Network,
    PrecisionFile,
    Ratio,
    Result,
    Shipping,
    SkippedTactics,
)

DASH = "–"
MINUS = "\N{MINUS SIGN}"

VERDICTS = {
    "pass": "Pass",
    "no_goal": "No goal set",
    "not_run": "Not judged",
    "budget_missed": "Budget missed",
    "no_better_than_guessing": "No better than guessing",
    "failed": "Failed",
}
STATES = {"ran": "ran", "built": "built, not run", "missing": "back end missing", "failed": "failed"}
SHIPPING = {
    "ship": "Ship",
    "budget_missed": "Nothing to ship: budget missed",
    "no_better_than_guessing": "Nothing to ship: no better than guessing",
    "not_run": "Not judged: nothing ran here",
    "failed": "Nothing to ship: failed",
}
BOUNDARIES = {"engine": "engine", "engine+copies": "engine + copies", "image_to_class": "image to class"}
BOUNDARY_MEANING = {
    "engine": "inference alone",
    "engine+copies": "inference with the copies of input and output",
    "image_to_class": "decoding of a JPEG of the stored size, resize, inference and argmax of one image; "
    "a camera's file takes longer to decode",
}
PACED_MEANING = (
    "images arrive whether or not the one before is done; latency counts from the scheduled arrival"
)
BACKENDS = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
# Metric of a budget: its name, its unit and the digits after the point.
_METRICS = {
    "top1": ("top-1", "%", 2),
    "top5": ("top-5", "%", 2),
    "mean_per_class": ("mean per class", "%", 2),
    "worst_class": ("worst class", "%", 2),
    "agreement": ("agreement", "%", 2),
    "latency_p50_ms": ("median latency", "ms", 3),
    "latency_p99_ms": ("p99 latency", "ms", 3),
    "throughput": ("throughput", "img/s", 0),
    "deadline_miss_percent": ("late images", "%", 2),
    "energy_mj_per_image": ("energy", "mJ/image", 2),
    "engine_mb": ("engine size", "MB", 3),
}
_SHORT = {"latency_p50_ms": "median", "latency_p99_ms": "p99", "engine_mb": "size"}
# Parts of `image_to_class`, in the order in which they happen.
_PARTS = ("decode", "resize", "infer", "argmax")
# An INT8 graph begins with a quantisation and ends with a dequantisation; a few more hurt nobody.
_FEW_CONVERSIONS = 4
# Below this many multiply-accumulates a CPU spends more time on starting operators than in them.
_SMALL_NETWORK = 5_000_000
# What ONNX Runtime's CPU has no INT8 kernel for, among the operators of image networks.
_FLOAT_OPERATORS = (
    "HardSigmoid", "HardSwish", "Mul", "Sigmoid", "Erf", "Gelu", "Softmax", "LayerNormalization", "ReduceMean",
)  # fmt: skip


def fixed(value: float | None, digits: int) -> str:
    """A number with so many digits after the point and thousands apart; a dash for what was not measured."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return str(value)
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.lstrip("-")


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return fixed(value, 0)


def percent(value: float | None) -> str:
    """A percentage (without its sign) or percentage points, to a hundredth."""
    return fixed(value, 2)


def ms(value: float | None) -> str:
    """Milliseconds: to the microsecond below 100 ms."""
    return fixed(value, 3 if value is None or value < 100 else 1)


def mb(value: float | None) -> str:
    """Megabytes (10^6 bytes), to three significant digits or the nearest kB."""
    return fixed(value, 3 if value is None or value < 10 else 1)


def rate(value: float | None) -> str:
    """Images per second."""
    return fixed(value, 0 if value is None or value >= 100 else 1)


def signed_drop(drop: float | None) -> str:
    """A drop as the change that it is: 0.31 lost is '−0.31', 0.05 gained '+0.05'."""
    if drop is None:
        return DASH
    text = fixed(-drop, 2)
    return text if text.startswith(MINUS) or not float(text) else f"+{text}"


def magnitude(value: float | None) -> str:
    """A small number by its order: '3.1e-06', shown as '3.1 × 10⁻⁶'."""
    if value is None:
        return DASH
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{power}"


def seconds(value: float | None) -> str:
    """A duration: '0.4 s', '12 s', '3 min 05 s'."""
    if value is None:
        return DASH
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def size(value: float | None) -> str:
    """Bytes as kB, MB or GB (powers of ten)."""
    if value is None:
        return DASH
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value:.0f} B"


def confidence(accuracy: Accuracy) -> float:
    """Half width of the 95 % Wilson score interval of a top-1 accuracy, percentage points."""
    low, high = wilson(accuracy.top1 / 100 * accuracy.n, accuracy.n)
    return 50 * (high - low) if accuracy.n else 100.0


def metric_name(name: str, *, short: bool = False) -> str:
    """A budget's metric in words."""
    return (_SHORT.get(name) if short else None) or _METRICS.get(name, (name, "", 3))[0]


def unit(judged: Judged) -> str:
    """Unit of a budget's value and limit."""
    return "points" if judged.goal == "max_drop" else _METRICS.get(judged.metric, ("", "", 3))[1]


def goal(judged: Judged, *, short: bool = False) -> str:
    """A goal in words: 'p99 latency ≤ 5 ms', 'top-1 drop ≤ 1 points'."""
    drop = " drop" if judged.goal == "max_drop" else ""
    sign = "≥" if judged.goal == "min" else "≤"
    return f"{metric_name(judged.metric, short=short)}{drop} {sign} {judged.limit:g} {unit(judged)}".rstrip()


def value(judged: Judged) -> str:
    """The measured value of a goal with its unit."""
    if judged.value is None:
        return "not measured"
    digits = 2 if judged.goal == "max_drop" else _METRICS.get(judged.metric, ("", "", 3))[2]
    return f"{fixed(judged.value, digits)} {unit(judged)}".rstrip()


def gap(judged: Judged) -> str:
    """How far a value is from its limit: '0.420 ms over', '1.20 % short', '0.69 points to spare'."""
    if judged.margin is None:
        return ""
    digits = 2 if judged.goal == "max_drop" else _METRICS.get(judged.metric, ("", "", 3))[2]
    amount = f"{fixed(abs(judged.margin), digits)} {unit(judged)}".rstrip()
    if judged.goal != "max_drop":
        amount = amount.replace(" %", " points")
    if judged.verdict == "miss":
        return f"{amount} {'short' if judged.goal == 'min' else 'over'}"
    return f"{amount} to spare"


def missed(judged: Judged) -> str:
    """A missed goal in few words: 'p99 0.096 ms over'."""
    drop = " drop" if judged.goal == "max_drop" else ""
    return f"{metric_name(judged.metric, short=True)}{drop} {gap(judged)}"


def budget_summary(engine: Engine) -> str:
    """'4 of 4 met', '1 of 4 missed', '2 of 4 not measured'; a dash if no goal concerns the engine."""
    total = len(engine.budgets)
    if not total:
        return DASH
    missed = sum(j.verdict == "miss" for j in engine.budgets)
    unknown = sum(j.verdict == "not_judged" for j in engine.budgets)
    parts = [f"{missed} of {total} missed"] if missed else []
    parts += [f"{unknown} of {total} not measured"] if unknown else []
    return ", ".join(parts) or f"{total} of {total} met"


def reason(engine: Engine) -> str:
    """Why a row has no timings; empty for an engine that ran without remark."""
    return engine.detail.removeprefix("built, not run: ")


def remarks(engine: Engine) -> list[tuple[str, str]]:
    """What is to be said of a row, each with what to do about it: why it did not run, and how it was built."""
    found = [(reason(engine), engine.fix)] if engine.detail or engine.fix else []
    return found + ([skipped_tactics(engine.skipped_tactics)] if engine.skipped_tactics else [])


def skipped_tactics(found: SkippedTactics) -> tuple[str, str]:
    """What it means that a builder left kernels out for want of memory, and what to do about it."""
    many = f"{count(found.tactics)} {'tactic' if found.tactics == 1 else 'tactics'}"
    if found.by_workspace:
        why, fix = "for want of scratch memory", "raise workspace_mb or leave it out, and run again"
    else:
        why = "for lack of memory"
        fix = (
            "free memory where it is built (close other programs, on a Jetson its desktop too), and run again with "
            "--force build"
        )
    asked = f", the largest asked for {count(found.largest_mb)} MiB" if found.largest_mb else ""
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


def fine_tuning(tuning: FineTuning) -> str:
    """What quantisation-aware distillation did to a file, in one sentence."""
    name = f"INT8 ({tuning.onnx})"
    if tuning.state == "not_needed":
        drop = fixed(tuning.student_val - tuning.val_before, 2)
        images = f"{count(tuning.val_n)} validation images"
        return f"{name}: not fine-tuned, its drop of {drop} points on {images} is allowed"
    how = f"{tuning.epochs} {'epoch' if tuning.epochs == 1 else 'epochs'} of {tuning.method}"
    if tuning.state == "diverged":
        return f"{name}: not fine-tuned: {tuning.why}; engines use the file as it was made"
    if tuning.state == "no_better" or tuning.drop_after is None:
        return (
            f"{name}: {how} on the quantised graph made it no better on {count(tuning.val_n)} validation images "
            f"({percent(tuning.val_before)} % before, {percent(tuning.val_after)} % after); not kept"
        )
    return (
        f"{name} (QAD): {how} on the quantised graph; top-1 drop on the test set {fixed(tuning.drop_before, 2)} points "
        f"before, {fixed(tuning.drop_after, 2)} points after"
    )


def by_target(result: Result) -> list[tuple[str, list[Engine]]]:
    """Engines grouped by target, in the order of the result."""
    groups: dict[str, list[Engine]] = {}
    for engine in result.engines:
        groups.setdefault(engine.target, []).append(engine)
    return list(groups.items())


def shipped(result: Result, shipping: Shipping) -> Engine | None:
    """The recommended engine of a target."""
    return next((e for e in result.engines if e.id == shipping.engine), None)


def timed(engines: Iterable[Engine]) -> list[tuple[Engine, Latency]]:
    """Engines that were timed at boundary `engine`, with the row that budgets are judged at."""
    rows = [(engine, engine.latency_at("engine")) for engine in engines]
    return [(engine, row) for engine, row in rows if row is not None]


def n_range(rows: Sequence[Latency]) -> str:
    """Sample counts of several rows: 'n = 1,000' or 'n = 1,000 to 8,412'."""
    if not rows:
        return ""
    low, high = min(r.n for r in rows), max(r.n for r in rows)
    return f"n = {count(low)}" if low == high else f"n = {count(low)} to {count(high)}"


def method(network: Network) -> str:
    """How a network was trained: its distillation method and options in one line."""
    if network.method is None:
        return DASH
    options = ", ".join(f"{k} {v}" for k, v in network.options.items() if v is not None)
    return f"{network.method} ({options})" if options else network.method


def loss_parts(network: Network) -> str:
    """What a network's training loss was made of, in its first and last epoch; empty where it had one part."""
    told = [epoch for epoch in network.history if epoch.parts]
    if not told:
        return ""
    ends = told[:1] if len(told) == 1 else [told[0], told[-1]]

    def over(values: Iterable[float | None]) -> str:
        return " to ".join("not known" if value is None else f"{value:.3g}" for value in values)

    largest_first = sorted(ends[0].parts, key=lambda name: -ends[0].parts[name])
    rows = [f"{name} {over(epoch.parts.get(name) for epoch in ends)}" for name in largest_first]
    when = " to ".join(str(epoch.epoch) for epoch in ends)
    return (
        f"The student's mean training loss, epoch {when}: {over(epoch.loss for epoch in ends)}. "
        f"Its parts, weights included: {', '.join(rows)}."
    )


def batches(timed_rows: Sequence[tuple[Engine, Latency]]) -> str:
    """The batch sizes of several rows: '1' or '1, 8'."""
    return ", ".join(str(b) for b in sorted({row.batch for _, row in timed_rows}))


def rows(timed_rows: Sequence[tuple[Engine, Latency]]) -> list[Latency]:
    """The latency rows alone."""
    return [row for _, row in timed_rows]


def tested(engines: Iterable[Engine]) -> int:
    """Test images that the engines' accuracy comes from; 0 if there is none."""
    return max((e.accuracy.n for e in engines if e.accuracy), default=0)


def any_elsewhere(engines: Iterable[Engine]) -> bool:
    """Some row's accuracy is not the engine's own."""
    return any(measured_elsewhere(e) for e in engines)


def any_open(engines: Iterable[Engine]) -> bool:
    """Some budget could not be judged."""
    return any(j.verdict == "not_judged" for e in engines for j in e.budgets)


def at_boundary(engines: Iterable[Engine], boundary: str) -> list[tuple[Engine, Latency]]:
    """All rows of a boundary, every batch size and number of streams; without those at a fixed rate."""
    return [(e, r) for e in engines for r in e.latency if r.boundary == boundary and r.rate_fps is None]


def in_mode(row: Latency) -> str:
    """What follows an engine's name where it was measured in several power modes: ' in 15W'."""
    return f" in {row.power_mode}" if row.power_mode else ""


def other_modes(engines: Iterable[Engine]) -> list[str]:
    """Engines in the power modes that budgets are not judged at, a line each."""
    found = []
    for engine in engines:
        first = engine.latency_at("engine")
        others = [row for row in engine.latency if first and row.power_mode != first.power_mode]
        for row in others:
            if first and (row.boundary, row.batch) == (first.boundary, first.batch):
                p99 = f", p99 {ms(row.p99)} ms" if row.p99 is not None else ""
                found.append(f"{engine.id}{in_mode(row)}: {ms(row.median)} ms median{p99}")
    return found


def paced(engines: Iterable[Engine]) -> list[tuple[Engine, Latency]]:
    """All rows at a fixed rate of arrivals."""
    return [(e, row) for e in engines for row in e.latency if row.rate_fps is not None]


def interval(row: Latency, figure: str = "median") -> str:
    """The 95 % interval of a figure: '0.029 to 0.031'; empty where there is none."""
    found = row.intervals.get(figure)
    return f"{ms(found[0])} to {ms(found[1])}" if found else ""


def load(found: Load) -> str:
    """Who else was at work: 'other processes used 1.7 CPU cores meanwhile, also when 10 rounds were taken again'."""
    cores = fixed(max(found.others, found.stolen), 1)
    who = "other processes used" if found.others >= found.stolen else "other machines on the same host took"
    again = f", also when {found.repeated} rounds were taken again" if found.repeated else ""
    return f"{who} {cores} CPU cores meanwhile{again}"


def sure(result: Result) -> list[Latency]:
    """The rows that budgets are judged at, of targets whose measurement nobody disturbed."""
    doubtful = {target for target, found in result.loads.items() if found.disturbed}
    return [row for engine, row in timed(result.engines) if engine.target not in doubtful]


def doubts(result: Result) -> list[str]:
    """Targets whose measurement was disturbed, in a sentence each."""
    return [
        f"the times of {target} are less sure than their intervals say: {load(found)}"
        for target, found in result.loads.items()
        if found.disturbed
    ]


def half_width(row: Latency) -> float | None:
    """Half the width of the median's interval, percent of the median."""
    found = row.intervals.get("median")
    return 50 * (found[1] - found[0]) / row.median if found and row.median else None


def certainty(timed_rows: Sequence[Latency]) -> str:
    """How well the medians are known: '± 0.8 % to ± 3.1 %'; empty where no row has an interval."""
    widths = [width for row in timed_rows if (width := half_width(row)) is not None]
    if not widths:
        return ""
    low, high = fixed(min(widths), 1), fixed(max(widths), 1)
    return f"± {low} %" if low == high else f"± {low} % to ± {high} %"


def ratio(found: Ratio) -> str:
    """How many times as long: '1.37 times as long (1.30 to 1.41)'."""
    return f"{fixed(found.ratio, 2)} times as long ({fixed(found.low, 2)} to {fixed(found.high, 2)})"


def share(part: float, whole: float) -> str:
    """A share: 'all', 'none', '97.3 %'."""
    if part == whole:
        return "all"
    return f"{fixed(100 * part / whole, 1)} %" if part and whole else "none"


def int8_story(engine: Engine, rival: Engine, found: Ratio) -> str:
    """Why INT8 is not faster than another precision, as far as counting the graph tells.

    Args:
        engine: the INT8 engine.
        rival: the fastest engine of another precision.
        found: how many times as long the INT8 engine takes as the rival.
    """
    level = "slower than" if found.low > 1 else "not faster than"
    head = f"INT8 is {level} {short_id(rival)} here: {ratio(found)}, n = {found.n} rounds"
    graph = engine.int8
    if graph is None or not graph.layers:
        return head
    macs = f"{share(graph.int8_macs, graph.macs)} of {graph.macs / 1e6:,.1f} million multiply-accumulates"
    counted = f"{graph.int8_layers} of {graph.layers} layers{f' and {macs}' if graph.macs else ''} are INT8"
    reasons = []
    if graph.macs and graph.int8_macs < 0.9 * graph.macs:
        named = ", ".join(f"{layer['name']} ({layer['macs_percent']:.0f} %)" for layer in graph.float_layers)
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
        depthwise = share(graph.depthwise_macs, graph.macs)
        reasons.append(f"{depthwise} of the multiply-accumulates are depthwise, which wait for memory")
    return f"{head}. {counted}" + (f"; {'; '.join(reasons)}" if reasons else "")


def chosen_threads(engines: Iterable[Engine]) -> list[str]:
    """With how many CPU threads engines were timed, where that was chosen, such as 'cpu/fp32 with 1 thread: ...'."""
    return [f"{e.id} with {e.runtime['threads_chosen']}" for e in engines if "threads_chosen" in e.runtime]


def energy(engine: Engine) -> str:
    """Energy of one image in words; empty if it is not known."""
    found = engine.energy
    if found is None:
        return ""
    return (
        f"{fixed(found.mj_per_image, 2)} mJ an image above idle, {fixed(found.mj_per_image_total, 2)} mJ with it; "
        f"{fixed(found.load_w, 2)} W at work, {fixed(found.idle_w, 2)} W idle ({found.source}: {found.covers})"
    )


def rate_verdict(row: Latency) -> str:
    """What became of a fixed rate: 'keeps 30 fps, 2 of 1,000 late, p99 1.204 ms'."""
    kept = "keeps" if row.keeps_rate else "does not keep"
    p99 = f"p99 {ms(row.p99)} ms" if row.p99 is not None else f"max {ms(row.max)} ms"
    return f"{kept} {row.rate_fps:g} fps, {count(row.deadline_misses)} of {count(row.n)} late, {p99}"


def parts(timed_rows: Sequence[tuple[Engine, Latency]]) -> list[str]:
    """Names of the timed parts in the order in which they happen; unknown ones at the end."""
    found = dict.fromkeys(name for _, row in timed_rows for name in row.median_of_parts_ms)
    return sorted(found, key=lambda name: _PARTS.index(name) if name in _PARTS else len(_PARTS))


def longest(timed_rows: Sequence[tuple[Engine, Latency]]) -> float:
    """The largest sum of a row's parts, ms."""
    return max((sum(row.median_of_parts_ms.values()) for _, row in timed_rows), default=0.0) or 1.0


def warnings(timed_rows: Sequence[tuple[Engine, Latency]]) -> list[tuple[str, list[str]]]:
    """Warnings with the engines that they concern."""
    found: dict[str, list[str]] = {}
    for engine, row in timed_rows:
        for text in row.warnings:
            found.setdefault(text, []).append(engine.id)
    return list(found.items())


def classes(result: Result) -> int:
    """Number of classes."""
    given = result.data.get("classes", result.data.get("class_names", []))
    return len(given) if isinstance(given, list) else int(given)


def compared(result: Result) -> str:
    """Teacher and student in one sentence: size and top-1."""
    teacher, student = result.teacher, result.student
    behind = teacher.test.top1 - student.test.top1
    accuracy = f"{percent(abs(behind))} points {'behind' if behind >= 0 else 'ahead of'} the teacher in top-1"
    if student.parameters <= 0:
        return f"The student is {accuracy}."
    times = teacher.parameters / student.parameters
    share = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return f"The teacher has {share} times the student's parameters; the student is {accuracy}."


def skipped(result: Result) -> list[tuple[str, str]]:
    """Files that the data stage left out, with the reason."""
    rows = result.data.get("skipped", [])
    return [(f"{s.get('split', '')} {s.get('file', '')}".strip(), str(s.get("reason", ""))) for s in rows]


def total_seconds(result: Result) -> float:
    """Time of all steps together, whenever they ran."""
    return sum(float(s.get("seconds") or 0.0) for s in result.steps)


CAUSES = {
    "rule": "rule",
    "config": "asked for",
    "accuracy": "accuracy",
    "range": "FP16's range",
}
"""Why layers are not in a file's precision, in a word."""


INT8_LAYOUTS = (
    "There can be several INT8 files of one network, because libraries and CPUs read INT8 differently. int8.onnx is "
    "for TensorRT and TensorRT-RTX: activations are signed and symmetric, and scales stand only at what convolutions "
    "and products read. int8_cpu_*.onnx are for ONNX Runtime on a CPU: scales also stand at what is written, and what "
    "the CPU can do decides the rest. Each rounds a little differently; give each file to its own library and CPU only."
)
TWO_DROPS = (
    "What may stay in INT8 is decided on validation images, so that the test images remain unseen; what it costs in "
    "the end is measured on the test images. Two sets of images give two figures for one file."
)


def on_test(result: Result, file: PrecisionFile) -> str:
    """What a file costs against FP32 on the test images, in a sentence; empty where one is not known."""
    whole = next((other.top1 for other in result.precisions if other.precision == "fp32"), None)
    if whole is None or file.top1 is None:
        return ""
    n = count(result.student.test.n)
    return f"On the {n} test images the file costs {fixed(whole - file.top1, 2)} points."


def mixed(file: PrecisionFile) -> str:
    """The search for what must leave INT8, in a sentence; empty if there was none."""
    found = file.mixed
    if found is None:
        return ""
    loss = f"INT8 costs {fixed(found.fp32 - found.before, 2)} points on {count(found.n)} validation images"
    allowed = f"{found.max_drop:g} points allowed"
    if not found.groups:
        return f"{loss} ({allowed})" + ("." if found.met else "; nothing could be taken out of it.")
    taken = f"{found.groups} group{'s' * (found.groups > 1)} of layers ({fixed(found.macs_percent, 1)} % of the work)"
    end = f"{fixed(found.fp32 - found.after, 2)} points remain"
    return f"{loss} ({allowed}): {taken} left INT8, {end}" + (
        "." if found.met else "; the budget could not be held."
    )


def cpu(file: PrecisionFile) -> str:
    """For which CPUs a file is, and why, in a sentence; empty where that does not matter."""
    found = file.cpu
    if found is None:
        return ""
    asked = f" ({', '.join(found.targets)})" if found.targets else ""
    return (
        f"For {found.cpus}{asked}: {found.activations} activations, weights of {found.weight_bits} bits; "
        f"{found.because}."
    )


def noteworthy(files: Iterable[PrecisionFile]) -> list[PrecisionFile]:
    """Files in which something left its precision for another reason than a rule or the config."""
    return [
        file
        for file in files
        if (file.mixed and (file.mixed.groups or not file.mixed.met))
        or any(kept.cause == "range" for kept in file.kept_out)
    ]


def in_range_kept(file: PrecisionFile) -> str:
    """Nodes that FP16 cannot hold, in a sentence; empty if there are none."""
    nodes = [kept for kept in file.kept_out if kept.cause == "range"]
    if not nodes:
        return ""
    what = "1 node stays" if len(nodes) == 1 else f"{len(nodes)} nodes stay"
    return f"{what} FP32: {nodes[0].why}."
