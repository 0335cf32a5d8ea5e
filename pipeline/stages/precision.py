"""`precision`: FP32, FP16, BF16 and INT8 as ONNX files, and what each costs in accuracy on the whole test set."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.cpu_layouts import CPU_LAYOUTS, cpu_of
from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json, write_json
from pipeline.places import environment
from pipeline.places.images import Images
from pipeline.places.int8_layouts import TENSORRT, Layouts, exact_here
from pipeline.results.class_order import in_order
from pipeline.results.rows.engines import NotMade, read_not_made, write_not_made
from pipeline.results.rows.scores import Score, read_scores, write_scores
from pipeline.stages.base import Arguments, Stage, Work
from pipeline.stages.engines import read_logits
from pipeline.stages.mixed import mixed_precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.engines.protocol import Engine
    from export.errors import ExportError
    from export.precision import Observed
    from figkd.data import SplitName


DEFAULT_MAX_DROP = 1.0
"""Loss of INT8 against FP32 that is accepted where no budget says otherwise, percentage points."""


def _arguments(config: DeployConfig, _target: str) -> Arguments:
    precision = config.precision
    modes = sorted({"fp32", *precision.modes})
    arguments: Arguments = {
        "modes": modes,
        "image_size": config.data.image_size,
        "input": config.export.input,
        "seed": config.seed,
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


def _layout_arguments(_config: DeployConfig, _target: str, layouts: Layouts) -> Arguments:
    """Each layout is made only where a target reads it; targets with the same one share the file."""
    return {"layouts": sorted(set(layouts.values()))}


def allowed_drop(config: DeployConfig) -> float | None:
    """Points of top-1 that INT8 may lose before groups are taken out of it; None where none are."""
    if config.precision.mixed == "never":
        return None
    if config.precision.int8_max_drop is not None:
        return config.precision.int8_max_drop
    goal = config.budgets.top1
    concerns = goal is not None and (goal.precision is None or "int8" in goal.precision)
    return goal.max_drop if goal and concerns and goal.max_drop is not None else DEFAULT_MAX_DROP


def _environment(_arguments: Mapping[str, Any]) -> dict[str, str]:
    return environment.versions(("onnx", "onnxruntime"))


def onnx_file(precision: str, layout: str = TENSORRT) -> str:
    """The file of a precision; of INT8 each layout has its own: `int8.onnx`, `int8_cpu_u8s8.onnx`, ..."""
    return f"int8_cpu_{layout}.onnx" if precision == "int8" and layout != TENSORRT else f"{precision}.onnx"


def _run(work: Work) -> None:
    import shutil

    from export.errors import EngineError
    from figkd.data import class_names, open_split

    data = work.inputs["data"]
    source = work.inputs["export"] / "student.onnx"
    shutil.copyfile(source, work.out / "fp32.onnx")
    facts: Arguments = {"fp32.onnx": {"bytes": source.stat().st_size}}
    made, lacking = make_files(work, source, functools.partial(calibration_batches, work))
    facts |= made

    test = open_split(data, "test")
    names = class_names(data)
    reference = read_logits(work.inputs["distill"] / "test_logits.npy")
    scores: dict[str, Score] = {}
    for done, name in enumerate(list(facts)):
        work.progress(done, len(facts), f"accuracy of {name}")
        try:
            engine = onnx_engine(work.out / name)
        except EngineError as error:
            if name == "fp32.onnx":
                raise
            lacking[name] = error
            del facts[name]
            (work.out / name).unlink()
            continue
        try:
            scores[name] = score(engine, inputs_of(work, test.images), test.labels, names, reference)
        finally:
            engine.close()
    write_not_made(work.out, {name: NotMade(detail=e.what, fix=e.fix) for name, e in lacking.items()})
    write_json(work.out / "timing.json", {n: s.pop("seconds") for n, s in facts.items() if "seconds" in s})
    write_json(
        work.out / "precision.json",
        {n: {k: v for k, v in s.items() if k != "file"} for n, s in facts.items()},
    )
    write_scores(work.out, scores)
    work.progress(len(facts), len(facts), "done")


def make_files(
    work: Work, source: Path, batches: Callable[[int], list[npt.NDArray[Any]]]
) -> tuple[dict[str, Arguments], dict[str, ExportError]]:
    """Write the files of all modes but FP32.

    Args:
        work: with the stage's arguments.
        source: the FP32 file.
        batches: gives up to so many images, one a batch, as the graph takes them, to see its activations with.

    Returns:
        What their makers say, and why some cannot be made, by file name.
    """
    from export import precision
    from export.errors import ExportError, PrecisionError

    arguments = work.arguments
    facts: dict[str, Arguments] = {}
    lacking: dict[str, ExportError] = {}
    if "half" not in arguments:
        return facts, lacking
    half, keys = arguments["half"], arguments.get("int8")
    keep = (*precision.DEFAULT_KEEP_FP32, *half["keep_fp32"])
    seen: precision.Observed | None = None
    blind: PrecisionError | None = None
    if keys or half["calibration_images"]:
        try:
            seen = precision.observe_file(
                source,
                batches(half["calibration_images"]),
                histograms=keys is not None and keys["calibration_method"] != "minmax",
                least=1,
                progress=work.progress,
            )
        except PrecisionError as error:
            blind = error

    def attempt(name: str, make: Callable[[], Arguments]) -> None:
        try:
            facts[name] = make()
        except ExportError as error:
            lacking[name] = error
            (work.out / name).unlink(missing_ok=True)

    def fp16() -> Arguments:
        if blind:
            raise blind
        return precision.to_fp16(
            source, work.out / "fp16.onnx", keep_fp32=keep, force_fp16=half["force_fp16"], seen=seen
        )

    def int8(layout: str) -> Arguments:
        if seen is None:
            raise blind or PrecisionError("no calibration images were looked at")
        if seen.images < precision.MIN_CALIBRATION_IMAGES:
            raise PrecisionError(
                f"INT8 needs at least {precision.MIN_CALIBRATION_IMAGES} training images to calibrate, there are "
                f"{seen.images}",
                "add images, or take int8 out of precision.modes",
            )
        return _int8(work, source, layout, seen, work.out / onnx_file("int8", layout))

    if "fp16" in arguments["modes"]:
        attempt("fp16.onnx", fp16)
    if "bf16" in arguments["modes"]:
        attempt("bf16.onnx", lambda: precision.to_bf16(source, work.out / "bf16.onnx", keep_fp32=keep))
    for layout in arguments["layouts"] if keys else ():
        attempt(onnx_file("int8", layout), functools.partial(int8, layout))
    return facts, lacking


def _int8(work: Work, source: Path, layout: str, seen: Observed, out: Path) -> Arguments:
    """Write the INT8 file of a layout, groups that cost too much left out; what its maker says."""
    from export import precision

    half, keys = work.arguments["half"], work.arguments["int8"]
    options: Arguments = {
        "method": keys["calibration_method"],
        **{key: keys[key] for key in ("percentile", "weights", "exclude", "without_rules")},
    }
    facts: Arguments = {"mixed": None}
    if keys["max_drop"] is not None:
        images, labels = balanced_images(work, "val", keys["validation_images"])
        outcome, macs = mixed_precision(work, source, layout, seen, images, labels)
        options["returned"] = outcome.nodes
        facts["mixed"] = outcome.facts(macs) | {"n": len(labels)}
    if layout == TENSORRT:
        options["keep_fp32"] = (*precision.DEFAULT_KEEP_FP32, *half["keep_fp32"])
        return precision.to_int8_tensorrt(source, out, seen, force_fp16=half["force_fp16"], **options) | facts
    return precision.to_int8_onnxruntime(source, out, seen, cpu=cpu_of(layout), **options) | facts


def onnx_engine(path: Path, threads: int | None = None) -> Engine:
    """An ONNX file in ONNX Runtime on the CPU, computed as where it will run.

    A BF16 file is emulated, as there are no kernels for it; so is an INT8 file whose sums this CPU cannot hold.
    """
    from export.engines import BACKENDS

    threads = threads or environment.cores()
    if path.name == onnx_file("bf16"):
        from export import graph
        from export.engines.onnxruntime import CPU, OnnxRuntimeEngine
        from export.precision import emulated

        return OnnxRuntimeEngine(
            emulated(graph.load_model(path)).SerializeToString(), threads, CPU, spinning=False
        )
    foreign = (n for n in CPU_LAYOUTS if path.name == onnx_file("int8", n) and not exact_here(n))
    if any(foreign):
        from export.engines.onnxruntime import CPU, OnnxRuntimeEngine

        return OnnxRuntimeEngine(str(path), threads, CPU, spinning=False, int8_kernels=False)
    return BACKENDS["onnxruntime"].load(path, threads=threads, spinning=False)


def images_of(work: Work, stored: npt.NDArray[np.uint8]) -> Images:
    """Stored images for a stage whose arguments have `image_size` and `input`."""
    student = work.inputs["distill"] / "model.pt" if "distill" in work.inputs else None
    return Images(stored, work.arguments["image_size"], work.arguments["input"], student)


def inputs_of(work: Work, stored: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """The same as the graph takes them."""
    return images_of(work, stored).inputs()


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
    *,
    order: Sequence[int] | None = None,
) -> Score:
    """Run an engine over a data set and score it; `order` is of the engine's columns (`results.class_order`)."""
    from export.accuracy import identical_rows

    logits = in_order(engine.infer(images), order)
    # One image several times: rows of a batch, or calls of a batch-1 engine, must not differ.
    same = identical_rows(engine, images[0], max((4, *engine.batch_sizes)))
    return score_of(logits, labels, names, reference, identical_rows=same)


def score_of(
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    names: list[str],
    reference: npt.NDArray[np.float32] | None,
    *,
    identical_rows: bool,
    source: str = "",
) -> Score:
    """Score what was answered to a data set; the fields are those of `Score`."""
    from export.accuracy import accuracy

    figures = accuracy(logits, labels, names, reference_logits=reference)
    return Score.model_validate(asdict(figures) | {"identical_rows": identical_rows, "source": source})


def _summary(out: Path) -> str:
    scores, facts = read_scores(out), read_json(out / "precision.json")
    parts = [f"{name.removesuffix('.onnx')} {found.top1:.1f} %" for name, found in scores.items()]
    said = "top-1 in ONNX Runtime: " + ", ".join(parts)
    for name, file in facts.items():
        if returned := (file.get("mixed") or {}).get("returned"):
            share = sum(group["macs_percent"] for group in returned)
            groups = f"{len(returned)} group{'s' * (len(returned) > 1)}"
            said += f"; {name.removesuffix('.onnx')}: {groups} out of INT8 ({share:.0f} % of the work)"
    for name, why in read_not_made(out).items():
        said += f"; {name.removesuffix('.onnx')} not made: {why.detail}"
    return said


STAGE = Stage(
    name="precision",
    does="FP32, FP16, BF16, INT8 as ONNX files, INT8 as each library and CPU reads it; what harms it most stays "
    "out of it",
    leaves="files, accuracy of each, what was kept out and why",
    version=9,
    inputs=("data", "distill", "export"),
    arguments=_arguments,
    layout_arguments=_layout_arguments,
    run=_run,
    summary=_summary,
    environment=_environment,
    volatile=frozenset({"timing.json"}),
)
