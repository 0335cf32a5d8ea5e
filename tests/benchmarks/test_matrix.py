"""The matrix of students: its conversions, its cache and its table, on tiny networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "matrix"
RESULT = ROOT / "benchmarks" / "results" / "matrix.json"


@pytest.fixture(scope="module", autouse=True)
def _scripts() -> Any:
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


class Tiny(nn.Module):
    """A convolution, a residual branch that starts dead, a layer scale, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.body = nn.Conv2d(8, 8, 3, 1, 1)
        self.norm = nn.BatchNorm2d(8)
        nn.init.zeros_(self.norm.weight)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-6))
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem((image.to(torch.float32) / 255 - 0.5).permute(0, 3, 1, 2)))
        x = torch.relu(x + self.gamma * self.norm(self.body(x)))
        return self.head(x.mean((2, 3)))


def test_images_are_a_function_of_their_arguments() -> None:
    import conversions

    images = conversions.images("train", 3, 16)
    assert images.shape == (3, 16, 16, 3) and images.dtype == np.uint8
    assert (images != conversions.images("test", 3, 16)).any()
    assert images.std() > 10


def test_a_network_is_woken_and_calibrated() -> None:
    """Protects INT8 figures from dead branches: what starts at 0 is opened, batch norms know the images."""
    import conversions

    network, sample = Tiny(), conversions.images("train", 32, 16)
    conversions.settle(network, sample)
    assert not network.training
    assert network.norm.weight.eq(1).all() and network.gamma.eq(0.1).all()
    with torch.no_grad():
        x = torch.relu(network.stem((torch.from_numpy(sample).float() / 255 - 0.5).permute(0, 3, 1, 2)))
        normal = network.norm(network.body(x))
    assert normal.mean().abs() < 0.1 and abs(float(normal.std()) - 1) < 0.1


def test_errors_by_hand() -> None:
    import conversions

    reference = np.array([[3.0, 4.0], [0.0, 5.0]], np.float32)
    found = conversions.errors(reference, reference + np.array([[0.5, 0.0], [0.0, 0.0]], np.float32))
    assert found["max_abs"] == 0.5 and found["relative"] == 0.1
    assert found["cosine"] == pytest.approx((3.5 * 3 + 16) / (5 * np.hypot(3.5, 4)))
    # Signal: deviations (1.5, -0.5) and back, noise: (0.25, 0) and back.
    assert found["sqnr_db"] == pytest.approx(10 * np.log10(2 * (1.5**2 + 0.5**2) / (2 * 0.25**2)))
    assert conversions.errors(reference, reference)["sqnr_db"] is None
    assert not conversions.errors(reference, reference * np.nan)["finite"]


def test_a_student_is_converted_to_the_end(tmp_path: Path) -> None:
    """Protects the script: each cell is one row, made by the package's own functions."""
    import conversions
    from students import Student

    pytest.importorskip("tensorrt_rtx")
    rows: list[dict[str, Any]] = []
    wanted = list(conversions.cells(("SM86",)))
    conversions.convert(Student("tiny", 32), tmp_path, wanted, rows.append, lambda name, size: Tiny())
    assert [(row["precision"], row["engine"]) for row in rows] == wanted
    assert {row["state"] for row in rows if row["engine"] == "onnxruntime"} == {"ok"}
    assert {row["state"] for row in rows if row["engine"] != "onnxruntime"} == {"built"}
    assert rows[0]["opset"] == 20 and rows[0]["tensorrt_10_3"] == [] and rows[0]["static_differs"] < 1e-6
    assert rows[2]["error"]["cosine"] > 0.95 and rows[2]["quantised_nodes"]


class Chaotic(nn.Module):
    """Takes the difference of nearly equal numbers, so that any rounding of its input shows."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with torch.no_grad():
            convolution = self.backbone[0]
            convolution.weight[1:] = convolution.weight[:1] * (1 + 1e-4 * torch.randn(7, 1, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.backbone((image.to(torch.float32) / 255 - 0.5).permute(0, 3, 1, 2))
        return x[:, 1:] - x[:, :1]


def test_half_is_judged_by_what_rounding_the_input_alone_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects networks that amplify rounding from a verdict on FP16, and keeps FP16 from any excuse."""
    import conversions
    from students import Student

    half = [conversions.Cell("fp16", "onnxruntime")]
    for allowed, state in ((1000.0, "ok"), (-1000.0, "failed")):
        monkeypatch.setattr(conversions, "AMPLIFIED_DB", allowed)
        rows: list[dict[str, Any]] = []
        conversions.convert(Student("chaotic", 16), tmp_path, half, rows.append, lambda name, size: Chaotic())
        assert rows[0]["state"] == state, rows
        assert rows[0]["error"]["cosine"] < conversions.TOLERANCE["fp16"] and "input_rounded_db" in rows[0]


class Branching(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.to(torch.float32).mean((1, 2))
        return x if x.sum() > 3 else -x


def test_a_failure_is_a_row_with_its_message(tmp_path: Path) -> None:
    """Protects the rest of a long run from one network."""
    import conversions
    from students import Student

    rows: list[dict[str, Any]] = []
    wanted = [conversions.Cell("fp32", "onnxruntime"), conversions.Cell("fp16", "onnxruntime")]
    conversions.convert(Student("tiny", 16), tmp_path, wanted, rows.append, lambda name, size: Branching())
    assert [row["state"] for row in rows] == ["failed", "failed"]
    assert "Branching cannot be exported to ONNX" in rows[0]["detail"]


def test_rows_of_other_code_are_made_again(tmp_path: Path) -> None:
    import matrix

    row = {"precision": "fp32", "engine": "onnxruntime", "code": "old", "state": "ok"}
    (tmp_path / "a.json").write_text(json.dumps(row))
    assert matrix.cached(tmp_path, "new", any_code=False) == {}
    assert matrix.cached(tmp_path, "new", any_code=True) == {("fp32", "onnxruntime"): row}


def test_students_are_chosen_by_short_name_or_pattern() -> None:
    import matrix
    from students import STUDENTS

    assert [student.name for student in matrix.chosen(["resnet18"])] == ["timm/resnet18"]
    assert {student.image_size for student in matrix.chosen(["figkd/*"])} == {32}
    assert matrix.chosen([]) == list(STUDENTS)
    with pytest.raises(SystemExit, match="no student matches 'resnet19'"):
        matrix.chosen(["resnet18", "resnet19"])


def result() -> dict[str, Any]:
    error = {"finite": True, "max_abs": 1e-5, "relative": 2e-6, "cosine": 0.99999, "sqnr_db": 80.0}
    facts = {
        "opset": 20,
        "nodes": 7,
        "onnx_bytes": 2_000_000,
        "parameters": 500_000,
        "operators": {"Conv": 3},
    }
    common = {"student": "timm/x", "image_size": 224}
    onnx = [
        common
        | facts
        | {"precision": p, "engine": "onnxruntime", "state": "ok", "error": error, "tensorrt_10_3": []}
        for p in ("fp32", "fp16", "int8_cpu")
    ]
    engine = {"engine_bytes": 3e6, "build_seconds": 1.25}
    refused = "the engine cannot be built: at node 0012_Gemm: FP32 GEMM is not supported"
    engines = [
        common | {"precision": "fp32", "engine": "tensorrt_rtx/SM75", "state": "refused", "detail": refused},
        common | engine | {"precision": "fp32", "engine": "tensorrt_rtx/SM86", "state": "built"},
    ]
    return {
        "date": "2026-01-02",
        "machine": {"cpu": "a CPU", "gpu": "none"},
        "packages": {"torch": "2"},
        "images": {"calibration": 64, "checked": 16},
        "rows": [*onnx, *engines],
    }


def test_the_table_says_what_the_rows_say() -> None:
    import table

    text = table.render(result())
    assert "1 students, 5 rows: 3 ok, 1 built, 1 refused, 0 failed" in text
    assert "| `timm/x` | 224 | 0.50 | 7 | 2.0 | 2e-06 | 1.0000, 80 | – | – | – | 1.0000, 80 |" in text
    assert "| `timm/x` | 3.0, 1.2 | 1/2 | – | 0/0 | – | 0/0 |" in text
    assert "Opset 20." in text and "Conv (1)" in text
    assert (
        "- refused: fp32, tensorrt_rtx/SM75, all students: the engine cannot be built: at node …: FP32"
        in text
    )


def test_the_table_replaces_what_stands_between_the_marks() -> None:
    import table

    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    once = table.with_table(page, result())
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "old" not in once
    assert table.with_table(once, result()) == once
    with pytest.raises(ValueError, match="no lines"):
        table.with_table("nothing", result())


def test_the_page_shows_the_committed_result() -> None:
    """Protects docs/students.md from being edited by hand or left behind."""
    import table

    page = (ROOT / "docs" / "students.md").read_text(encoding="utf-8")
    committed = json.loads(RESULT.read_text())
    assert table.with_table(page, committed) == page


def test_the_committed_result_is_a_whole_matrix() -> None:
    """Protects what the page claims: every student has every cell, and opset and operators suit TensorRT 10.3."""
    import conversions
    from students import STUDENTS

    rows = json.loads(RESULT.read_text())["rows"]
    assert {(row["student"], row["precision"], row["engine"]) for row in rows} == {
        (student.name, *cell) for student in STUDENTS for cell in conversions.cells()
    }
    made = [row for row in rows if "operators" in row]
    assert {row["opset"] for row in made} == {20}
    assert not any(row.get("tensorrt_10_3") for row in made)
    assert not [row for row in rows if row["state"] == "failed"]
    assert {
        row["detail"].partition("Turing (SM75): ")[2][:11] for row in rows if row["state"] == "refused"
    } == {"FP32 GEMM i"}
    assert max(row["static_differs"] for row in made if row["precision"] in ("fp32", "fp16")) < 1e-4


@pytest.mark.slow
def test_three_students_by_the_script(tmp_path: Path) -> None:
    """Protects `make matrix`: real students, the cache, a second run that makes nothing."""
    arguments = ["--students", "dsconv_nano", "resnet8x4", "shufflenetv2", "--capabilities", "SM75", "SM86"]
    command = [sys.executable, str(FOLDER / "matrix.py"), *arguments, "--out", str(tmp_path / "out.json")]
    command += ["--cache", str(tmp_path / "cache")]
    for turn in range(2):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=550, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(done.stdout.splitlines()) == (1 if turn else 40)
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    states = {(row["precision"], row["engine"]): row["state"] for row in rows}
    assert states.pop(("fp32", "tensorrt_rtx/SM75")) == "refused"
    assert set(states.values()) == {"ok", "built"}
