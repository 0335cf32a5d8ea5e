"""The study's table and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REFERENCE = "kd"
DEFAULT, ALONE = "figkd, default recipe", "figkd, detail alone"
OURS = ("figkd", DEFAULT, ALONE)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown, best first."""
    lines = [
        "| method | n | test top-1, mean ± std | minus KD ± SE | FiGKD minus it ± SE |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in sorted(rows, key=lambda r: -r["mean"]):
        gap = (
            "–"
            if row["method"] == REFERENCE
            else f"{row['minus_kd']:+.2f} ± {row['minus_kd_standard_error']:.2f}"
        )
        lead = (
            "–"
            if row["method"] == "figkd"
            else f"{row['figkd_minus']:+.2f} ± {row['figkd_minus_standard_error']:.2f}"
        )
        name = f"**{row['method']}**" if row["method"] == "figkd" else row["method"]
        lines.append(f"| {name} | {row['n']} | {row['mean']:.2f} ± {row['std']:.2f} | {gap} | {lead} |")
    return "\n".join(lines)


def figure(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Test top-1 of every seed and the mean with its standard error, best first."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ranked = sorted(rows, key=lambda r: r["mean"])
    drawing, axes = pyplot.subplots(figsize=(7.5, 0.34 * len(ranked) + 1.1), layout="constrained")
    for place, row in enumerate(ranked):
        control = row["control"]
        colour = "#c2410c" if row["method"] in OURS else "#9ca3af" if control else "#1d4ed8"
        axes.plot(row["test_top1"], [place] * row["n"], "o", ms=3, alpha=0.35, color=colour)
        error = row["std"] / row["n"] ** 0.5
        axes.errorbar(row["mean"], place, xerr=error, fmt="D", ms=5, color=colour, capsize=3)
    axes.set_yticks(range(len(ranked)), [row["method"] for row in ranked])
    # Of the whole figure: long names of methods leave the axes little room.
    drawing.supxlabel("test top-1, percent (dots: seeds; diamond: mean ± standard error)", fontsize=10)
    drawing.suptitle(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=110)
