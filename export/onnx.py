"""From a module to an ONNX file, and the proof that both compute the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from export import graph, graph_rewrites
from export.errors import ExportError, ParityError
from export.quiet import quiet
from export.runtime.cpu import usable_cores
from export.runtime.files import sha256

MIN_OPSET, MAX_OPSET = 18, 23
_EMPTY: Mapping[str, str] = {}

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


def export_onnx(
    module: nn.Module,
    example: torch.Tensor,
    path: Path,
    *,
    opset: int = 20,
    dynamic_batch: bool,
    input_name: str = "image",
    output_name: str = "logits",
    metadata: Mapping[str, str] = _EMPTY,
) -> dict[str, Any]:
    """Write `module` as one ONNX file and return its description (see `describe`).

    Args:
        module: takes a tensor like `example`, returns float32 logits [B, C]. Exported in eval mode; its
            training flag and device are left as they were.
        example: uint8 [B, H, W, 3], or float32 [B, 3, H, W] already normalised. Only shape and type matter.
        path: where to write; on failure nothing is written there.
        opset: 19 is the floor for FP16 Q/DQ, 20 the ceiling of the parser in TensorRT 10.0 to 10.3.
        dynamic_batch: leave the batch open; otherwise it is fixed to the batch of `example`.
        input_name: the name of the graph's input.
        output_name: the name of the graph's output.
        metadata: stored in the file, sorted by key. Anything that changes between runs costs byte equality.

    The graph is always exported with an open batch, then cleaned: node metadata (which holds local paths)
    goes, normalisation becomes one Mul and one Add, reshape targets become constants. A simplified graph
    (onnxslim) is used only where it reproduces the outputs of the one before it. Equal arguments give equal
    bytes.

    Raises:
        ExportError: the module cannot be exported, with the exporter's own reason.
    """
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise ExportError(
            f"opset {opset} is not supported", f"use {MIN_OPSET} to {MAX_OPSET}; 20 suits all engines"
        )
    if example.ndim != 4 or example.dtype not in (torch.uint8, torch.float32):
        raise ExportError(
            f"the example input is {example.dtype} {list(example.shape)}",
            "give uint8 [B, H, W, 3] or float32 [B, 3, H, W]",
        )
    model = _export(module, example, opset, input_name, output_name)
    graph.strip_metadata(model)
    graph.name_batch(model)
    graph_rewrites.constant_reshapes(model)
    graph_rewrites.global_pools(model)
    graph_rewrites.shapes_of_planes(model)
    graph_rewrites.fold_normalisation(model)
    graph.prune(model)
    graph.infer_shapes(model)
    model = _slimmed(model)
    graph.name_nodes(model)
    graph.set_metadata(model, metadata)
    if not dynamic_batch:
        graph.fix_batch(model, int(example.shape[0]))
    graph.save_model(model, Path(path))
    return describe(path)


def fix_batch(path: Path, out: Path, batch: int) -> Path:
    """Write the ONNX file at `path` with a batch of exactly `batch` images to `out`; returns `out`.

    Raises:
        ExportError: the file has another fixed batch already, or `batch` is below 1.
    """
    model = graph.load_model(Path(path))
    graph.fix_batch(model, batch)
    graph.save_model(model, Path(out))
    return Path(out)


@dataclass(frozen=True)
class ParityCase:
    """One comparison of an ONNX file with its module.

    Attributes:
        input: index of the images.
        batch: how they were cut.
        n: images.
        max_abs: largest |difference| of logits.
        allowed: what it may be.
        cosine: smallest of any image's two logit vectors.
        top1_agreement: fraction of images with the same class.
        ok: finite, within both tolerances, and no image changes its class except where the module's two best logits
            lie closer together than twice the allowed difference.
    """

    input: int
    batch: int
    n: int
    max_abs: float
    allowed: float
    cosine: float
    top1_agreement: float
    ok: bool


@dataclass(frozen=True)
class Parity:
    """What `check_parity` found."""

    cases: list[ParityCase]
    min_cosine: float
    """Smallest allowed cosine."""

    @property
    def ok(self) -> bool:
        """Every case is."""
        return all(case.ok for case in self.cases)


def check_parity(
    module: nn.Module,
    onnx_path: Path,
    inputs: Sequence[Array],
    *,
    max_abs: float = 1e-3,
    min_cosine: float = 0.9999,
    batch_sizes: Sequence[int] | None = None,
) -> Parity:
    """Compare an ONNX file, run by ONNX Runtime on the CPU, with the module that it came from.

    Args:
        module: returns float32 logits [B, C]; run in eval mode on its own device.
        onnx_path: the file.
        inputs: arrays [N, ...] of the input's type; real images and random ones find different faults.
        max_abs: largest allowed |difference|, times the larger of 1 and the largest |logit| of the case.
        min_cosine: smallest allowed cosine of any image's two logit vectors (float64).
        batch_sizes: how to cut each array; by default the file's fixed batch, or 1 and 3 where it is open. An
            array that is not a multiple is padded with its own first rows; these are not compared.

    Raises:
        ExportError: no images, or the module's own outputs are not finite.
    """
    session = _session(onnx_path)
    fixed = session.get_inputs()[0].shape[0]
    if batch_sizes is None:
        batch_sizes = (fixed,) if isinstance(fixed, int) else (1, 3)
    cases = []
    for index, array in enumerate(inputs):
        if len(array) == 0:
            raise ExportError("the parity check was given no images", "give at least one")
        expected = _module_logits(module, array)
        if lost := int((~np.isfinite(expected)).any(axis=1).sum()):
            raise ExportError(
                f"the network itself gives outputs that are not finite on {lost} of {len(array)} images",
                "the export is not at fault: train it again with a lower learning rate",
            )
        for batch in batch_sizes:
            actual = _session_logits(session, array, int(batch))
            cases.append(_compare(index, int(batch), expected, actual, max_abs, min_cosine))
    if not cases:
        raise ExportError("the parity check was given no images", "give at least one")
    return Parity(cases, min_cosine)


def require_parity(report: Parity) -> None:
    """Raise unless every case of a `check_parity` report is ok.

    Raises:
        ParityError: names the worst case and its numbers.
    """
    if report.ok:
        return
    failed = [case for case in report.cases if not case.ok]
    worst = max(failed, key=lambda case: math.inf if not math.isfinite(case.max_abs) else case.max_abs)
    raise ParityError(
        f"the ONNX file does not match the module in {len(failed)} of {len(report.cases)} checks: "
        f"at batch {worst.batch} the largest difference is {worst.max_abs:.3g} "
        f"(allowed {worst.allowed:.3g}), the smallest cosine {worst.cosine:.6f} "
        f"(at least {report.min_cosine}), "
        f"top-1 agreement {100 * worst.top1_agreement:.2f} % of {worst.n} images",
        "look for layers whose result depends on the batch or on training mode, or try another opset",
    )


def describe(path: Path) -> dict[str, Any]:
    """Facts about an ONNX file.

    Returns:
        `opset`, `ir`, `ops` (type to count, most frequent first), `nodes`, `inputs` and `outputs` (name,
        dtype, shape with names for open dimensions), `bytes`, `parameters` (elements of floating-point and
        8-bit initializers), `dynamic_batch`, `producer`, `metadata`, `sha256`.
    """
    path = Path(path)
    model = graph.load_model(path)
    histogram: dict[str, int] = {}
    for node in model.graph.node:
        histogram[node.op_type] = histogram.get(node.op_type, 0) + 1
    counted = (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT8,
        onnx.TensorProto.UINT8,
    )
    data = path.with_name(f"{path.name}.data")
    return {
        "opset": graph.opset(model),
        "ir": int(model.ir_version),
        "ops": dict(sorted(histogram.items(), key=lambda item: (-item[1], item[0]))),
        "nodes": len(model.graph.node),
        "inputs": [_describe_value(value) for value in model.graph.input],
        "outputs": [_describe_value(value) for value in model.graph.output],
        "bytes": path.stat().st_size + (data.stat().st_size if data.exists() else 0),
        "parameters": sum(
            math.prod(t.dims) for t in model.graph.initializer if t.data_type in counted and t.dims
        ),
        "dynamic_batch": graph.batch_size(model) is None,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
        "sha256": sha256(path),
    }


def _export(
    module: nn.Module, example: torch.Tensor, opset: int, input_name: str, output_name: str
) -> onnx.ModelProto:
    # Sizes 0 and 1 are specialised by torch.export, so the traced batch is 2 whatever the caller's example
    # has.
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    traced = example[:1].detach().to(device).repeat(2, 1, 1, 1)
    was_training = module.training
    module.eval()
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(
                module, (traced,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False
            )
            _plain_global_pools(program)
            exported = torch.onnx.export(
                program,
                (traced,),
                dynamo=True,
                opset_version=opset,
                input_names=[input_name],
                output_names=[output_name],
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise ExportError(
            f"the module {type(module).__name__} cannot be exported to ONNX: {reason}",
            "the forward pass must not branch on values, and must accept any batch size",
        ) from error
    finally:
        module.train(was_training)
    assert exported is not None  # dynamo export always returns a program
    model: onnx.ModelProto = exported.model_proto
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise ExportError("the module must take one tensor and return one tensor")
    return model


def _plain_global_pools(program: torch.export.ExportedProgram) -> None:
    """Replace adaptive pooling to 1x1 by a mean.

    On a channels-last input (and a permuted NHWC image is one) PyTorch decomposes it into a mean and an
    `as_strided`, which becomes `Range`, `Gather` and index arithmetic in ONNX.
    """
    aten = torch.ops.aten
    nodes = program.graph_module.graph
    for node in list(nodes.nodes):
        if node.op != "call_function" or node.target is not aten.adaptive_avg_pool2d.default:
            continue
        if list(node.args[1]) != [1, 1]:
            continue
        with nodes.inserting_before(node):
            mean = nodes.call_function(aten.mean.dim, (node.args[0], [2, 3], True))
            mean.meta = dict(node.meta)
        node.replace_all_uses_with(mean)
        nodes.erase_node(node)
    program.graph_module.recompile()


def _slimmed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph simplified by onnxslim where that shortens it and keeps its outputs, else as it was."""
    if model.ByteSize() > 2**30:
        return model
    import onnxslim

    try:
        with quiet():
            before = onnx.ModelProto()
            before.CopyFrom(model)
            slim: onnx.ModelProto = onnxslim.slim(before)
        graph.strip_metadata(slim)
        graph.prune(slim)
        graph.infer_shapes(slim)
        if len(slim.graph.node) >= len(model.graph.node) or graph.batch_size(slim) != graph.batch_size(model):
            return model
        rng = np.random.default_rng(0)
        value = model.graph.input[0]
        shape = [int(dim) for dim in graph.shape_of(value)[1:]]
        integers = value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        for batch in (1, 3):
            sample: Array = (
                rng.integers(0, 256, (batch, *shape), np.uint8)
                if integers
                else rng.standard_normal((batch, *shape)).astype(np.float32)
            )
            first, second = (
                _session(m.SerializeToString()).run(None, _feed(m, sample))[0] for m in (model, slim)
            )
            if not np.allclose(first, second, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(first).max()))):
                return model
    except Exception:  # a simplifier that fails costs nothing: the graph is good as it is
        return model
    return slim


def _feed(model: onnx.ModelProto, sample: Array) -> dict[str, Array]:
    return {model.graph.input[0].name: sample}


def _session(source: Path | str | bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = usable_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # nothing is timed here
    model = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=["WeightBiasQuantization"]
        )
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load the exported graph: {error}") from error


def _module_logits(module: nn.Module, array: Array, batch: int = 64) -> Array:
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():  # copies, because PyTorch warns of read-only memory
            parts = [
                module(torch.from_numpy(np.array(array[i : i + batch])).to(device)).float().cpu().numpy()
                for i in range(0, len(array), batch)
            ]
    finally:
        module.train(was_training)
    return np.concatenate(parts)


def _session_logits(session: Any, array: Array, batch: int) -> Array:
    name = session.get_inputs()[0].name
    rows = np.arange(math.ceil(len(array) / batch) * batch) % len(array)
    parts = [
        session.run(None, {name: np.ascontiguousarray(array[rows[i : i + batch]])})[0]
        for i in range(0, len(rows), batch)
    ]
    return np.concatenate(parts)[: len(array)]


def _compare(
    index: int, batch: int, expected: Array, actual: Array, max_abs: float, min_cosine: float
) -> ParityCase:
    reference, other = expected.astype(np.float64), actual.astype(np.float64)
    if reference.shape != other.shape:
        raise ParityError(f"the module returns {reference.shape}, the ONNX file {other.shape}")
    finite = bool(np.isfinite(reference).all() and np.isfinite(other).all())
    allowed = max_abs * max(1.0, float(np.abs(reference).max())) if finite else max_abs
    difference = float(np.abs(reference - other).max()) if finite else math.inf
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(other, axis=1)
    dots = (reference * other).sum(axis=1)
    same = (reference == other).all(axis=1)
    cosines = np.where(same, 1.0, dots / np.where(norms > 0, norms, 1.0))
    cosine = float(cosines.min()) if finite else 0.0
    agrees = reference.argmax(axis=1) == other.argmax(axis=1)
    ordered = np.sort(reference, axis=1)
    margin = ordered[:, -1] - ordered[:, -2] if reference.shape[1] > 1 else np.full(len(reference), math.inf)
    decided = agrees | (margin <= 2 * allowed)
    return ParityCase(
        input=index,
        batch=batch,
        n=len(reference),
        max_abs=difference,
        allowed=allowed,
        cosine=cosine,
        top1_agreement=float(agrees.mean()),
        ok=finite and difference <= allowed and cosine >= min_cosine and bool(decided.all()),
    )


def _describe_value(value: onnx.ValueInfoProto) -> dict[str, object]:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    return {"name": value.name, "dtype": dtype, "shape": graph.shape_of(value)}
