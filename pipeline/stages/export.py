"""`export`: the student as one ONNX file that agrees with the torch student, or no file at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.schema import DeployConfig
from pipeline.core.errors import StageFailed
from pipeline.core.files import read_json, write_json
from pipeline.places import environment
from pipeline.places.images import Images
from pipeline.stages.base import Arguments, Stage, Work
from pipeline.stages.networks import network_name, network_sources

if TYPE_CHECKING:
    from torch import nn

    from export.contract import ImageInput
    from figkd.models import ImageClassifier

# Exporters change between versions, and so does what they write.
_EXPORTERS = ("torch", "onnx", "onnxscript", "onnxslim")
_PARITY_IMAGES = 96


def _arguments(config: DeployConfig, _target: str) -> Arguments:
    return {
        "student": config.student.model,
        "image_size": config.data.image_size,
        **config.export.model_dump(mode="json"),
        "seed": config.seed,
    }


def _run(work: Work) -> None:
    import numpy as np
    import torch

    from export import contract, graph, onnx
    from export.engines import trt_operators
    from figkd import checkpoint, models
    from figkd.data import class_names, open_split

    arguments, data = work.arguments, work.inputs["data"]
    size = arguments["image_size"]
    names = class_names(data)
    classifier = models.build_model(network_name(work, arguments["student"]), len(names), image_size=size)
    checkpoint.load_into(classifier, work.inputs["distill"] / "model.pt", names)

    module = graph_module(classifier, arguments["input"])
    noise = np.random.default_rng(arguments["seed"]).integers(0, 256, (6, size, size, 3), dtype=np.uint8)
    images, noise = (
        Images(raw, size, arguments["input"], work.inputs["distill"] / "model.pt").inputs()
        for raw in (open_split(data, "test").images[:_PARITY_IMAGES], noise)
    )

    work.progress(0, 4, "exporting")
    dynamic = work.scratch / "dynamic.onnx"
    final = work.out / "student.onnx"
    example = torch.from_numpy(np.array(images[:1]))
    onnx.export_onnx(
        module, example, dynamic, opset=arguments["opset"], dynamic_batch=True,
        metadata=contract.metadata(names, _image(arguments, classifier, data)),
    )  # fmt: skip
    if arguments["dynamic_batch"]:
        dynamic.replace(final)
        dynamic = final
    else:
        onnx.fix_batch(dynamic, final, 1)

    tolerance = arguments["parity"]
    report: dict[str, Any] = {"tolerance": tolerance, "cases": []}
    checks = (
        ("real images", dynamic, images, (1, 3)),
        ("random images", dynamic, noise, (1, 3)),
        ("real images, shipped file", final, images, (1,)),
    )
    for done, (what, path, inputs, batches) in enumerate(checks, start=1):
        work.progress(done, 4, f"parity: {what}")
        found = onnx.check_parity(
            module,
            path,
            [np.ascontiguousarray(inputs)],
            max_abs=tolerance["max_relative_error"],
            min_cosine=tolerance["min_cosine"],
            batch_sizes=batches,
        )
        cases = [
            {"what": what, **asdict(case), "top1_agreement": 100 * case.top1_agreement}
            for case in found.cases
        ]
        report["cases"] += cases
        onnx.require_parity(found)
        for case in cases:
            if what != "random images" and case["top1_agreement"] < tolerance["min_top1_agreement"]:
                raise StageFailed(
                    f"the ONNX file and the student agree on the top-1 of only {case['top1_agreement']:.2f} % of "
                    f"{case['n']} real images (export.parity.min_top1_agreement: "
                    f"{tolerance['min_top1_agreement']})",
                    fix="another opset or model, or loosen export.parity",
                )
    write_json(work.out / "parity.json", report)
    write_json(work.out / "classes.json", names)
    # TensorRT's version is the target's, known when it builds; here it is reported early, for the oldest that is meant.
    problems = [
        trt_operators.describe(problem) for problem in trt_operators.unsupported(graph.load_model(final))
    ]
    write_json(work.out / "model.json", {**onnx.describe(final), "not_for_tensorrt": problems})
    work.progress(4, 4, "done")


def graph_module(classifier: ImageClassifier, layout: str) -> nn.Module:
    """What of a network becomes the graph for an input `layout`."""
    from figkd import models

    deployed = models.reparameterize_for_export(classifier)
    return deployed if layout == "uint8_nhwc" else deployed.get_submodule("backbone")


def _image(arguments: Mapping[str, Any], student: ImageClassifier, data: Path) -> ImageInput:
    """What the exported graph takes, and how a photo becomes that."""
    from export.contract import ImageInput

    size, prepared = arguments["image_size"], read_json(data / "data.json")
    resize, levels = int(prepared["store_size"]), prepared.get("decoding", {}).get("levels", {})
    if arguments["input"] == "uint8_nhwc":
        return ImageInput("NHWC", "uint8", size, size, resize=resize, levels=levels)
    return ImageInput(
        "NCHW", "float32", size, size, normalisation="(x / 255 - mean) / std",
        mean=tuple(student.mean.tolist()), std=tuple(student.std.tolist()),
        resize=resize, levels=levels,
    )  # fmt: skip


def _summary(out: Path) -> str:
    facts, parity = read_json(out / "model.json"), read_json(out / "parity.json")
    worst = max(case["max_abs"] for case in parity["cases"])
    images = sum(case["n"] for case in parity["cases"])
    refused = f"; {facts['not_for_tensorrt'][0]}" if facts["not_for_tensorrt"] else ""
    return (
        f"opset {facts['opset']}, {facts['bytes'] / 1e6:.2f} MB; "
        f"differs from torch by at most {worst:.1e} on {images} images{refused}"
    )


STAGE = Stage(
    name="export",
    does="ONNX with normalisation inside (uint8 in); stops unless it agrees with torch",
    leaves="`student.onnx`, parity report",
    version=4,
    inputs=("data", "distill"),
    arguments=_arguments,
    sources=lambda config: network_sources(config.student),
    run=_run,
    summary=_summary,
    environment=lambda _: environment.versions(_EXPORTERS),
)
