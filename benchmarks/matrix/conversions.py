"""One student's conversions with the package's own functions: torch, ONNX, FP16 and INT8, engines. One row a cell.

A row is a dictionary that JSON can hold: `student`, `precision`, `engine` and `state`:

- `ok`: made, run in ONNX Runtime, finite, and as close to torch as its precision must be;
- `built`: the engine is made and was not run: there is no GPU;
- `refused`: the library does not take this combination, and says so itself (`detail`);
- `failed`: anything else; `detail` holds the exact message.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from students import Student
from torch import nn

from export import graph, onnx, precision
from export.engines import BACKENDS, trt_operators
from export.errors import ExportError
from figkd.models import ImageClassifier, build_model, reparameterize_for_export
from pipeline.core.files import read_json, write_json

CLASSES, OPSET = 100, 20
CALIBRATION_IMAGES, CHECKED_IMAGES = 64, 16
CAPABILITIES = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")
PRECISIONS = ("fp32", "fp16", "int8", "int8_cpu")
# Smallest cosine of an image's logits with torch's. INT8 has none: of a network without training it says little.
TOLERANCE = {"fp32": 0.9999, "fp16": 0.999}
# Some networks of random weights amplify any rounding. FP16 that misses the cosine is judged by what rounding the
# input alone does, with the network in FP32: it may be this many dB noisier.
AMPLIFIED_DB = 10.0
_TOLD = ("make_seconds", "quantised_nodes", "int8_macs_percent", "fp32_nodes", "weights_flushed")
_LAYER_SCALE = 0.1
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)

Row = dict[str, Any]
Images = np.ndarray[tuple[int, ...], np.dtype[Any]]


class Cell(NamedTuple):
    """One cell of the matrix."""

    precision: str
    """`int8` is TensorRT's layout, `int8_cpu` that of ONNX Runtime's CPU."""
    engine: str
    """`onnxruntime`, or `tensorrt_rtx/SM86` and so on; `tensorrt_rtx/dynamic` has profiles for batch 1 and 4."""


def cells(capabilities: Sequence[str] = CAPABILITIES) -> Iterator[Cell]:
    """Every cell of one student, in the order in which they are made."""
    for name in PRECISIONS:
        yield Cell(name, "onnxruntime")
    for name in PRECISIONS[:-1]:
        for target in (*capabilities, "dynamic"):
            yield Cell(name, f"tensorrt_rtx/{target}")


def convert(
    student: Student,
    folder: Path,
    wanted: Sequence[Cell],
    keep: Callable[[Row], None],
    build: Callable[[str, int], nn.Module] | None = None,
) -> None:
    """Make the `wanted` cells of one student and hand each row to `keep` as soon as it is there.

    Args:
        student: the network.
        folder: for the ONNX files and engines.
        wanted: cells to make; an ONNX file that they need is made if it is absent.
        keep: takes a row.
        build: name and image size to module; the package's own by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = _Conversions(student, folder, build or _network)
    for cell in wanted:
        start = time.perf_counter()
        row: Row = {"student": student.name, "image_size": student.image_size, **cell._asdict()}
        try:
            row |= work.run(cell) if cell.engine == "onnxruntime" else work.built(cell)
        except ExportError as error:
            row |= {"state": _refusal(error.what), "detail": " ".join(error.what.split()), "fix": error.fix}
        except Exception as error:
            row |= {"state": "failed", "detail": " ".join(f"{type(error).__name__}: {error}".split())[:2000]}
        keep(row | {"seconds": round(time.perf_counter() - start, 2)})


class _Conversions:
    """What the cells of one student share, each made once."""

    def __init__(self, student: Student, folder: Path, build: Callable[[str, int], nn.Module]) -> None:
        self.student, self.folder, self._build = student, folder, build
        self._module: nn.Module | None = None
        self._reference: Images | None = None
        self._seen: precision.Observed | None = None

    @property
    def module(self) -> nn.Module:
        if self._module is None:
            torch.manual_seed(0)
            network = self._build(self.student.name, self.student.image_size)
            settle(network, images("train", CALIBRATION_IMAGES, self.student.image_size))
            self._module = reparameterize_for_export(network)
        return self._module

    @property
    def amplified(self) -> Row:
        """The error of torch's FP32 network where only its normalised input is rounded to FP16."""
        handle = self.module.get_submodule("backbone").register_forward_pre_hook(
            lambda _, inputs: tuple(tensor.half().float() for tensor in inputs)
        )
        try:
            with torch.no_grad():
                return errors(self.reference, self.module(torch.from_numpy(self.checked)).numpy())
        finally:
            handle.remove()

    @property
    def checked(self) -> Images:
        return images("test", CHECKED_IMAGES, self.student.image_size)

    @property
    def reference(self) -> Images:
        if self._reference is None:
            with torch.no_grad():
                self._reference = self.module(torch.from_numpy(self.checked)).numpy()
        return self._reference

    def file(self, name: str) -> Path:
        """The ONNX file of a precision, with an open batch; `facts` says how it was made."""
        path = self.folder / f"{name}.onnx"
        if self._facts_file(name).exists():
            return path
        start = time.perf_counter()
        facts: Row = {}
        if name == "fp32":
            example = torch.from_numpy(self.checked[:1])
            onnx.export_onnx(self.module, example, path, opset=OPSET, dynamic_batch=True)
        elif name == "fp16":
            facts = precision.to_fp16(self.file("fp32"), path, seen=self.seen)
        else:
            make = precision.to_int8_tensorrt if name == "int8" else precision.to_int8_onnxruntime
            facts = make(self.file("fp32"), path, self.seen)
        facts["make_seconds"] = round(time.perf_counter() - start, 2)
        write_json(self._facts_file(name), facts)
        return path

    def facts(self, name: str) -> Row:
        """What making the file of a precision told."""
        self.file(name)
        return read_json(self._facts_file(name))

    def _facts_file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    @property
    def seen(self) -> precision.Observed:
        """What calibration saw, for FP16 and both layouts of INT8."""
        if self._seen is None:
            calibration = images("train", CALIBRATION_IMAGES, self.student.image_size)
            self._seen = precision.observe_file(self.file("fp32"), [calibration], histograms=False)
        return self._seen

    def run(self, cell: Cell) -> Row:
        """The ONNX file in ONNX Runtime: its facts, its error against torch, its operators."""
        path = self.file(cell.precision)
        facts = onnx.describe(path)
        made = self.facts(cell.precision)
        row: Row = {
            "opset": facts["opset"],
            "nodes": facts["nodes"],
            "operators": facts["ops"],
            "onnx_bytes": facts["bytes"],
            "parameters": facts["parameters"],
            **{key: made[key] for key in _TOLD if key in made},
        }
        if cell.precision != "int8_cpu":
            problems = trt_operators.unsupported(graph.load_model(path))
            row["tensorrt_10_3"] = [trt_operators.describe(problem) for problem in problems]
        one = onnx.fix_batch(path, self.folder / f"{cell.precision}.static.onnx", 1)
        found = {}
        for what, file in (("dynamic", path), ("static", one)):
            engine = BACKENDS["onnxruntime"].load(file, threads=1)
            try:
                found[what] = errors(self.reference, engine.infer(self.checked))
            finally:
                engine.close()
        one.unlink()
        worst = min(found.values(), key=lambda error: error["cosine"] if error["finite"] else -2.0)
        row |= {"error": worst, "static_differs": abs(found["static"]["cosine"] - found["dynamic"]["cosine"])}
        close = worst["finite"] and worst["cosine"] >= TOLERANCE.get(cell.precision, -1.0)
        if worst["finite"] and not close and cell.precision == "fp16":
            row["input_rounded_db"] = self.amplified["sqnr_db"]
            close = worst["sqnr_db"] >= row["input_rounded_db"] - AMPLIFIED_DB
        good = close and not row.get("tensorrt_10_3")
        if not good:
            row["detail"] = (
                "; ".join(row.get("tensorrt_10_3", [])[:1]) or f"cosine {worst['cosine']:.6f} to torch"
            )
        return row | {"state": "ok" if good else "failed"}

    def built(self, cell: Cell) -> Row:
        """An engine of TensorRT-RTX for one compute capability."""
        target = cell.engine.partition("/")[2]
        out = self.folder / f"{cell.precision}.engine"
        info = BACKENDS["tensorrt_rtx"].build(
            self.file(cell.precision),
            out,
            batch_sizes=(1, 4) if target == "dynamic" else (1,),
            compute_capabilities=() if target == "dynamic" else (target,),
        )
        out.unlink()
        return {
            "state": "built",
            "engine_bytes": info.bytes,
            "build_seconds": round(info.build_seconds, 2),
            "layers": info.layers,
        }


@functools.cache
def images(split: str, count: int, size: int) -> Images:
    """Images with the statistics of natural ones, uint8 [N, size, size, 3], a function of the arguments.

    Noise of amplitude 1/f^0.8 to 1/f^1.8 with correlated channels, of varying mean and contrast. The letters of the
    data set `fonts` on their flat ground would not do here: through a network without training they come out nearly
    alike, and batch norm then amplifies rounding errors to what looks like a fault of the precision.
    """
    random = np.random.default_rng([("train", "test").index(split), size])
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    made = np.empty((count, size, size, 3), np.uint8)
    for image in made:
        waves = random.standard_normal((2, 3, *frequency.shape)) * frequency ** -random.uniform(0.8, 1.8)
        planes = np.fft.irfft2(waves[0] + 1j * waves[1], s=(size, size))
        planes /= planes.std(axis=(1, 2), keepdims=True)
        mixed = np.tensordot(planes, random.normal(0.7, 0.4, (3, 3)), ((0,), (0,)))
        image[:] = np.clip(mixed / mixed.std() * random.uniform(30, 70) + random.uniform(80, 170, 3), 0, 255)
    return made


def settle(network: nn.Module, sample: Images) -> None:
    """Give a network without training activations like those of a trained one; left in eval mode.

    Libraries start some branches at 0: the last normalisation of a residual branch, and layer scales of 1e-5 and
    less. Untouched, a quantiser would only see the shortcuts. Such weights become 1 and 0.1. Batch norms then get
    the statistics of `sample`, uint8 [N, H, W, 3], averaged over batches.
    """
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d, nn.LayerNorm)) and isinstance(
            weight, nn.Parameter
        ):
            nn.init.ones_(weight) if not weight.detach().any() else None
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            module.reset_running_stats()
            module.momentum = None  # a plain average
    for name, parameter in network.named_parameters():
        if name.rpartition(".")[2] in ("gamma", "layer_scale", "lambda1", "lambda2") and _small(parameter):
            nn.init.constant_(parameter, _LAYER_SCALE)
    network.train()
    with torch.no_grad():
        for part in torch.from_numpy(sample).split(16):
            network(part)
    network.eval()


def _small(parameter: nn.Parameter) -> bool:
    return bool(parameter.detach().abs().max() < _LAYER_SCALE)


def errors(reference: Images, actual: Images) -> Row:
    """How far logits [N, C] are from torch's.

    Returns:
        `max_abs`; `relative`: that over the largest |logit|; `cosine`: the smallest of any image; `sqnr_db`:
        signal to noise of what tells the images apart (each class's mean over them taken off both); `finite`.
    """
    if reference.shape != actual.shape:
        raise ValueError(f"logits {actual.shape}, torch gives {reference.shape}")
    if not np.isfinite(actual).all():
        return {"finite": False, "max_abs": None, "relative": None, "cosine": 0.0, "sqnr_db": None}
    ours, theirs = actual.astype(np.float64), reference.astype(np.float64)
    noise = ours - theirs
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    signal = theirs - theirs.mean(0)
    noise_power = float(((noise - noise.mean(0)) ** 2).sum())
    return {
        "finite": True,
        "max_abs": float(np.abs(noise).max()),
        "relative": float(np.abs(noise).max() / np.abs(theirs).max()),
        "cosine": float(((ours * theirs).sum(1) / np.where(norms > 0, norms, 1.0)).min()),
        "sqnr_db": float(10 * np.log10((signal**2).sum() / noise_power)) if noise_power else None,
    }


def _network(name: str, image_size: int) -> ImageClassifier:
    return build_model(name, CLASSES, image_size=image_size)


def _refusal(message: str) -> str:
    # Turing has no kernels for FP32 products; TensorRT-RTX says so, and the pipeline offers FP16 there.
    return "refused" if "FP32 GEMM is not supported" in message else "failed"
