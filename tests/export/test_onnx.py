"""Protects: the ONNX file computes what the module computes, for any batch, in the same bytes every time."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export import graph
from export.errors import ExportError, ParityError
from export.onnx import check_parity, describe, export_onnx, fix_batch, require_parity


def random_images(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_parity_on_real_and_random_images(files: Any) -> None:
    mapped = files.images[:20].copy()
    mapped.setflags(write=False)  # as a memory-mapped store is, whose images are not cropped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check_parity(files.module, files.fp32, [mapped, random_images(7)])
    require_parity(report)
    assert [(case.input, case.batch, case.n) for case in report.cases] == [
        (0, 1, 20),
        (0, 3, 20),
        (1, 1, 7),
        (1, 3, 7),
    ]
    assert max(case.max_abs for case in report.cases) < 1e-4


def test_a_network_that_diverged_is_not_blamed_on_the_export(files: Any) -> None:
    """The module's own NaN is said as such, with the learning rate as the fix."""

    class Diverged(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = files.module(images)
            return logits * float("nan")

    with pytest.raises(ExportError, match=r"network itself gives .* not finite on 5 of 5 images") as caught:
        check_parity(Diverged(), files.fp32, [files.images[:5]])
    assert "learning rate" in caught.value.fix and not isinstance(caught.value, ParityError)


def test_fixed_batch_is_static_and_keeps_parity(files: Any, tmp_path: Path) -> None:
    fixed = fix_batch(files.fp32, tmp_path / "one.onnx", 1)
    assert describe(fixed)["inputs"][0]["shape"] == [1, 32, 32, 3]
    assert describe(fixed)["outputs"][0]["shape"] == [1, 8]
    report = check_parity(files.module, fixed, [files.images[:5]])
    require_parity(report)
    assert [case.batch for case in report.cases] == [1]
    with pytest.raises(ExportError, match="fixed batch of 1"):
        fix_batch(fixed, tmp_path / "two.onnx", 2)


def test_exports_are_byte_identical_and_hold_no_local_paths(files: Any, tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    export_onnx(files.module, torch.zeros(1, 32, 32, 3, dtype=torch.uint8), again, dynamic_batch=True)
    assert again.read_bytes() == files.fp32.read_bytes()
    assert b"stack_trace" not in again.read_bytes() and b".py" not in again.read_bytes()


def test_export_says_nothing(files: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_onnx(files.module, torch.from_numpy(files.images[:1]), tmp_path / "m.onnx", dynamic_batch=True)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_description(files: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    facts = export_onnx(
        files.module,
        torch.from_numpy(files.images[:1]),
        path,
        opset=19,
        dynamic_batch=False,
        metadata={"b": "2", "a": "1"},
    )
    assert facts == describe(path)
    assert facts["opset"] == 19 and facts["metadata"] == {"a": "1", "b": "2"}
    assert facts["inputs"] == [{"name": "image", "dtype": "uint8", "shape": [1, 32, 32, 3]}]
    assert facts["outputs"] == [{"name": "logits", "dtype": "float32", "shape": [1, 8]}]
    assert facts["ops"]["Conv"] == 7 and not facts["dynamic_batch"] and facts["bytes"] == path.stat().st_size
    assert describe(files.fp32)["inputs"][0]["shape"] == ["batch", 32, 32, 3]


def test_global_pooling_of_a_channels_last_tensor_stays_one_node(files: Any) -> None:
    # PyTorch decomposes it into as_strided there, which exports as Range and Gather.
    ops = describe(files.fp32)["ops"]
    assert ops["GlobalAveragePool"] == 1
    assert not {"Range", "Gather", "Shape"} & set(ops)


def test_float_input(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3))
    path = tmp_path / "f.onnx"
    facts = export_onnx(
        module, torch.zeros(1, 3, 8, 8), path, dynamic_batch=True, input_name="x", output_name="y"
    )
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 3, 8, 8]}]
    assert module.training
    inputs = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    require_parity(check_parity(module, path, [inputs]))


def test_an_altered_weight_fails_parity(files: Any, tmp_path: Path) -> None:
    model = onnx.load(files.fp32)
    name = next(t.name for t in model.graph.initializer if list(t.dims) == [8, 24])
    value = np.array(graph.constant(model, name))
    value[3] += 0.5
    graph.set_initializer(model, name, value)
    broken = tmp_path / "broken.onnx"
    graph.save_model(model, broken)
    report = check_parity(files.module, broken, [files.images[:10]])
    assert not report.ok
    with pytest.raises(ParityError, match=r"does not match.*largest difference"):
        require_parity(report)


class BatchDependent(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        pixels = image.to(torch.float32).mean((1, 2))
        return pixels - pixels.mean(0)


def test_a_module_that_mixes_the_batch_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "mix.onnx"
    export_onnx(BatchDependent(), torch.zeros(1, 8, 8, 3, dtype=torch.uint8), path, dynamic_batch=True)
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    assert not check_parity(BatchDependent(), path, [images]).ok


class Branching(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.to(torch.float32).mean((1, 2))
        return x if x.sum() > 3 else -x


def test_a_module_that_cannot_be_exported_is_one_error_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    with pytest.raises(ExportError, match="Branching cannot be exported"):
        export_onnx(Branching(), torch.zeros(1, 8, 8, 3, dtype=torch.uint8), path, dynamic_batch=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("example", "opset", "message"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.int32), 20, "example input"),
        (torch.zeros(3, 8, 8), 20, "example input"),
        (torch.zeros(1, 3, 8, 8), 7, "opset 7"),
    ],
)
def test_bad_arguments(example: torch.Tensor, opset: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export_onnx(nn.Flatten(), example, tmp_path / "x.onnx", opset=opset, dynamic_batch=True)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no ONNX file"):
        describe(tmp_path / "absent.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk" * 100)
    with pytest.raises(ExportError, match=r"cannot be read as ONNX|holds no ONNX graph"):
        describe(tmp_path / "junk.onnx")
