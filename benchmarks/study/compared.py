"""Tables over several studies: methods by task, the default paired by seed with each, and what one change does."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from show import ALONE, DEFAULT

OURS = "figkd"
TITLES = {
    OURS: "**FiGKD**", "dist": "DIST", "dkd_ls": "DKD, standardised", "dkd": "DKD", "kd": "KD",
    "kd_ls": "KD, standardised", "centred_logit_mse": "centred logit MSE", "ce": "CE, no teacher",
}  # fmt: skip
BASELINES = tuple(name for name in TITLES if name != OURS)
PARTS = {ALONE: "without the correlation"}
Rows = Mapping[str, Mapping[str, Any]]


def rows_of(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The rows of a study by method; `figkd` is the default recipe, also where tuning chose another setting."""
    rows = {row["method"]: row for row in result["rows"]}
    if ALONE not in rows and _batch_weight(rows[OURS]) == 0.0:  # what tuning chose is the detail alone
        rows[ALONE] = rows[OURS]
    return rows | {OURS: rows.get(DEFAULT, rows[OURS])}


def _batch_weight(row: Mapping[str, Any]) -> float:
    return float(row["settings"].get("distill.figkd.batch_weight", -1))


def gap(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, int]:
    """Mean difference of two lists by seed, its standard error, and how many seeds both have."""
    gaps = [a - b for a, b in zip(first, second, strict=False)]
    return statistics.mean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5, len(gaps)


def _signed(mean: float, error: float, count: int | None = None) -> str:
    number = "" if count is None else f" (n = {count})"
    return f"{mean:+.1f} ± {error:.1f}{number}"


def _against(rows: Rows, method: str) -> str:
    mean, error, _ = gap(rows[OURS]["test_top1"], rows[method]["test_top1"])
    return _signed(mean, error)


def _best(rows: Rows) -> str:
    return max((name for name in BASELINES if name in rows), key=lambda name: float(rows[name]["mean"]))


def summary(*kinds: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and a line a task: the default, the best baseline, and the difference, for each kind of comparison.

    Args:
        kinds: study results by title: as they come, tuned.
    """
    lines = []
    for title in dict.fromkeys(title for tasks in kinds for title in tasks):
        line = [title]
        for tasks in kinds:
            if title not in tasks:
                line += ["not run"] * 3
                continue
            rows = rows_of(tasks[title])
            best = _best(rows)
            line += [
                f"**{rows[OURS]['mean']:.1f}**",
                f"{TITLES[best]} {rows[best]['mean']:.1f}",
                _signed(*gap(rows[OURS]["test_top1"], rows[best]["test_top1"])),
            ]
        lines.append(line)
    columns = ["FiGKD", "best other", "difference"]
    return ["task", *columns, *(f"{name}, tuned" for name in columns)], lines


def methods(tasks: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: mean top-1 by method and task, in brackets the default minus it; a line for the best baseline.

    Args:
        tasks: study results by title.
    """
    by_task = {title: rows_of(result) for title, result in tasks.items()}

    def cell(rows: Rows, method: str) -> str:
        if method not in rows:
            return "not run"
        mean = f"{rows[method]['mean']:.1f}"
        return f"**{mean}**" if method == OURS else f"{mean} ({_against(rows, method)})"

    run = [name for name in TITLES if any(name in rows for rows in by_task.values())]
    lines = [[TITLES[name], *(cell(rows, name) for rows in by_task.values())] for name in run]
    lines.append(["FiGKD minus the best", *(_against(rows, _best(rows)) for rows in by_task.values())])
    lines.append(["teacher", *(f"{result['teacher']['test_top1']:.1f}" for result in tasks.values())])
    head = ["method", *(f"{title}, n = {rows[OURS]['n']}" for title, rows in by_task.items())]
    return head, lines


def changes(
    tasks: Mapping[str, Mapping[str, Any]], base: str, batch_weight: float
) -> tuple[list[str], list[list[str]]]:
    """Head and lines: what one change of a row of figkd does, its students minus the unchanged of the same seeds.

    Args:
        tasks: study results by title.
        base: `figkd` for the default recipe, `figkd, detail alone` for its detail.
        batch_weight: of the controls that change it.
    """
    found: dict[str, dict[str, str]] = {}
    for title, result in tasks.items():
        rows = rows_of(result)
        for name, row in rows.items():
            if not (row["control"] and _batch_weight(row) == batch_weight):
                continue
            text = _signed(*gap(row["test_top1"], rows[base]["test_top1"]))
            found.setdefault(name.split(", ", 1)[1], {})[title] = text
        if base == OURS:
            text = _signed(*gap(rows[ALONE]["test_top1"], rows[OURS]["test_top1"]))
            found.setdefault(PARTS[ALONE], {})[title] = text
    lines = [[name, *(cells.get(title, "not run") for title in tasks)] for name, cells in found.items()]
    return ["changed", *tasks], lines


def choice(tasks: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: candidates minus the best baseline of each task on validation images, and the worst of it.

    Args:
        tasks: results of `trials.py default` by title.
    """
    lines: dict[str, list[tuple[float, float, int]]] = {}
    for result in tasks.values():
        baselines = [row["top1"] for row in result["rows"] if row["method"] != OURS and not row["few"]]
        best = max(baselines, key=statistics.mean)
        for row in result["rows"]:
            if row["method"] == OURS:
                lines.setdefault(row["name"], []).append(gap(row["top1"], best))
    head = ["candidate", *tasks, "worst"]
    return head, [
        [name, *(_signed(*cell) for cell in cells), f"{min(cells)[0]:+.1f}"] for name, cells in lines.items()
    ]


def trials(tasks: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: trials minus the first one of the same task, paired by seed, and the first one itself.

    Args:
        tasks: results of `trials.py` by title.
    """
    lines: dict[str, list[str]] = {}
    for result in tasks.values():
        for place, row in enumerate(result["rows"]):
            text = _signed(row["minus_plain"], row["standard_error"]) if place else f"{row['mean']:.1f}"
            lines.setdefault(row["name"], []).append(text)
    (count,) = {row["n"] for result in tasks.values() for row in result["rows"]}
    return [f"n = {count}", *tasks], [[name, *cells] for name, cells in lines.items()]
