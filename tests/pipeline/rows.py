"""Rows to test with."""

from __future__ import annotations

from typing import Any

from pipeline.results.rows.engines import EngineRow, Made, Wanted, built
from pipeline.results.rows.scores import Score


def score(top1: float, **changes: Any) -> Score:
    """A score whose other figures do not matter."""
    figures: dict[str, Any] = {
        "n": 2, "top1": top1, "top5": None, "mean_per_class": top1, "worst_classes": (), "agreement": None,
        "finite": True, "confusions": (),
    }  # fmt: skip
    return Score(**figures | changes)


def wanted(name: str, *, backend: str = "onnxruntime", onnx: str | None = None) -> Wanted:
    """An engine that is asked for, by its id."""
    target, precision = name.split("/")
    return Wanted(
        id=name, target=target, backend=backend, precision=precision, compute_capability="",
        onnx=onnx or f"{precision}.onnx", onnx_bytes=1,
    )  # fmt: skip


def engine_row(name: str, *, backend: str = "onnxruntime", **made: Any) -> EngineRow:
    """The row of an engine that was built and runs."""
    facts: dict[str, Any] = {"file": "a.engine", "bytes": 1, "layers": 1, "inputs": (), "outputs": ()}
    return built(wanted(name, backend=backend), Made(**facts | made), runs=True, detail="", fix="")
