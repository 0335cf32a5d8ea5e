"""The matrix's JSON as the tables of docs/students.md: pure, so that a test can tell whether both agree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- matrix: begin, written by `make matrix` -->", "<!-- matrix: end -->"
_TARGET = "SM86"  # whose size and time stand for all in the table

Row = dict[str, Any]


def write_table(result: dict[str, Any], doc: Path) -> None:
    """Put the tables of `result` between the two marks of the page `doc`."""
    doc.write_text(with_table(doc.read_text(encoding="utf-8"), result), encoding="utf-8")


def with_table(page: str, result: dict[str, Any]) -> str:
    """The text of a page with the tables of `result` between its marks.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{render(result)}\n\n{END}{after}"


def render(result: dict[str, Any]) -> str:
    """All tables as Markdown."""
    rows = result["rows"]
    students = list(dict.fromkeys(row["student"] for row in rows))
    cells = {(row["student"], row["precision"], row["engine"]): row for row in rows}
    packages = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    counts = {
        state: sum(row["state"] == state for row in rows) for state in ("ok", "built", "refused", "failed")
    }
    parts = [
        f"{result['date']}, {result['machine']['cpu']}, {packages}. {len(students)} students, {len(rows)} rows: "
        + ", ".join(f"{count} {state}" for state, count in counts.items())
        + f". {result['images']['checked']} images checked, {result['images']['calibration']} for calibration.",
        "### From torch to ONNX Runtime",
        _table(
            ("student", "px", "M par.", "nodes", "MB", "FP32 Δ", "FP16 cos, dB", "INT8 cos, dB", "behind FP16",
             "INT8 MACs", "INT8 for CPUs"),
            (_onnx_line(name, cells) for name in students),
        ),
        "### TensorRT-RTX engines",
        _table(
            ("student", "FP32 MB, s", "made", "FP16 MB, s", "made", "INT8 MB, s", "made"),
            (_engine_line(name, rows) for name in students),
        ),
        "### Operators",
        _operators(rows),
        "### What was refused or failed",
        _messages(rows),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _table(head: Sequence[str], lines: Iterator[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def _onnx_line(name: str, cells: dict[tuple[str, str, str], Row]) -> Sequence[str]:
    full, half, inside, cpu = (
        cells.get((name, precision, "onnxruntime"), {"state": "–"})
        for precision in ("fp32", "fp16", "int8", "int8_cpu")
    )
    if "error" not in full:
        return (f"`{name}`", *["–"] * 4, full["state"], *["–"] * 5)
    gap = behind_half(half, inside)
    share = f"{inside['int8_macs_percent']:.0f} %" if "int8_macs_percent" in inside else "–"
    return (
        f"`{name}`",
        str(full["image_size"]),
        f"{full['parameters'] / 1e6:.2f}",
        str(full["nodes"]),
        f"{full['onnx_bytes'] / 1e6:.1f}",
        f"{full['error']['relative']:.0e}" if full["state"] == "ok" else full["state"],
        _closeness(half),
        _closeness(inside),
        f"{gap:.0f} dB" if gap is not None else "–",
        share,
        _closeness(cpu),
    )


def behind_half(half: Row, inside: Row) -> float | None:
    """By how many dB INT8's signal-to-noise ratio is below FP16's; None where either is unknown."""
    ratios = [row.get("error", {}).get("sqnr_db") for row in (half, inside)]
    return None if None in ratios else ratios[0] - ratios[1]


def _closeness(row: Row) -> str:
    if row["state"] != "ok":
        return str(row["state"])
    noise = row["error"]["sqnr_db"]
    return f"{row['error']['cosine']:.4f}, " + (f"{noise:.0f}" if noise is not None else "∞")


def _engine_line(name: str, rows: Sequence[Row]) -> Sequence[str]:
    line = [f"`{name}`"]
    for precision in ("fp32", "fp16", "int8"):
        found = [
            row
            for row in rows
            if (row["student"], row["precision"]) == (name, precision) and row["engine"] != "onnxruntime"
        ]
        shown = next(
            (row for row in found if row["engine"].endswith(_TARGET) and row["state"] == "built"), None
        )
        line.append(f"{shown['engine_bytes'] / 1e6:.1f}, {shown['build_seconds']:.1f}" if shown else "–")
        line.append(f"{sum(row['state'] == 'built' for row in found)}/{len(found)}")
    return line


def _operators(rows: Sequence[Row]) -> str:
    users: dict[str, set[str]] = {}
    problems: set[str] = set()
    opsets: set[int] = set()
    for row in rows:
        if "operators" in row and row["precision"] != "int8_cpu":
            opsets.add(row["opset"])
            problems.update(row["tensorrt_10_3"])
            for operator in row["operators"]:
                users.setdefault(operator, set()).add(row["student"])
    ordered = sorted(users.items(), key=lambda item: (-len(item[1]), item[0]))
    said = "; ".join(sorted(problems)) or "TensorRT 10.3 documents all of them, each as it is used."
    return (
        f"Opset {', '.join(map(str, sorted(opsets)))}. Operators of the files made for TensorRT, with the number of "
        f"students: {', '.join(f'{name} ({len(who)})' for name, who in ordered)}. {said}"
    )


def _messages(rows: Sequence[Row]) -> str:
    told: dict[tuple[str, str, str, str], list[str]] = {}
    for row in rows:
        if row["state"] in ("refused", "failed"):
            key = (row["state"], row["precision"], row["engine"], _without_names(row["detail"]))
            told.setdefault(key, []).append(row["student"].partition("/")[2])
    if not told:
        return "Nothing."
    total = len({row["student"] for row in rows})
    return "\n".join(
        f"- {state}: {precision}, {engine}, {'all students' if len(who) == total else ', '.join(who)}: {detail}"
        for (state, precision, engine, detail), who in sorted(told.items())
    )


def _without_names(detail: str) -> str:
    """A message without the names of nodes, by which networks differ, and not too long."""
    return re.sub(r"\d{4}_\w+", "…", " ".join(detail.split()))[:400]
