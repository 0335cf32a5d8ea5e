"""The closing table of `figkd-pipeline run`: one row an engine, then what to ship and why."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.report import words
from pipeline.result import Engine, Judged, Result

# Shorter than elsewhere, to leave room for the budgets; the notes below the table say it in full.
_STATES = {"ran": "ran", "built": "built", "missing": "missing", "failed": "failed"}
_STATE_STYLE = {"ran": "", "built": "dim", "missing": "yellow", "failed": "bold red"}
_VERDICT_STYLE = {"pass": "bold green", "budget_missed": "bold yellow", "failed": "bold red"}
_SHIP_STYLE = {"ship": "bold green", "budget_missed": "bold yellow", "not_run": "dim", "failed": "bold red"}
_SHIP_MARK = {"ship": "✓", "budget_missed": "✗", "not_run": "○", "failed": "✗"}


def render_table(result: Result) -> RenderableType:
    """The table of engines, the reasons of those that did not run, and the verdict; fits in 100 columns."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("engine", no_wrap=True, max_width=24, overflow="ellipsis")
    table.add_column("state", no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("top-1 % (Δ)", justify="right", no_wrap=True)
    table.add_column("p50 / p99 ms", justify="right", no_wrap=True)
    table.add_column("img/s", justify="right", no_wrap=True)
    table.add_column("budgets", min_width=20)
    shipped = {s.engine for s in result.shipping if s.engine}
    for engine in result.engines:
        table.add_row(*_row(engine, engine.id in shipped))
    return Group(table, *_notes(result), Text(), *_verdict(result))


def _row(engine: Engine, ship: bool) -> list[Text]:
    accuracy, latency = engine.accuracy, engine.latency_at("engine")
    top1 = words.DASH
    if accuracy is not None:
        mark = "†" if words.measured_elsewhere(engine) else ""
        top1 = f"{words.percent(accuracy.top1)}{mark} ({words.signed_drop(engine.drop)})"
    times = f"{words.ms(latency.median)} / {words.ms(latency.p99)}" if latency else words.DASH
    return [
        Text(f"{engine.id}{words.tag(engine)}", style="bold" if ship else ""),
        Text(_STATES[engine.state], style=_STATE_STYLE[engine.state]),
        Text(words.mb(engine.engine_mb)),
        Text(top1),
        Text(times),
        Text(words.rate(latency.throughput) if latency else words.DASH),
        _budgets(engine.budgets),
    ]


def _budgets(judged: list[Judged]) -> Text:
    if not judged:
        return Text(words.DASH)
    lines = [Text(f"✗ {words.missed(j)}", style="yellow") for j in judged if j.verdict == "miss"]
    met, unknown = (sum(j.verdict == verdict for j in judged) for verdict in ("pass", "not_judged"))
    rest = Text("  ").join(
        [Text(f"✓ {met} met", style="green")] * (met > 0)
        + [Text(f"○ {unknown} open", style="dim")] * (unknown > 0)
    )
    return Text("\n").join([*lines, rest] if rest else lines)


def _notes(result: Result) -> list[RenderableType]:
    timed = [row for _, row in words.timed(result.engines)]
    tested = [e.accuracy.n for e in result.engines if e.accuracy]
    notes: list[str] = []
    if tested:
        notes.append(f"top-1 of {words.count(max(tested))} test images; Δ against the torch student, pp")
    if timed:
        batches = ", ".join(str(b) for b in sorted({row.batch for row in timed}))
        notes.append(
            f"latency at boundary `engine`, batch {batches}, {words.n_range(timed)} samples an engine"
        )
        if certain := words.certainty(timed):
            notes.append(f"medians are known to {certain} (95 %, distribution-free)")
        notes += words.chosen_threads(result.engines)
    for engine, row in words.paced(result.engines):
        notes.append(f"{engine.id}, {words.BOUNDARIES[row.boundary]}: {words.rate_verdict(row)}")
    for engine in result.engines:
        if told := words.energy(engine):
            notes.append(f"energy of {engine.id}: {told}")
    if words.any_open(result.engines):
        notes.append("○ open: the metric of this budget was not measured")
    devices = {e.target: e.device for e in result.engines if e.device}
    notes += [f"{target} ran on {device}" for target, device in devices.items()]
    if any(words.measured_elsewhere(e) for e in result.engines):
        notes.append("† of the ONNX file in ONNX Runtime: the engine did not run here")
    for file in words.noteworthy(result.precisions):
        notes.append(
            f"{file.onnx}: " + " ".join(filter(None, (words.mixed(file), words.in_range_kept(file))))
        )
    if left_out := len(words.skipped(result)):
        notes.append(
            f"{words.count(left_out)} images could not be decoded and were left out; the report lists them"
        )
    lines: list[RenderableType] = [Text(f"  {note}", style="dim") for note in notes]
    lines += [_indented(Text(words.fine_tuning(tuning), style="dim")) for tuning in result.qad]
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for engine in result.engines:
        if engine.detail or engine.fix:
            key = (words.STATES[engine.state], words.reason(engine), engine.fix)
            reasons.setdefault(key, []).append(engine.id)
    for (state, why, fix), members in reasons.items():
        who = members[0] if len(members) == 1 else f"{members[0]} and {len(members) - 1} more"
        lines.append(_indented(Text.assemble((who, "bold"), f" {state}: {why}" if why else f" {state}")))
        if fix:
            lines.append(_indented(Text.assemble(("fix: ", "bold"), fix), 4))
    return [Text(), *lines] if lines else []


def _verdict(result: Result) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for shipping in result.shipping:
        mark, style = _SHIP_MARK[shipping.state], _SHIP_STYLE[shipping.state]
        what = f"ship {shipping.engine}" if shipping.engine else words.SHIPPING[shipping.state].lower()
        head = Text.assemble((f"{mark} ", style), (shipping.target, "bold"), ": ", (what, style))
        lines.append(_indented(head))
        if shipping.why:
            lines.append(_indented(Text(shipping.why, style="dim"), 4))
    for step, failure in result.failures.items():
        lines.append(
            _indented(Text.assemble(("✗ ", "bold red"), (step, "bold"), f": {failure.get('what', '')}"))
        )
        if failure.get("fix"):
            lines.append(_indented(Text.assemble(("fix: ", "bold"), str(failure["fix"])), 4))
    verdict = Text(words.VERDICTS[result.verdict].upper(), style=_VERDICT_STYLE[result.verdict])
    return [*lines, Text(), Text.assemble(verdict, f"  {result.summary}" if result.summary else "")]


def _indented(text: Text, left: int = 2) -> RenderableType:
    return Padding(text, (0, 0, 0, left))
