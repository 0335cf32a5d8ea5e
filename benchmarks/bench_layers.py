"""What TensorRT-RTX makes of three students in FP16 and INT8: layers, their precision, bytes written. No GPU needed.

    python benchmarks/bench_layers.py [--students dsconv_nano ...] [--capability SM89] [--out FILE]

Nothing is timed. The engines are built as the stage `build` does, from networks with random weights whose batch norms
have seen the images, so that activations have ordinary sizes; what the builder fuses depends on shapes and types.
Writes benchmarks/results/rtx_layers.json, and its table into docs/engines.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from export.engines import BACKENDS
from export.onnx import export_onnx
from export.precision import to_fp16, to_int8_tensorrt
from figkd.models import build_model, reparameterize_for_export
from pipeline.core.files import read_json, write_json, write_text
from pipeline.docs import between
from pipeline.places import environment
from pipeline.results.composition import BuiltEngine, int8_outlook

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "rtx_layers.json"
PAGE = ROOT / "docs" / "engines.md"
IMAGES = 32

STUDENTS: dict[str, tuple[str, int, int]] = {
    "dsconv_nano": ("figkd/dsconv_nano", 32, 21),
    "resnet18": ("timm/resnet18", 224, 1000),
    "mobilenetv4_conv_small": ("timm/mobilenetv4_conv_small", 224, 1000),
}
"""Name to model, image size, classes."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Build what the command line asks for and write what the builder said."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument("--capability", default="SM89")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.students:
            rows += _student(name, given.capability, Path(folder))
    result = {
        "what": "layers of engines that TensorRT-RTX built, as its verbose log lists them; batch 1",
        "command": "python benchmarks/bench_layers.py",
        "capability": given.capability,
        "versions": environment.versions(("tensorrt-rtx-cu13", "torch", "timm", "onnx", "figkd-pipeline")),
        "rows": rows,
    }
    write_json(given.out, result)
    print(table(result))
    if given.out == RESULT:
        write_text(PAGE, between(PAGE.read_text(encoding="utf-8"), "layers", table(read_json(RESULT))))


def table(result: Mapping[str, Any]) -> str:
    """The result as a Markdown table."""
    lines = [
        "| student | file | layers | convolutions and products | requantise | only reformat | written MB | INT8 |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    for row in result["rows"]:
        built = BuiltEngine.model_validate(row["built"])
        compute = ", ".join(f"{count} {types}" for types, count in built.compute.items())
        written = "" if built.written_bytes is None else f"{built.written_bytes / 1e6:.3g}"
        says = {"no_faster": "no faster", "maybe_no_faster": "maybe no faster"}.get(row["outlook"] or "", "")
        lines.append(
            f"| `{row['student']}` | {row['precision'].upper()} | {built.layers} | {compute} | {built.requantise} "
            f"| {built.reformats} | {written} | {says} |"
        )
    return "\n".join(lines)


def _student(name: str, capability: str, folder: Path) -> list[dict[str, Any]]:
    from students import images  # beside this script, which need not be a package for it

    model, size, classes = STUDENTS[name]
    torch.manual_seed(0)
    module = build_model(model, classes, image_size=size)
    shown = images(size, IMAGES)
    _see(module, torch.from_numpy(shown))
    module = reparameterize_for_export(module).eval()
    files = {precision: folder / f"{name}-{precision}.onnx" for precision in ("fp32", "fp16", "int8")}
    export_onnx(module, torch.from_numpy(shown[:1]), files["fp32"], dynamic_batch=False)
    to_fp16(files["fp32"], files["fp16"])
    to_int8_tensorrt(files["fp32"], files["int8"], shown)
    built = {precision: _built(files[precision], capability) for precision in ("fp16", "int8")}
    return [
        {
            "student": name,
            "precision": precision,
            "built": built[precision].model_dump(),
            "outlook": int8_outlook(built["int8"], built["fp16"]) if precision == "int8" else None,
        }
        for precision in built
    ]


def _see(module: nn.Module, shown: torch.Tensor) -> None:
    """Let batch norms average over the images: with their first values FP16 overflows."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the mean over all that is seen
    module.train()
    with torch.no_grad():
        for batch in shown.split(8):
            module(batch)


def _built(onnx: Path, capability: str) -> BuiltEngine:
    engine = onnx.with_suffix(".engine")
    info = BACKENDS["tensorrt_rtx"].build(onnx, engine, compute_capabilities=[capability])
    return BuiltEngine.model_validate(info.composition["engine"])


if __name__ == "__main__":
    main()
