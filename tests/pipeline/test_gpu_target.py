"""Protects: the pipeline on a machine with a GPU and TensorRT, from build to report, as far as that is logic.

CUDA and TensorRT are the stand-ins of tests/export/engines: engines "run" in ONNX Runtime, and their clock is not a
clock. So accuracies here are real, latencies are not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from export.runtime import cudart
from pipeline.cli import main
from tests.export.engines.stand_ins import Cuda, tensorrt
from tests.pipeline.conftest import FONTS, TINY, Finished, sets

TARGET = {
    "targets": "{gpu: {engine: tensorrt, batch_sizes: [1, 4], strip_weights: true}}",
    "export.dynamic_batch": True,
    "budgets.engine_mb": "null",
    "benchmark.streams": "[1, 2]",
    "name": "gpu_target",
}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, finished: Finished) -> Cuda:
    made = Cuda()
    monkeypatch.setattr(cudart, "loaded", made.runtime)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt(made))
    monkeypatch.chdir(finished.folder)
    return made


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line, in this process; its exit code, and what it printed as one line."""

    def command(*words: str, **changes: Any) -> tuple[int, str]:
        tiny = {key: value for key, value in TINY.items() if "rtx" not in key}
        monkeypatch.setattr(sys, "argv", ["figkd-pipeline", *words, *sets(tiny | TARGET | changes)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((printed.out + printed.err).split())

    return command


def test_engines_are_built_validated_and_timed(gpu: Cuda, run: Run, finished: Finished) -> None:
    code, said = run("run", str(FONTS))
    assert code == 0, said
    result = json.loads((finished.folder / "runs" / "gpu_target" / "result.json").read_text())
    engines = {engine["precision"]: engine for engine in result["engines"]}
    assert {e["state"] for e in engines.values()} == {"ran"}
    for precision, engine in engines.items():
        assert engine["accuracy"]["source"] == "engine" and engine["accuracy"]["identical_rows"] is True
        assert engine["composition"]["engine"]["layers"] == 1, precision
        rows = {(row["boundary"], row["batch"]): row for row in engine["latency"] if row["streams"] == 1}
        assert {row["batch"] for row in engine["latency"] if row["streams"] == 2} == {1}
        assert rows["engine", 1]["median"] == rows["engine", 4]["median"] == 2.0
        assert rows["engine+copies", 4]["median_of_parts_ms"].keys() == {"h2d", "compute", "d2h", "enqueue"}
        assert ("image_to_class", 1) in rows
    assert engines["fp32"]["accuracy"]["agreement"] == 100
    folder = finished.folder / "runs" / "gpu_target" / "engines" / "gpu"
    beside = {"", ".json", ".layers.json", ".weights.onnx"}
    assert {path.name for path in folder.iterdir()} == {f"{p}.engine{s}" for p in engines for s in beside}
    assert gpu.leaks() == {}
    caches = sorted((finished.folder / ".figkd" / "caches" / "timing").glob("*.cache"))
    assert [path.name.split("_")[-1] for path in caches] == ["fp16.cache", "fp32.cache", "int8.cache"]

    built = folder / "fp16.engine"
    code, said = run("benchmark", str(FONTS), "--model", str(built))
    assert code == 0, said
    gpu.name = "Another GPU"
    code, said = run("benchmark", str(FONTS), "--model", str(built))
    assert code == 2 and "this GPU is Another GPU" in said and "python -P -m export build fp16.onnx" in said
    gpu.name = "Test GPU"
    built.write_bytes(built.read_bytes()[:-9])
    code, said = run("benchmark", str(FONTS), "--model", str(built))
    assert code == 2 and "is cut off" in said
