"""Protects: what the build stage asks of a back end, what it keeps, and what it says of engines that cannot run here.

The back end is a stand-in: what the real ones build is tested under tests/export.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from export.engines import BACKENDS
from export.engines.options import TensorRTOptions
from export.engines.protocol import Availability, EngineInfo
from export.errors import BuildError
from export.runtime.remedies import Skipped
from pipeline.config.targets import Target
from pipeline.core.files import read_json, write_json
from pipeline.places.builder import BUILDER_KEYS
from pipeline.results.composition import Composition, ParsedNetwork
from pipeline.results.engine import SkippedTactics
from pipeline.results.rows.engines import EngineRow, read_engines
from pipeline.stages.base import Work
from pipeline.stages.build import STAGE

Progress = list[tuple[int, int, str]]


class Backend:
    """Writes a file, and keeps how it was called."""

    def __init__(self, capability: str = "SM86") -> None:
        self.calls: list[dict[str, Any]] = []
        self._here = Availability(True, bool(capability), "no CUDA device", "", {}, capability)

    def availability(self) -> Availability:
        return self._here

    def build(self, onnx: Path, out: Path, *, progress: Any, **options: Any) -> EngineInfo:
        self.calls.append(options)
        if onnx.name == "int8.onnx":
            raise BuildError("node a (operator Det): the operator is not supported", "use another network")
        progress(3, 6, "Building engine")
        out.write_bytes(b"engine")
        return EngineInfo(
            str(out), 6, 0.5, "x", {}, (), (1,), (), (), 7, "0", composition={"network": {"layers": 7}},
            notes=("timing cache started",), skipped_tactics=Skipped(3, 600),
        )  # fmt: skip


def run(
    tmp_path: Path, engine: str, not_made: dict[str, Any] | None = None, **changes: Any
) -> tuple[list[EngineRow], Progress]:
    """Rows and progress of a run of the stage; `not_made` are ONNX files that `precision` lacks, and why."""
    section = Target(engine=engine)
    arguments: dict[str, Any] = {
        "target": "t", "engine": engine, "precisions": ["fp16"], "batch_sizes": [1], "required": True, "threads": None,
        **{name: getattr(section, name) for name in BUILDER_KEYS.get(engine, ())}, **changes,
    }  # fmt: skip
    steps: Progress = []
    inputs, out = tmp_path / "in", tmp_path / "out"
    for folder in (inputs, out):
        folder.mkdir()
    for name in ("fp16.onnx", "int8.onnx"):
        if name not in (not_made or {}):
            (inputs / name).write_bytes(b"onnx")
    write_json(inputs / "not_made.json", not_made or {})
    work = Work(
        arguments,
        {"precision": inputs, "qad": inputs},
        {},
        out,
        out,
        lambda *step: steps.append(step),
        caches=tmp_path / "caches",
    )
    STAGE.run(work)
    return read_engines(out), steps


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    made = Backend()
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(BACKENDS, name, made)
    return made


def test_every_key_of_the_target_reaches_the_builder(backend: Backend, tmp_path: Path) -> None:
    wanted = {
        "workspace_mb": 128, "tactic_dram_mb": 256, "optimization_level": 4, "strong_typing": False,
        "version_compatible": True, "hardware_compatibility": "ampere_plus", "strip_weights": False,
    }  # fmt: skip
    assert set(wanted) == set(BUILDER_KEYS["tensorrt"])
    run(tmp_path, "tensorrt", **wanted)
    (call,) = backend.calls
    assert call["tensorrt"] == TensorRTOptions(**wanted, timing_caches=tmp_path / "caches" / "timing")


def test_progress_is_that_of_all_engines(backend: Backend, tmp_path: Path) -> None:
    rows, steps = run(tmp_path, "tensorrt", precisions=["fp16", "int8"])
    assert (50, 200, "fp16: Building engine") in steps and steps[-1][:2] == (200, 200)
    assert [row.state for row in rows] == ["built", "failed"]
    assert rows[1].detail.startswith("node a (operator Det)") and rows[1].fix == "use another network"
    assert rows[0].engine.composition == Composition(network=ParsedNetwork(layers=7))
    assert rows[0].engine.skipped_tactics == SkippedTactics(tactics=3, largest_mb=600)
    assert read_json(tmp_path / "out" / "notes.json") == {"t/fp16": ["timing cache started"]}


def test_a_precision_that_was_not_made_is_a_failed_row(backend: Backend, tmp_path: Path) -> None:
    """Protects the others: they are built, and the reason of the one that is not is the row's."""
    why = {"int8.onnx": {"detail": "14 images", "fix": "add images"}}
    rows, _ = run(tmp_path, "tensorrt", not_made=why, precisions=["int8", "fp16"])
    assert [(row.precision, row.state, row.runs) for row in rows] == [
        ("int8", "failed", False),
        ("fp16", "built", True),
    ]
    assert (rows[0].detail, rows[0].fix, rows[0].onnx) == ("14 images", "add images", "int8.onnx")
    assert rows[0].onnx_bytes is None and len(backend.calls) == 1


def test_an_engine_for_another_gpu_is_built_not_run(backend: Backend, tmp_path: Path) -> None:
    """The GPU here is SM86: of the engines built ahead of time, that one alone can be loaded."""
    rows, _ = run(tmp_path, "tensorrt_rtx", compute_capabilities=["SM86", "SM120"])
    assert [row.runs for row in rows] == [True, False]
    assert rows[1].detail == "built, not run: it is for SM120, the GPU here is SM86" and rows[1].fix
    asked: list[Sequence[str]] = [call["compute_capabilities"] for call in backend.calls]
    assert asked == [["SM86"], ["SM120"]]


def test_what_binds_an_engine_is_in_the_key() -> None:
    facts = STAGE.environment({"engine": "tensorrt"})
    assert set(facts) == {"tensorrt", "gpu", "compute_capability", "architecture", "l4t"}
    assert set(STAGE.environment({"engine": "onnxruntime"})) == {"onnxruntime", "gpu"}
