"""The report as Markdown, for a pull request or a wiki."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.report import parity, words
from pipeline.report.devices import device_facts
from pipeline.result import Accuracy, Engine, Network, Result

_MARKS = {"pass": "✅", "budget_missed": "⚠️", "failed": "❌"}
_SHIP_MARKS = {"ship": "✅", "budget_missed": "⚠️", "not_run": "⚪", "failed": "❌"}
_JUDGED_MARKS = {"pass": "✅", "miss": "❌", "not_judged": "⚪"}


def render_markdown(result: Result) -> str:
    """The result as GitHub-flavoured Markdown: verdict, engines, budgets, latency, accuracy, provenance."""
    sections = [
        _head(result),
        _engines(result),
        _budgets(result),
        _precisions(result),
        _latency(result),
        _networks(result),
        _classes(result),
        _parity(result),
        _devices(result),
        _provenance(result),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(result: Result) -> str:
    data = result.data
    lines = [
        f"# {_text(result.name)}: {_MARKS[result.verdict]} {words.VERDICTS[result.verdict]}",
        "",
        _text(result.summary),
        "",
    ]
    for shipping in result.shipping:
        what = f"ship {_code(shipping.engine)}" if shipping.engine else words.SHIPPING[shipping.state].lower()
        lines.append(
            f"- {_SHIP_MARKS[shipping.state]} **{_text(shipping.target)}**: {what}. {_text(shipping.why)}"
        )
    for step, failure in result.failures.items():
        fix = f". Fix: {_text(str(failure['fix']))}" if failure.get("fix") else ""
        lines.append(f"- ❌ **{_text(step)}** failed: {_text(str(failure.get('what', '')))}{fix}")
    tested = result.student.test.n
    lines += [
        "",
        f"Data set {_code(data.get('dataset', ''))}, {words.count(_classes_of(result))} classes, "
        f"{words.count(tested)} test images. Made {_text(result.created)}.",
    ]
    return "\n".join(lines)


def _engines(result: Result) -> str:
    head = [
        "engine",
        "state",
        "size MB",
        "top-1 %",
        "change pp",
        "mean per class %",
        "median ms",
        "p99 ms",
        "img/s",
        "budgets",
    ]
    shipped = {s.engine for s in result.shipping}
    rows = [_engine_row(engine, engine.id in shipped) for engine in result.engines]
    timed = [row for _, row in words.timed(result.engines)]
    notes = ["Change: against the torch student on the same images."]
    if timed:
        batches = ", ".join(str(b) for b in sorted({row.batch for row in timed}))
        notes.append(
            f"Latency: boundary `engine` ({words.BOUNDARY_MEANING['engine']}), batch {batches}, "
            f"{words.n_range(timed)} samples an engine."
        )
    if any(words.measured_elsewhere(e) for e in result.engines):
        notes.append("† accuracy of the ONNX file in ONNX Runtime; the engine did not run here.")
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for engine in result.engines:
        if engine.detail or engine.fix:
            key = (words.STATES[engine.state], words.reason(engine), engine.fix)
            reasons.setdefault(key, []).append(engine.id)
    remarks = [
        f"- {', '.join(map(_code, ids))}: {state}"
        + (f": {_text(why)}" if why else "")
        + (f". Fix: {_text(fix)}" if fix else "")
        for (state, why, fix), ids in reasons.items()
    ]
    remarks += [f"- {_text(words.fine_tuning(tuning))}" for tuning in result.qad]
    table = _table(head, rows, "ll" + "r" * 7 + "l")
    return "\n\n".join(["## Engines", table, " ".join(notes), *(["\n".join(remarks)] if remarks else [])])


def _engine_row(engine: Engine, ship: bool) -> list[str]:
    accuracy, latency = engine.accuracy, engine.latency_at("engine")
    mark = " †" if words.measured_elsewhere(engine) else ""
    return [
        (f"**{_code(engine.id)}**" if ship else _code(engine.id)) + words.tag(engine),
        words.STATES[engine.state],
        words.mb(engine.engine_mb),
        f"{words.percent(accuracy.top1)}{mark}" if accuracy else words.DASH,
        words.signed_drop(engine.drop),
        words.percent(accuracy.mean_per_class) if accuracy else words.DASH,
        words.ms(latency.median if latency else None),
        words.ms(latency.p99 if latency else None),
        words.rate(latency.throughput if latency else None),
        words.budget_summary(engine),
    ]


def _budgets(result: Result) -> str:
    rows = [
        [
            _code(engine.id),
            words.goal(j),
            words.value(j),
            f"{_JUDGED_MARKS[j.verdict]} {_verdict(j.verdict)}",
            words.gap(j) or words.DASH,
        ]
        for engine in result.engines
        for j in engine.budgets
    ]
    if not rows:
        return ""
    return "## Budgets\n\n" + _table(["engine", "budget", "value", "verdict", "margin"], rows, "llrlr")


def _verdict(verdict: str) -> str:
    return {"pass": "met", "miss": "missed", "not_judged": "not measured"}[verdict]


def _precisions(result: Result) -> str:
    if not result.precisions:
        return ""
    head = ["file", "read by", "MB", "top-1 %", "INT8 % of the work", "calibration"]
    rows = [
        [
            _code(file.onnx),
            ", ".join(words.BACKENDS.get(name, name) for name in file.engines) or words.DASH,
            words.mb(file.mb),
            words.percent(file.top1),
            words.fixed(file.int8_macs_percent, 1),
            file.calibration or words.DASH,
        ]
        for file in result.precisions
    ]
    parts = ["## Precision", _table(head, rows, "llrrrl")]
    said = [(file, words.mixed(file)) for file in result.precisions]
    if any(text for _, text in said):
        parts.append("\n".join(f"- {_code(file.onnx)}: {_text(text)}" for file, text in said if text))
    kept = [
        [
            _code(file.onnx),
            _code(row.what),
            words.CAUSES[row.cause],
            words.fixed(row.macs_percent, 1),
            _text(row.why),
        ]
        for file in result.precisions
        for row in file.kept_out
    ]
    if kept:
        parts.append("Kept out, and why:")
        parts.append(_table(["file", "what", "cause", "% of the work", "why"], kept, "lllrl"))
    return "\n\n".join(parts)


def _latency(result: Result) -> str:
    rows = []
    for boundary in words.BOUNDARIES:
        for engine, row in words.at_boundary(result.engines, boundary):
            rows.append(
                [
                    _code(engine.id),
                    words.BOUNDARIES[row.boundary],
                    str(row.batch),
                    str(row.streams),
                    words.count(row.n),
                    *(words.ms(x) for x in (row.min, row.mean, row.median)),
                    words.interval(row) or words.DASH,
                    *(words.ms(x) for x in (row.p90, row.p95, row.p99, row.max, row.std)),
                    words.fixed(row.cv_percent, 1),
                    words.rate(row.throughput),
                    _text("; ".join(row.warnings)),
                ]
            )
    if not rows:
        return ""
    head = [
        "engine",
        "boundary",
        "batch",
        "streams",
        "n",
        "min",
        "mean",
        "median",
        "its 95 % interval",
        "p90",
        "p95",
        "p99",
        "max",
        "std",
        "CV %",
        "img/s",
        "warnings",
    ]
    meaning = "; ".join(f"{words.BOUNDARIES[b]}: {m}" for b, m in words.BOUNDARY_MEANING.items())
    table = _table(head, rows, "ll" + "r" * 14 + "l")
    return f"## Latency\n\nMilliseconds. {meaning}.\n\n{table}{_threads(result)}{_paced(result)}{_energy(result)}"


def _threads(result: Result) -> str:
    chosen = words.chosen_threads(result.engines)
    return f"\n\nCPU threads, chosen by measurement: {_text('; '.join(chosen))}." if chosen else ""


def _energy(result: Result) -> str:
    rows = [
        [
            _code(engine.id),
            *(words.fixed(x, 2) for x in (e.mj_per_image, e.mj_per_image_total, e.load_w, e.idle_w)),
            words.count(e.n),
            _text(f"{e.source}: {e.covers}"),
        ]
        for engine in result.engines
        if (e := engine.energy) is not None
    ]
    if not rows:
        reason = result.machine.get("energy_not_available", "")
        return f"\n\nEnergy: not available: {_text(str(reason))}." if reason else ""
    head = ["engine", "mJ/image above idle", "mJ/image", "W at work", "W idle", "readings", "of what"]
    return f"\n\nEnergy, measured beside all timing.\n\n{_table(head, rows, 'lrrrrrl')}"


def _paced(result: Result) -> str:
    rows = [
        [
            _code(engine.id),
            words.BOUNDARIES[row.boundary],
            f"{row.rate_fps:g}",
            "yes" if row.keeps_rate else "no",
            f"{words.count(row.deadline_misses)} of {words.count(row.n)}",
            *(words.ms(x) for x in (row.median_of_parts_ms.get("service"), row.median, row.p99, row.max)),
            _text("; ".join(row.warnings)),
        ]
        for engine, row in words.paced(result.engines)
    ]
    if not rows:
        return ""
    head = ["engine", "boundary", "fps", "kept", "late", "service", "median", "p99", "max", "warnings"]
    return f"\n\nAt a fixed rate, {words.PACED_MEANING}.\n\n" + _table(head, rows, "llrlrrrrrl")


def _networks(result: Result) -> str:
    head = [
        "network",
        "model",
        "parameters",
        "test top-1 %",
        "top-5 %",
        "mean per class %",
        "worst class %",
        "val top-1 %",
        "n test",
    ]

    def row(role: str, network: Network) -> list[str]:
        test = network.test
        return [
            role,
            _code(network.model),
            words.count(network.parameters),
            words.percent(test.top1),
            words.percent(test.top5),
            words.percent(test.mean_per_class),
            _worst(test),
            words.percent(network.val_top1),
            words.count(test.n),
        ]

    table = _table(head, [row("teacher", result.teacher), row("student", result.student)], "llrrrrlrr")
    return f"## Teacher and student\n\n{table}\n\nStudent trained with {_text(words.method(result.student))}."


def _worst(accuracy: Accuracy) -> str:
    if not accuracy.worst_classes:
        return words.DASH
    worst = accuracy.worst_classes[0]
    return f"{words.fixed(worst['accuracy'], 1)} ({_text(str(worst['name']))}, n = {words.count(worst['n'])})"


def _classes(result: Result) -> str:
    confused = result.student.test.confused
    if not confused:
        return ""
    rows = [[_text(str(c["true"])), _text(str(c["predicted"])), words.count(c["count"])] for c in confused]
    table = _table(["true", "predicted", "images"], rows, "llr")
    n = words.count(result.student.test.n)
    return f"## Most frequent mistakes of the student\n\nOn {n} test images.\n\n{table}"


def _parity(result: Result) -> str:
    rows = [
        [
            _text(r.what),
            str(r.batch),
            words.count(r.n),
            words.magnitude(r.max_abs),
            words.magnitude(r.allowed),
            words.fixed(r.cosine, 6),
            words.percent(r.agreement),
            "✅ ok" if r.ok else "❌ failed",
        ]
        for r in parity.summarise(result.parity)
    ]
    if not rows:
        return ""
    head = ["input", "batch", "n", "max abs error", "allowed", "min cosine", "same top-1 %", ""]
    return "## ONNX against torch\n\n" + _table(head, rows, "lrrrrrrl")


def _devices(result: Result) -> str:
    sections = []
    for target, facts in device_facts(result):
        rows = [[_text(label), _text(text)] for label, text in facts]
        sections.append(f"### {_text(target)}\n\n" + _table(["fact", "value"], rows, "ll"))
    return "\n\n".join(["## Devices", *sections]) if sections else ""


def _provenance(result: Result) -> str:
    steps = [
        [
            _code(str(s.get("step", ""))),
            _code(str(s.get("key", ""))[:16]),
            _code(str(s.get("digest", ""))[:12]),
            words.seconds(s.get("seconds")),
            words.size(s.get("bytes")),
        ]
        for s in result.steps
    ]
    packages = ", ".join(f"{_text(k)} {_text(v)}" for k, v in sorted(result.packages.items()))
    facts = [
        f"- git: {_code(result.git) if result.git else 'not a working copy'}",
        f"- seed: {result.config.get('seed', words.DASH)}",
        f"- packages: {packages}",
    ]
    return "\n\n".join(
        [
            "## Provenance",
            "\n".join(facts),
            _table(["step", "key", "digest", "time", "size"], steps, "lllrr") if steps else "",
        ]
    ).rstrip()


def _classes_of(result: Result) -> int:
    names = result.data.get("class_names")
    classes = result.data.get("classes", len(names) if isinstance(names, list) else 0)
    return len(classes) if isinstance(classes, list) else int(classes)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    rule = ["---:" if a == "r" else "---" for a in align]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _text(value: str) -> str:
    """Escape what Markdown or HTML would take as markup; a line stays a line."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", value.replace("&", "&amp;"))
    return " ".join(escaped.split())


def _code(value: object) -> str:
    """An inline code span that holds any text, also in a table."""
    text = " ".join(str(value).replace("|", "¦").split())
    if not text:
        return ""
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
