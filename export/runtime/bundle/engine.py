"""An engine of a bundle, loaded from the bytes that were checked."""

from __future__ import annotations

import os
import posixpath
import tempfile
from typing import TYPE_CHECKING

from ..errors import ExportError
from . import strict_json
from .errors import BundleRefused, CannotRun

if TYPE_CHECKING:
    from ..engine import Engine
    from .manifest import EngineEntry
    from .verify import Bundle

_MOST_SIDECAR = 1 << 24


def load_engine(bundle: Bundle, entry: EngineEntry, threads: int | None = None) -> Engine:
    """An engine of a bundle that was verified, from bytes that are checked as they are read.

    Args:
        bundle: whose.
        entry: which, as `fit.choose` found it.
        threads: CPU threads; None: as it was measured.

    Raises:
        BundleRefused: a file is not what it was.
        CannotRun: its library is missing or does not take it.
    """
    try:
        if entry.backend == "onnxruntime":
            from ..onnx_session import OnnxRuntimeEngine

            return OnnxRuntimeEngine(bundle.read(entry.file), threads or entry.threads or None)
        return _tensorrt(bundle, entry)
    except ExportError as error:
        raise CannotRun(error.what, error.fix) from error


def _tensorrt(bundle: Bundle, entry: EngineEntry) -> Engine:
    """Code that an engine carries is never run: one that needs it is refused by the library."""
    from .. import cudart
    from ..trt_engine import TensorRTEngine

    name = entry.file
    sizes, weights = _sidecar(bundle.read(name + ".json"), name)
    cuda = cudart.required()
    data = bundle.read(name)
    with tempfile.TemporaryDirectory(
        prefix="figkd-weights-"
    ) as folder:  # the library refits from a file only
        place = ""
        if weights:
            place = os.path.join(folder, "weights.onnx")
            with open(place, "wb") as file:
                file.write(bundle.read(posixpath.join(posixpath.dirname(name), weights)))
        return TensorRTEngine(data, entry.backend, sizes, weights=place, cuda=cuda)


def _sidecar(data: bytes, name: str) -> tuple[list[int], str]:
    """Batch sizes of an engine, and the name of the file with its weights; empty where it has them."""
    found = strict_json.read(data, name + ".json", _MOST_SIDECAR)
    try:
        sizes, weights = found["batch_sizes"], found["weights"].get("file", "")
        whole = all(type(size) is int and 1 <= size <= 1 << 20 for size in sizes)
        fits = isinstance(weights, str) and whole and bool(sizes)
    except (KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise BundleRefused("%s.json describes no engine" % name)
    return list(sizes), weights


def check_fit(engine: Engine, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse a bundle whose preprocessing gives another input than its engine takes.

    Raises:
        BundleRefused: says both.
    """
    if (tuple(engine.input_shape), engine.input_dtype) != (shape, dtype):
        raise BundleRefused(
            "preprocess.json gives %s %s, the engine takes %s %s"
            % (dtype, list(shape), engine.input_dtype, list(engine.input_shape))
        )
