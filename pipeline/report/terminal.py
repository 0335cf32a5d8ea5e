"""The closing table of `figkd-pipeline run`: one row an engine, then what to ship and why."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from pipeline.core.layout import Cell, Column, Grid, Prose
from pipeline.report import (
    choice_words,
    clocks,
    engine_words,
    goal_words,
    latency_words,
    layers,
    numbers,
    plain,
    precision_words,
    words,
)
from pipeline.report.worry import Tone
from pipeline.results.choice import Judged
from pipeline.results.engine import Engine
from pipeline.results.result import Result

# Shorter than elsewhere, to leave room for the budgets; the notes below the table say it in full.
_STATES = {"ran": "ran", "built": "built", "missing": "missing", "failed": "failed"}
_STATE_STYLE = {"ran": "", "built": "dim", "missing": "yellow", "failed": "bold red"}
TONE_STYLE: dict[Tone, str] = {
    "pass": "bold green", "miss": "bold yellow", "fail": "bold red", "off": "dim",
}  # fmt: skip
TONE_MARK: dict[Tone, str] = {"pass": "✓", "miss": "!", "fail": "✗", "off": "○"}
_BLANK = Prose(Text())


_COLUMNS = (
    Column("engine"),
    Column("state"),
    Column("MB", right=True, said="{} MB"),
    Column("top-1 % (Δ)", right=True, said="top-1 (Δ) {} %"),
    Column("p50 / p99 ms", right=True, said="p50 / p99 {} ms"),
    Column("img/s", right=True, said="{} img/s"),
    Column("budgets", below=True),
)


def render_table(result: Result) -> RenderableType:
    """The table of engines, the reasons of those that did not run, and the verdict; from 60 columns up."""
    shipped = {s.engine for s in result.shipping if s.engine}
    table = Grid(_COLUMNS, [_row(engine, engine.id in shipped) for engine in result.engines])
    return Group(table, *_notes(result), _BLANK, *_verdict(result))


def _row(engine: Engine, ship: bool) -> list[Cell]:
    accuracy, latency = engine.accuracy, engine.latency_at("engine")
    top1 = numbers.DASH
    if accuracy is not None:
        mark = "†" if engine_words.measured_elsewhere(engine) else ""
        top1 = f"{numbers.percent(accuracy.top1)}{mark} ({numbers.signed_drop(engine.drop)})"
    times = f"{numbers.ms(latency.median)} / {numbers.ms(latency.p99)}" if latency else numbers.DASH
    return [
        Text(f"{engine.id}{engine_words.tag(engine)}", style="bold" if ship else ""),
        Text(_STATES[engine.state], style=_STATE_STYLE[engine.state]),
        numbers.mb(engine.engine_mb),
        top1,
        times,
        numbers.rate(latency.throughput) if latency else numbers.DASH,
        _budgets(engine.budgets),
    ]


def _budgets(judged: list[Judged]) -> list[Text]:
    if not judged:
        return [Text(numbers.DASH)]
    lines = [Text(f"✗ {goal_words.missed(j)}", style="yellow") for j in judged if j.verdict == "miss"]
    met, unknown = (sum(j.verdict == verdict for j in judged) for verdict in ("pass", "not_judged"))
    rest = Text("  ").join(
        [Text(f"✓ {met} met", style="green")] * (met > 0)
        + [Text(f"○ {unknown} open", style="dim")] * (unknown > 0)
    )
    return [*lines, rest] if rest else lines


def _notes(result: Result) -> list[Prose]:
    timed = [row for _, row in latency_words.timed(result.engines)]
    tested = [e.accuracy.n for e in result.engines if e.accuracy]
    notes: list[str] = []
    if tested:
        notes.append(
            f"top-1 of {numbers.count(max(tested))} test images; Δ, points, against the torch student"
        )
    if timed:
        batches = ", ".join(str(b) for b in sorted({row.batch for row in timed}))
        notes.append(
            f"latency at boundary `engine`, batch {batches}, {latency_words.n_range(timed)} samples an engine"
        )
        if certain := latency_words.certainty(latency_words.sure(result)):
            notes.append(f"medians are known to {certain} (95 %, distribution-free)")
        notes += latency_words.doubts(result)
        notes += [f"clocks of {said}" for said in clocks.lines(result)]
        notes += engine_words.chosen_threads(result.engines)
    notes += latency_words.other_modes(result.engines)
    for engine, row in latency_words.paced(result.engines):
        notes.append(
            f"{engine.id}, {latency_words.BOUNDARIES[row.boundary]}: {latency_words.rate_verdict(row)}"
        )
    for engine in result.engines:
        if energy := engine_words.energy(engine):
            notes.append(f"energy of {engine.id}: {energy}")
    if goal_words.any_open(result.engines):
        notes.append("○ open: the metric of this budget was not measured")
    devices = {e.target: e.device for e in result.engines if e.device}
    notes += [f"{target} ran on {device}" for target, device in devices.items()]
    if any(engine_words.measured_elsewhere(e) for e in result.engines):
        notes.append("† of the ONNX file in ONNX Runtime: the engine did not run here")
    for file in precision_words.noteworthy(result.precisions):
        said = (precision_words.mixed(file), precision_words.in_range_kept(file))
        notes.append(f"{file.onnx}: " + " ".join(filter(None, said)))
    if left_out := len(words.skipped(result)):
        notes.append(
            f"{numbers.count(left_out)} images could not be decoded and were left out; report.html and result.json "
            "list them"
        )
    lines = [Prose(Text(note, style="dim"), hang=2, indent=2) for note in notes]
    lines += [_indented(Text.assemble((name, "bold"), f" {said}")) for name, said in layers.outlooks(result)]
    lines += [_indented(Text(precision_words.fine_tuning(tuning), style="dim")) for tuning in result.qad]
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for engine in result.engines:
        for why, fix in engine_words.remarks(engine):
            reasons.setdefault((engine_words.STATES[engine.state], why, fix), []).append(engine.id)
    for (state, why, fix), members in reasons.items():
        who = members[0] if len(members) == 1 else f"{members[0]} and {len(members) - 1} more"
        lines.append(_indented(Text.assemble((who, "bold"), f" {state}: {why}" if why else f" {state}")))
        if fix:
            lines.append(_indented(Text.assemble(("fix: ", "bold"), fix), 4))
    return [_BLANK, *lines] if lines else []


def _verdict(result: Result) -> list[Prose]:
    lines: list[Prose] = []
    for shipping in result.shipping:
        choice = plain.choice(result, shipping)
        mark, style = TONE_MARK[choice.tone], TONE_STYLE[choice.tone]
        what = choice.text.lower() + (f" {choice.engine}" if choice.engine else "")
        head = Text.assemble((f"{mark} ", style), (shipping.target, "bold"), ": ", (what, style))
        lines.append(_indented(head))
        if why := choice_words.why(result, shipping):
            lines.append(_indented(Text(why, style="dim"), 4))
    for step, failure in result.failures.items():
        lines.append(
            _indented(Text.assemble(("✗ ", "bold red"), (step, "bold"), f": {failure.get('what', '')}"))
        )
        if failure.get("fix"):
            lines.append(_indented(Text.assemble(("fix: ", "bold"), str(failure["fix"])), 4))
    lines.append(_BLANK)
    lines += [_indented(Text(plain.level(level))) for level in plain.levels(result)]
    lines += [
        _indented(Text.assemble((f"{TONE_MARK[worry.tone]} ", TONE_STYLE[worry.tone]), worry.text))
        for worry in plain.worries(result)
    ]
    verdict = Text(words.VERDICTS[result.verdict].upper(), style=TONE_STYLE[plain.TONES[result.verdict]])
    return [*lines, _BLANK, Prose(Text.assemble(verdict, f"  {plain.headline(result)}"), hang=2)]


def _indented(text: Text, left: int = 2) -> Prose:
    return Prose(text, hang=2, indent=left)
