"""Automatic mixed precision of one INT8 layout, scored in ONNX Runtime on validation images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.cpu_layouts import cpu_of
from pipeline.core.files import read_json, write_json
from pipeline.places import environment
from pipeline.places.int8_layouts import TENSORRT, exact_here
from pipeline.stages.base import Work

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

    from export.precision import Observed
    from export.precision.sensitivity import Outcome, Score

    Images = npt.NDArray[Any]
    Labels = npt.NDArray[np.int64]


def mixed_precision(
    work: Work,
    source: Path,
    layout: str,
    seen: Observed,
    images: Images,
    labels: Labels,
) -> tuple[Outcome, int]:
    """Search which groups of `source` must leave INT8 for `layout` to stay within the stage's budget.

    Args:
        work: its arguments have `int8` and `half`, keys of the config's section; scores are remembered in its scratch
            folder, so that an interrupted search goes on.
        source: the FP32 file.
        layout: `tensorrt`, or the name of a layout for CPUs.
        seen: activations on the calibration images.
        images: validation images as the graph takes them.
        labels: their classes [N].

    Returns:
        What was found, and the multiply-adds of the graph.
    """
    from export import precision
    from export.macs import multiply_adds
    from export.precision import sensitivity
    from export.precision.names import matching_nodes

    keys, half = work.arguments["int8"], work.arguments["half"]
    model = precision.load_fp32(source)
    tensorrt = layout == TENSORRT
    found = precision.ranges(
        seen, method=keys["calibration_method"], percentile=keys["percentile"], signed=tensorrt
    )
    fixed = matching_nodes(model, keys["exclude"])
    if tensorrt:
        kept = (*precision.DEFAULT_KEEP_FP32, *half["keep_fp32"])
        fixed |= {f.node for f in precision.out_of_range(model, seen, kept, half["force_fp16"])}
    options = {"weights": keys["weights"], "without_rules": keys["without_rules"]}
    quantise: Callable[..., onnx.ModelProto] = (
        precision.quantise_for_tensorrt
        if tensorrt
        else functools.partial(precision.quantise_for_onnxruntime, cpu=cpu_of(layout))
    )
    exact = _logits(model, images)

    def score(returned: frozenset[str]) -> Score:
        graph = quantise(model, found, excluded=fixed | returned, **options)
        return sensitivity.score_of(_logits(graph, images, int8_kernels=exact_here(layout)), labels, exact)

    products = precision.int8_nodes(quantise(model, found, excluded=fixed, **options))
    outcome = sensitivity.search(
        sensitivity.groups(model, products),
        remembered(work.scratch / f"mixed-{layout}.json", score),
        reference=sensitivity.score_of(exact, labels, exact).top1,
        max_drop=keys["max_drop"],
        progress=lambda done, total, note: work.progress(done, total, f"mixed precision, {layout}: {note}"),
    )
    return outcome, sum(multiply_adds(model).values())


def remembered(path: Path, score: Callable[[frozenset[str]], Score]) -> Callable[[frozenset[str]], Score]:
    """`score` with its results kept in the JSON file `path`; what is there already is not computed again.

    The folder of the file belongs to one set of arguments and inputs, so the nodes are the whole key.
    """
    from export.precision.sensitivity import Score

    known = _known(path)

    def lookup(returned: frozenset[str]) -> Score:
        key = " ".join(sorted(returned))
        if key not in known:
            found = score(returned)
            known[key] = [found.top1, found.divergence]
            write_json(path, known)
        return Score(*known[key])

    return lookup


def _known(path: Path) -> dict[str, list[float]]:
    """The results in a file; none if it is absent, or not what `remembered` writes."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {
        key: pair for key, pair in pairs if isinstance(pair, list) and [*map(type, pair)] == [float, float]
    }


def _logits(model: onnx.ModelProto, images: Images, *, int8_kernels: bool = True) -> Images:
    from export.engines.onnxruntime import CPU, OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(
        model.SerializeToString(), environment.cores(), CPU, spinning=False, int8_kernels=int8_kernels
    )
    try:
        return engine.infer(images)
    finally:
        engine.close()
