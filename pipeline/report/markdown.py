"""The report as Markdown, for a pull request or a wiki."""

from __future__ import annotations

from pipeline.report import (
    choice_words,
    data_markdown,
    engine_words,
    goal_words,
    latency_markdown,
    latency_words,
    layers,
    markup,
    numbers,
    parity,
    plain,
    precision_words,
    words,
)
from pipeline.report.devices import device_facts
from pipeline.results.engine import Engine
from pipeline.results.network import Accuracy, Network
from pipeline.results.result import Result

_JUDGED_MARKS = {"pass": "✅", "miss": "❌", "not_judged": "⚪"}


def render_markdown(result: Result) -> str:
    """The result as GitHub-flavoured Markdown: verdict, engines, budgets, latency, accuracy, provenance."""
    sections = [
        _head(result),
        _engines(result),
        _budgets(result),
        _precisions(result),
        _layers(result),
        latency_markdown.render(result),
        _networks(result),
        _classes(result),
        data_markdown.render(result.your_data) if result.your_data else "",
        _outputs(result),
        _parity(result),
        _devices(result),
        _provenance(result),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(result: Result) -> str:
    data = result.data
    lines = [
        f"# {markup.text(result.name)}: {markup.MARKS[plain.TONES[result.verdict]]} {words.VERDICTS[result.verdict]}",
        "",
        f"**{markup.text(plain.headline(result))}**",
        "",
        "How good is it?",
        "",
        *(f"- {markup.text(plain.level(level))}" for level in plain.levels(result)),
        "",
    ]
    if found := plain.worries(result):
        said = [f"- {markup.MARKS[worry.tone]} {markup.text(worry.text)}" for worry in found]
        lines += ["What to worry about:", "", *said, ""]
    lines += ["What to ship:", ""]
    for shipping in result.shipping:
        choice = plain.choice(result, shipping)
        what = choice.text.lower() + (f" {markup.code(choice.engine)}" if choice.engine else "")
        head = f"- {markup.MARKS[choice.tone]} **{markup.text(shipping.target)}**: {what}."
        lines.append(f"{head} {markup.text(choice_words.why(result, shipping))}")
    for step, failure in result.failures.items():
        fix = f". Fix: {markup.text(str(failure['fix']))}" if failure.get("fix") else ""
        lines.append(f"- ❌ **{markup.text(step)}** failed: {markup.text(str(failure.get('what', '')))}{fix}")
    tested = result.student.test.n
    lines += [
        "",
        f"Data set {markup.code(data.get('dataset', ''))}, {numbers.count(_classes_of(result))} classes, "
        f"{numbers.count(tested)} test images. Made {markup.text(result.created)}.",
    ]
    return "\n".join(lines)


def _engines(result: Result) -> str:
    head = [
        "engine",
        "state",
        "size MB",
        "top-1 %",
        "change, points",
        "mean per class %",
        "median ms",
        "p99 ms",
        "img/s",
        "budgets",
    ]
    shipped = {s.engine for s in result.shipping}
    rows = [_engine_row(engine, engine.id in shipped) for engine in result.engines]
    timed = [row for _, row in latency_words.timed(result.engines)]
    notes = ["Change: against the torch student on the same images."]
    if timed:
        batches = ", ".join(str(b) for b in sorted({row.batch for row in timed}))
        notes.append(
            f"Latency: boundary `engine` ({latency_words.BOUNDARY_MEANING['engine']}), batch {batches}, "
            f"{latency_words.n_range(timed)} samples an engine."
        )
    if any(engine_words.measured_elsewhere(e) for e in result.engines):
        notes.append("† accuracy of the ONNX file in ONNX Runtime; the engine did not run here.")
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for engine in result.engines:
        for why, fix in engine_words.remarks(engine):
            reasons.setdefault((engine_words.STATES[engine.state], why, fix), []).append(engine.id)
    remarks = [
        f"- {', '.join(map(markup.code, ids))}: {state}"
        + (f": {markup.text(why)}" if why else "")
        + (f". Fix: {markup.text(fix)}" if fix else "")
        for (state, why, fix), ids in reasons.items()
    ]
    remarks += [f"- {markup.code(name)}: {markup.text(said)}" for name, said in layers.outlooks(result)]
    remarks += [f"- {markup.text(precision_words.fine_tuning(tuning))}" for tuning in result.qad]
    table = markup.table(head, rows, "ll" + "r" * 7 + "l")
    return "\n\n".join(["## Engines", table, " ".join(notes), *(["\n".join(remarks)] if remarks else [])])


def _engine_row(engine: Engine, ship: bool) -> list[str]:
    accuracy, latency = engine.accuracy, engine.latency_at("engine")
    mark = " †" if engine_words.measured_elsewhere(engine) else ""
    return [
        (f"**{markup.code(engine.id)}**" if ship else markup.code(engine.id)) + engine_words.tag(engine),
        engine_words.STATES[engine.state],
        numbers.mb(engine.engine_mb),
        f"{numbers.percent(accuracy.top1)}{mark}" if accuracy else numbers.DASH,
        numbers.signed_drop(engine.drop),
        numbers.percent(accuracy.mean_per_class) if accuracy else numbers.DASH,
        numbers.ms(latency.median if latency else None),
        numbers.ms(latency.p99 if latency else None),
        numbers.rate(latency.throughput if latency else None),
        goal_words.budget_summary(engine),
    ]


def _budgets(result: Result) -> str:
    rows = [
        [
            markup.code(engine.id),
            markup.text(goal_words.goal(j)),
            goal_words.value(j),
            f"{_JUDGED_MARKS[j.verdict]} {_verdict(j.verdict)}",
            goal_words.gap(j) or numbers.DASH,
        ]
        for engine in result.engines
        for j in engine.budgets
    ]
    if not rows:
        return ""
    return "## Budgets\n\n" + markup.table(["engine", "budget", "value", "verdict", "margin"], rows, "llrlr")


def _verdict(verdict: str) -> str:
    return {"pass": "met", "miss": "missed", "not_judged": "not measured"}[verdict]


def _precisions(result: Result) -> str:
    if not result.precisions:
        return ""
    head = ["file", "read by", "MB", "top-1 %", "INT8 % of the work", "calibration"]
    rows = [
        [
            markup.code(file.onnx),
            ", ".join(markup.text(engine_words.BACKENDS.get(name, name)) for name in file.engines)
            or numbers.DASH,
            numbers.mb(file.mb),
            numbers.percent(file.top1),
            numbers.fixed(file.int8_macs_percent, 1),
            markup.text(precision_words.calibration(file.calibration)) or numbers.DASH,
        ]
        for file in result.precisions
    ]
    parts = ["## Precision", markup.table(head, rows, "llrrrl")]
    if any(file.precision == "int8" for file in result.precisions):
        parts.append(markup.text(precision_words.INT8_LAYOUTS))
    if cpus := [(file, text) for file in result.precisions if (text := precision_words.cpu(file))]:
        parts.append("\n".join(f"- {markup.code(file.onnx)}: {markup.text(text)}" for file, text in cpus))
    said = [(file, precision_words.mixed(file)) for file in result.precisions]
    if any(text for _, text in said):
        parts.append(precision_words.TWO_DROPS)
        parts.append(
            "\n".join(
                f"- {markup.code(file.onnx)}: {markup.text(text)} {precision_words.on_test(result, file)}".rstrip()
                for file, text in said
                if text
            )
        )
    kept = [
        [
            markup.code(file.onnx),
            markup.code(precision_words.kept_out(row)),
            precision_words.CAUSES[row.cause],
            numbers.fixed(row.macs_percent, 1),
            markup.text(precision_words.why_kept_out(row)),
        ]
        for file in result.precisions
        for row in file.kept_out
    ]
    if kept:
        parts.append("Kept out, and why:")
        parts.append(markup.table(["file", "what", "cause", "% of the work", "why"], kept, "lllrl"))
    return "\n\n".join(parts)


def _layers(result: Result) -> str:
    rows = [
        [markup.code(name), *cells[:3], markup.text(cells[3]), *cells[4:]]
        for name, *cells in layers.rows(result)
    ]
    if not rows:
        return ""
    table = markup.table(layers.HEAD, rows, "lrrrlr")
    return f"## What the builder made\n\n{layers.MEANING}\n\n{table}"


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
            markup.code(network.model),
            numbers.count(network.parameters),
            numbers.percent(test.top1),
            numbers.percent(test.top5),
            numbers.percent(test.mean_per_class),
            _worst(test),
            numbers.percent(network.val_top1),
            numbers.count(test.n),
        ]

    table = markup.table(head, [row("teacher", result.teacher), row("student", result.student)], "llrrrrlrr")
    method, parts = words.method(result.student), words.loss_parts(result.student)
    text = " ".join(filter(None, (f"Student trained with {method}.", parts)))
    return f"## Teacher and student\n\n{table}\n\n{markup.text(text)}"


def _worst(accuracy: Accuracy) -> str:
    if not accuracy.worst_classes:
        return numbers.DASH
    worst = accuracy.worst_classes[0]
    return f"{numbers.fixed(worst['accuracy'], 1)} ({markup.text(str(worst['name']))}, n = {numbers.count(worst['n'])})"


def _classes(result: Result) -> str:
    confused = result.student.test.confused
    if not confused:
        return ""
    rows = [
        [markup.text(str(c["true"])), markup.text(str(c["predicted"])), numbers.count(c["count"])]
        for c in confused
    ]
    table = markup.table(["true", "predicted", "images"], rows, "llr")
    n = numbers.count(result.student.test.n)
    parts = [f"## Most frequent mistakes of the student\n\nOn {n} test images.\n\n{table}"]
    if result.mistakes:
        sure = [
            [str(m.index), markup.text(m.true), markup.text(m.predicted), numbers.fixed(m.confidence, 1)]
            for m in result.mistakes
        ]
        parts.append(f"The most confident mistakes of {markup.code(result.looked_at)}:")
        parts.append(markup.table(["test image", "true", "answered", "confidence %"], sure, "rllr"))
    return "\n\n".join(parts)


def _outputs(result: Result) -> str:
    """The class of every output; folded, since there may be thousands."""
    if not result.outputs:
        return ""
    table = markup.table(
        ["output", "class"], [[str(i), markup.text(n)] for i, n in enumerate(result.outputs)], "rl"
    )
    return (
        "## Classes by output\n\nOutput `i` of the student and of every engine is the score of this class.\n\n"
        f"<details><summary>{numbers.count(len(result.outputs))} classes</summary>\n\n{table}\n\n</details>"
    )


def _parity(result: Result) -> str:
    rows = [
        [
            markup.text(r.what),
            str(r.batch),
            numbers.count(r.n),
            numbers.magnitude(r.max_abs),
            numbers.magnitude(r.allowed),
            numbers.fixed(r.cosine, 6),
            numbers.percent(r.agreement),
            "✅ ok" if r.ok else "❌ failed",
        ]
        for r in parity.summarise(result.parity)
    ]
    if not rows:
        return ""
    head = ["input", "batch", "n", "max abs error", "allowed", "min cosine", "same top-1 %", ""]
    return "## ONNX against torch\n\n" + markup.table(head, rows, "lrrrrrrl")


def _devices(result: Result) -> str:
    sections = []
    for target, facts in device_facts(result):
        rows = [[markup.text(label), markup.text(text)] for label, text in facts]
        sections.append(f"### {markup.text(target)}\n\n" + markup.table(["fact", "value"], rows, "ll"))
    return "\n\n".join(["## Devices", *sections]) if sections else ""


def _provenance(result: Result) -> str:
    steps = [
        [
            markup.code(str(s.get("step", ""))),
            markup.code(str(s.get("key", ""))[:16]),
            markup.code(str(s.get("digest", ""))[:12]),
            numbers.seconds(s.get("seconds")),
            numbers.size(s.get("bytes")),
        ]
        for s in result.steps
    ]
    packages = ", ".join(f"{markup.text(k)} {markup.text(v)}" for k, v in sorted(result.packages.items()))
    facts = [
        f"- git: {markup.code(result.git) if result.git else 'not a working copy'}",
        f"- seed: {result.config.get('seed', numbers.DASH)}",
        f"- packages: {packages}",
    ]
    return "\n\n".join(
        [
            "## Provenance",
            "\n".join(facts),
            markup.table(["step", "key", "digest", "time", "size"], steps, "lllrr") if steps else "",
        ]
    ).rstrip()


def _classes_of(result: Result) -> int:
    names = result.data.get("class_names")
    classes = result.data.get("classes", len(names) if isinstance(names, list) else 0)
    return len(classes) if isinstance(classes, list) else int(classes)
