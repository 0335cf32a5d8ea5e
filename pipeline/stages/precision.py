"""`precision`: FP32, FP16, BF16 and INT8 as ONNX files, and what each costs in accuracy on the whole test set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import environment
from pipeline.config.schema import DeployConfig
from pipeline.files import read_json, write_json
from pipeline.stages.base import Stage, Work
from pipeline.stages.inputs import graph_inputs
from pipeline.stages.mixed import mixed_precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.engines.protocol import Engine
    from export.precision import Observed
    from figkd.data import SplitName


DEFAULT_MAX_DROP = 1.0
"""Loss of INT8 against FP32 that is accepted where no budget says otherwise, percentage points."""


def _arguments(config: DeployConfig, _target: str) -> dict[str, Any]:
    precision = config.precision
    engines = {target.engine for target in config.targets.values()}
    modes = sorted({"fp32", *precision.modes})
    arguments: dict[str, Any] = {
        "modes": modes,
        "image_size": config.data.image_size,
        "input": config.export.input,
        "seed": config.seed,
        # Each layout is made only where a target reads it.
        "layouts": sorted({"onnxruntime" if e == "onnxruntime" else "tensorrt" for e in engines}),
    }
    if set(modes) & {"fp16", "bf16", "int8"}:
        arguments["half"] = {
            "keep_fp32": precision.keep_fp32,
            "force_fp16": precision.force_fp16,
            "calibration_images": precision.calibration_images,
        }
    if "int8" in modes:
        keys = (
            "calibration_method", "percentile", "weights", "exclude", "without_rules", "validation_images",
        )  # fmt: skip
        arguments["int8"] = {key: getattr(precision, key) for key in keys} | {
            "max_drop": allowed_drop(config)
        }
    return arguments


def allowed_drop(config: DeployConfig) -> float | None:
    """Points of top-1 that INT8 may lose before groups are taken out of it; None where none are."""
    if config.precision.mixed == "never":
        return None
    if config.precision.int8_max_drop is not None:
        return config.precision.int8_max_drop
    goal = config.budgets.top1
    concerns = goal is not None and (goal.precision is None or "int8" in goal.precision)
    return goal.max_drop if goal and concerns and goal.max_drop is not None else DEFAULT_MAX_DROP


def _environment(arguments: Mapping[str, Any]) -> dict[str, str]:
    facts = environment.versions(("onnx", "onnxruntime"))
    # On x86 CPUs without VNNI, ONNX Runtime's INT8 weights get one bit less, so that 16-bit sums cannot saturate.
    return facts | ({"cpu": environment.cpu_model()} if "int8" in arguments["modes"] else {})


def onnx_file(engine: str, precision: str) -> str:
    """The file that a back end builds a precision from: ONNX Runtime's CPU wants another INT8 layout."""
    return "int8_cpu.onnx" if precision == "int8" and engine == "onnxruntime" else f"{precision}.onnx"


def _run(work: Work) -> None:
    import shutil

    from figkd.data import class_names, open_split

    data = work.inputs["data"]
    source = work.inputs["export"] / "student.onnx"
    shutil.copyfile(source, work.out / "fp32.onnx")
    facts: dict[str, Any] = {"fp32.onnx": {"bytes": source.stat().st_size}}
    facts |= _make(work, source)

    test = open_split(data, "test")
    names = class_names(data)
    reference = read_logits(work.inputs["distill"] / "test_logits.npy")
    scores: dict[str, Any] = {}
    for done, name in enumerate(facts):
        work.progress(done, len(facts), f"accuracy of {name}")
        engine = onnx_engine(work.out / name)
        try:
            scores[name] = score(engine, inputs_of(work, test.images), test.labels, names, reference)
        finally:
            engine.close()
    write_json(work.out / "timing.json", {n: s.pop("seconds") for n, s in facts.items() if "seconds" in s})
    write_json(
        work.out / "precision.json",
        {n: {k: v for k, v in s.items() if k != "file"} for n, s in facts.items()},
    )
    write_json(work.out / "accuracy.json", scores)
    work.progress(len(facts), len(facts), "done")


def _make(work: Work, source: Path) -> dict[str, dict[str, Any]]:
    """Write the files of all modes but FP32; what their makers say, by file name."""
    from export import precision

    arguments = work.arguments
    facts: dict[str, dict[str, Any]] = {}
    if "half" not in arguments:
        return facts
    half, keys = arguments["half"], arguments.get("int8")
    keep = (*precision.DEFAULT_KEEP_FP32, *half["keep_fp32"])
    seen: precision.Observed | None = None
    if "int8" in arguments["modes"] or half["calibration_images"]:
        seen = precision.observe_file(
            source,
            calibration_batches(work, half["calibration_images"]),
            histograms=keys is not None and keys["calibration_method"] != "minmax",
            least=precision.MIN_CALIBRATION_IMAGES if keys else 1,
            progress=work.progress,
        )
    if "fp16" in arguments["modes"]:
        facts["fp16.onnx"] = precision.to_fp16(
            source, work.out / "fp16.onnx", keep_fp32=keep, force_fp16=half["force_fp16"], seen=seen
        )
    if "bf16" in arguments["modes"]:
        facts["bf16.onnx"] = precision.to_bf16(source, work.out / "bf16.onnx", keep_fp32=keep)
    if keys and seen:
        for layout in arguments["layouts"]:
            name = onnx_file(layout, "int8")
            facts[name] = _int8(work, source, layout, seen, work.out / name)
    return facts


def _int8(work: Work, source: Path, layout: str, seen: Observed, out: Path) -> dict[str, Any]:
    """Write the INT8 file of a layout, groups that cost too much left out; what its maker says."""
    from export import precision

    half, keys = work.arguments["half"], work.arguments["int8"]
    options: dict[str, Any] = {
        "method": keys["calibration_method"],
        **{key: keys[key] for key in ("percentile", "weights", "exclude", "without_rules")},
    }
    facts: dict[str, Any] = {"mixed": None}
    if keys["max_drop"] is not None:
        images, labels = balanced_images(work, "val", keys["validation_images"])
        outcome, macs = mixed_precision(work, source, layout, seen, images, labels)
        options["returned"] = outcome.nodes
        facts["mixed"] = outcome.facts(macs) | {"n": len(labels)}
    if layout == "tensorrt":
        options["keep_fp32"] = (*precision.DEFAULT_KEEP_FP32, *half["keep_fp32"])
        return precision.to_int8_tensorrt(source, out, seen, force_fp16=half["force_fp16"], **options) | facts
    return precision.to_int8_onnxruntime(source, out, seen, **options) | facts


def onnx_engine(path: Path, threads: int | None = None) -> Engine:
    """An ONNX file in ONNX Runtime on the CPU; a BF16 file as its emulation, as there are no kernels for it."""
    from export.engines import BACKENDS

    threads = threads or environment.cores()
    if path.name == onnx_file("", "bf16"):
        from export import graph
        from export.engines.onnxruntime import CPU, OnnxRuntimeEngine
        from export.precision import emulated

        return OnnxRuntimeEngine(emulated(graph.load_model(path)).SerializeToString(), threads, CPU)
    return BACKENDS["onnxruntime"].load(path, threads=threads)


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
    images, _ = balanced_images(work, "train", count)
    return [images[i : i + 1] for i in range(len(images))]


def balanced_images(
    work: Work, part: SplitName, count: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Up to `count` class-balanced, seeded images of a split as the graph takes them, and their classes."""
    import numpy as np

    from figkd.data import open_split

    split = open_split(work.inputs["data"], part)
    random = np.random.default_rng(work.arguments["seed"])
    # One image of each class in turn, so that any count is as balanced as it can be.
    per_class = [random.permutation(np.flatnonzero(split.labels == c)) for c in np.unique(split.labels)]
    longest = max(len(members) for members in per_class)
    turns = [members[i] for i in range(longest) for members in per_class if i < len(members)]
    chosen = np.sort(np.array(turns[:count]))
    return inputs_of(work, split.images[chosen]), split.labels[chosen]


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
    scores, facts = read_json(out / "accuracy.json"), read_json(out / "precision.json")
    parts = [f"{name.removesuffix('.onnx')} {found['top1']:.1f} %" for name, found in scores.items()]
    said = "top-1 in ONNX Runtime: " + ", ".join(parts)
    for name, file in facts.items():
        if returned := (file.get("mixed") or {}).get("returned"):
            share = sum(group["macs_percent"] for group in returned)
            groups = f"{len(returned)} group{'s' * (len(returned) > 1)}"
            said += f"; {name.removesuffix('.onnx')}: {groups} out of INT8 ({share:.0f} % of the work)"
    return said


STAGE = Stage(
    name="precision",
    version=4,
    inputs=("data", "distill", "export"),
    arguments=_arguments,
    run=_run,
    summary=_summary,
    environment=_environment,
    volatile=frozenset({"timing.json"}),
)
