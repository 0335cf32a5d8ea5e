"""What the students of `default_recipe.py` say, as one JSON for the table of the documentation.

python benchmarks/study/recipe_report.py runs/default_recipe
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OURS = "figkd"
TRIAL_SEED = 1001
"""Of the students by which candidates were chosen; they are not part of the comparison."""


@dataclass(frozen=True)
class Line:
    """A finished student: top-1 of the last epoch in percent."""

    task: str
    recipe: str
    lr: float
    seed: int
    val: float
    test: float


def read_lines(path: Path) -> list[Line]:
    """The lines of a study, without what is not compared."""
    records = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return [Line(**{place.name: record[place.name] for place in fields(Line)}) for record in records]


def paired(ours: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float | None, int]:
    """Mean difference over the seeds that both have, its standard error if there are two, and their number."""
    gaps = [ours[seed] - other[seed] for seed in sorted(set(ours) & set(other))]
    if not gaps:
        raise SystemExit("two recipes have no seed in common")
    error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else None
    return statistics.mean(gaps), error, len(gaps)


def rows_of(lines: Sequence[Line], task: str, lr: float) -> list[dict[str, Any]]:
    """A row a recipe, best mean first: test top-1 by seed, and how far the default is ahead of it."""
    scores: dict[str, dict[int, float]] = {}
    for line in lines:
        if line.task == task and line.lr == lr and line.seed != TRIAL_SEED:
            scores.setdefault(line.recipe, {})[line.seed] = line.test
    rows = []
    for recipe, found in scores.items():
        values = [found[seed] for seed in sorted(found)]
        row: dict[str, Any] = {
            "recipe": recipe,
            "n": len(values),
            "seeds": sorted(found),
            "test_top1": values,
        }
        row["mean"] = statistics.mean(values)
        if recipe != OURS:
            gap, error, count = paired(scores[OURS], found)
            row |= {"figkd_minus_it": gap, "standard_error": error, "pairs": count}
        rows.append(row)
    return sorted(rows, key=lambda row: -row["mean"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    parser.add_argument("--lr", type=float, default=0.6)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "default_recipe.json")
    arguments = parser.parse_args()
    lines = read_lines(arguments.runs / "students.jsonl")
    tasks = list(dict.fromkeys(line.task for line in lines))
    result = {
        "what": "test top-1 (percent) of the last epoch; untuned recipes at one learning rate",
        "command": "python benchmarks/study/default_recipe.py --seeds 1 2 3 4 5",
        "lr": arguments.lr,
        "tasks": {
            task: {
                "teacher": json.loads((arguments.runs / task / "teacher.json").read_text(encoding="utf-8")),
                "rows": rows_of(lines, task, arguments.lr),
            }
            for task in tasks
        },
        "students": [asdict(line) for line in lines],
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
