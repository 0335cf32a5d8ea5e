"""`graphs.json` of the stage `benchmark`: how much of each INT8 engine's ONNX file is INT8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.results.engine import Int8Share
from pipeline.results.rows.row import read_mapping, write_mapping

_GRAPHS = "graphs.json"


def read_graphs(folder: Path) -> dict[str, Int8Share]:
    """Of an artifact of `benchmark`, by engine; empty where it has none."""
    return read_mapping(folder / _GRAPHS, Int8Share) if (folder / _GRAPHS).is_file() else {}


def write_graphs(folder: Path, graphs: Mapping[str, Int8Share]) -> None:
    """Write them into an artifact of `benchmark`."""
    write_mapping(folder / _GRAPHS, graphs)
