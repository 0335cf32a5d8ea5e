"""Latency now against an earlier result: rows matched by engine, batch size and boundary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import ConfigError
from pipeline.result import Result

Row = dict[str, Any]


def rows_of(result: Result) -> list[Row]:
    """The latency rows of a result, each with its engine's id."""
    return [
        {"id": engine.id, **row.model_dump(mode="json", exclude={"histogram"})}
        for engine in result.engines
        for row in engine.latency
    ]


def read_rows(path: Path) -> list[Row]:
    """Latency rows of an earlier result.json.

    Raises:
        ConfigError: the file is missing, or is not a result of this schema.
    """
    try:
        return rows_of(Result.model_validate_json(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError):
        raise ConfigError(
            "no such file", where=f"--baseline {path}", fix="give a result.json of a run"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"not a result.json of this version ({place}: {first['msg']})",
            where=f"--baseline {path}",
            fix="write it again with `figkd-pipeline report`",
        ) from None


def against(rows: Sequence[Row], before: Sequence[Row]) -> list[Row]:
    """Change of the median of every row that the baseline has too, percent; positive is slower."""
    known = {(row["id"], row["batch"], row["boundary"]): row for row in before}
    compared = []
    for row in rows:
        old = known.get((row["id"], row["batch"], row["boundary"]))
        if old is not None:
            compared.append(
                {
                    "id": row["id"],
                    "batch": row["batch"],
                    "boundary": row["boundary"],
                    "baseline_median_ms": old["median"],
                    "median_ms": row["median"],
                    "n": row["n"],
                    "change_percent": 100 * (row["median"] / old["median"] - 1),
                }
            )
    return compared


def parse_percent(text: str | None) -> float | None:
    """`5%` or `5` as 5.0."""
    if text is None:
        return None
    try:
        value = float(text.rstrip("% "))
    except ValueError:
        raise ConfigError(
            f"'{text}' is not a percentage", where="--max-regression", fix="for example 5%"
        ) from None
    if not value >= 0:
        raise ConfigError(f"'{text}' must not be negative", where="--max-regression")
    return value


def print_rows(rows: Sequence[Row], compared: Sequence[Row]) -> None:
    """Print measured rows and a comparison as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if rows:
        table = Table(
            "file",
            "batch",
            "boundary",
            "n",
            "min",
            "median",
            "p90",
            "p99",
            "std",
            "images/s",
            title="latency, ms",
        )
        for row in rows:
            p99 = "-" if row["p99"] is None else f"{row['p99']:.3f}"
            table.add_row(
                row["id"],
                str(row["batch"]),
                row["boundary"],
                str(row["n"]),
                f"{row['min']:.3f}",
                f"{row['median']:.3f}",
                f"{row['p90']:.3f}",
                p99,
                f"{row['std']:.3f}",
                f"{row['throughput']:.0f}",
            )
        console.print(table)
        for row in rows:
            for warning in row["warnings"]:
                console.print(
                    f"{row['id']}, batch {row['batch']}, {row['boundary']}: {warning}", markup=False
                )
    if compared:
        table = Table(
            "engine",
            "batch",
            "boundary",
            "n",
            "baseline ms",
            "now ms",
            "change",
            title="against the baseline",
        )
        for row in compared:
            table.add_row(
                row["id"],
                str(row["batch"]),
                row["boundary"],
                str(row["n"]),
                f"{row['baseline_median_ms']:.3f}",
                f"{row['median_ms']:.3f}",
                f"{row['change_percent']:+.1f} %",
            )
        console.print(table)
