"""`precision`: FP32, FP16 and INT8 as ONNX files, and what each costs in accuracy on the whole test set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import environment
from pipeline.config.schema import DeployConfig
from pipeline.files import read_json, write_json
from pipeline.stages.base import Stage, Work
from pipeline.stages.inputs import graph_inputs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.engines.protocol import Engine


def _arguments(config: DeployConfig, _target: str) -> dict[str, Any]:
    precision = config.precision
    engines = {target.engine for target in config.targets.values()}
    arguments: dict[str, Any] = {
        "modes": sorted({"fp32", *precision.modes}),
        "image_size": config.data.image_size,
        "input": config.export.input,
        "seed": config.seed,
        # Each layout is made only where a target reads it.
        "layouts": sorted({"onnxruntime" if e == "onnxruntime" else "tensorrt" for e in engines}),
    }
    if "int8" in precision.modes:
        arguments["int8"] = precision.model_dump(mode="json", exclude={"modes"})
    return arguments


def _environment(arguments: Mapping[str, Any]) -> dict[str, str]:
    facts = environment.versions(("onnx", "onnxruntime"))
    # On x86 CPUs without VNNI, ONNX Runtime's INT8 weights get one bit less, so that 16-bit sums cannot saturate.
    return facts | ({"cpu": environment.cpu_model()} if "int8" in arguments["modes"] else {})


def onnx_file(engine: str, precision: str) -> str:
    """The file that a back end builds a precision from: ONNX Runtime's CPU wants another INT8 layout."""
    return "int8_cpu.onnx" if precision == "int8" and engine == "onnxruntime" else f"{precision}.onnx"


def _run(work: Work) -> None:
    import shutil

    from export import precision
    from figkd.data import class_names, open_split

    arguments, data = work.arguments, work.inputs["data"]
    source = work.inputs["export"] / "student.onnx"
    shutil.copyfile(source, work.out / "fp32.onnx")
    summaries: dict[str, Any] = {"fp32.onnx": {"bytes": source.stat().st_size}}
    files = ["fp32.onnx"]
    total = 2 * (len(arguments["modes"]) + ("int8" in arguments["modes"] and len(arguments["layouts"]) == 2))
    if "fp16" in arguments["modes"]:
        work.progress(1, total, "FP16")
        summaries["fp16.onnx"] = precision.to_fp16(source, work.out / "fp16.onnx")
        files.append("fp16.onnx")
    if "int8" in arguments["modes"]:
        keys = arguments["int8"]
        seen = precision.observe_file(
            source,
            calibration_batches(work, keys["calibration_images"]),
            histograms=keys["calibration_method"] != "minmax",
        )
        options = {
            "method": keys["calibration_method"],
            "percentile": keys["percentile"],
            "weights": keys["weights"],
            "exclude": keys["exclude"],
            "without_rules": keys["without_rules"],
        }
        makers: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
            "tensorrt": ("int8.onnx", precision.to_int8_tensorrt),
            "onnxruntime": ("int8_cpu.onnx", precision.to_int8_onnxruntime),
        }
        for layout in arguments["layouts"]:
            name, make = makers[layout]
            work.progress(len(files), total, f"INT8 for {layout}")
            summaries[name] = make(source, work.out / name, seen, **options)
            files.append(name)

    test = open_split(data, "test")
    names = class_names(data)
    reference = read_logits(work.inputs["distill"] / "test_logits.npy")
    scores: dict[str, Any] = {}
    for done, name in enumerate(files, start=len(files)):
        work.progress(done, total, f"accuracy of {name}")
        engine = onnx_engine(work.out / name)
        try:
            scores[name] = score(engine, inputs_of(work, test.images), test.labels, names, reference)
        finally:
            engine.close()
    write_json(
        work.out / "timing.json", {n: s.pop("seconds") for n, s in summaries.items() if "seconds" in s}
    )
    write_json(
        work.out / "precision.json",
        {n: {k: v for k, v in s.items() if k != "file"} for n, s in summaries.items()},
    )
    write_json(work.out / "accuracy.json", scores)
    work.progress(total, total, "done")


def onnx_engine(path: Path, threads: int | None = None) -> Engine:
    """An ONNX file in ONNX Runtime on the CPU."""
    from export.engines import BACKENDS

    return BACKENDS["onnxruntime"].load(path, threads=threads or environment.cores())


def read_logits(path: Path) -> npt.NDArray[np.float32]:
    """Logits that an earlier stage stored, float32 [N, C]."""
    import numpy as np

    logits: npt.NDArray[np.float32] = np.load(path)
    return logits


def inputs_of(work: Work, stored: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """`graph_inputs` for a stage whose arguments have `image_size` and `input`."""
    student = work.inputs["distill"] / "model.pt" if "distill" in work.inputs else None
    return graph_inputs(
        stored, image_size=work.arguments["image_size"], layout=work.arguments["input"], student=student
    )


def calibration_batches(work: Work, count: int) -> list[npt.NDArray[Any]]:
    """Class-balanced, seeded training images by the evaluation view, one image a batch."""
    import numpy as np

    from figkd.data import open_split

    train = open_split(work.inputs["data"], "train")
    random = np.random.default_rng(work.arguments["seed"])
    # One image of each class in turn, so that any count is as balanced as it can be.
    per_class = [random.permutation(np.flatnonzero(train.labels == c)) for c in np.unique(train.labels)]
    longest = max(len(members) for members in per_class)
    turns = [members[i] for i in range(longest) for members in per_class if i < len(members)]
    chosen = np.sort(np.array(turns[:count]))
    images = inputs_of(work, train.images[chosen])
    return [images[i : i + 1] for i in range(len(images))]


def score(
    engine: Engine,
    images: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    names: list[str],
    reference: npt.NDArray[np.float32] | None,
) -> dict[str, Any]:
    """Run an engine over a data set and score it."""
    from export.accuracy import accuracy, identical_rows

    facts = accuracy(engine.infer(images), labels, names, reference_logits=reference)
    # One image several times: rows of a batch, or calls of a batch-1 engine, must not differ.
    return facts | {"identical_rows": identical_rows(engine, images[0], max((4, *engine.batch_sizes)))}


def _summary(out: Path) -> str:
    scores = read_json(out / "accuracy.json")
    parts = (f"{name.removesuffix('.onnx')} {facts['top1']:.1f} %" for name, facts in scores.items())
    return "top-1 in ONNX Runtime: " + ", ".join(parts)


STAGE = Stage(
    name="precision",
    version=2,
    inputs=("data", "distill", "export"),
    arguments=_arguments,
    run=_run,
    summary=_summary,
    environment=_environment,
    volatile=frozenset({"timing.json"}),
)
