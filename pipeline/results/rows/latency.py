"""`latency.json` of the stage `benchmark`: the statistics of each engine, batch size and boundary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.core.files import write_json
from pipeline.results.latency import BenchmarkRow
from pipeline.results.rows.row import read_list

_LATENCY = "latency.json"


def read_latency(folder: Path) -> list[BenchmarkRow]:
    """The rows in an artifact of `benchmark`."""
    return read_list(folder / _LATENCY, BenchmarkRow)


def write_latency(folder: Path, rows: Sequence[BenchmarkRow]) -> None:
    """Write rows into an artifact of `benchmark`; what does not concern one is left out."""
    write_json(folder / _LATENCY, [row.model_dump(mode="json", exclude_defaults=True) for row in rows])
