"""ONNX Runtime: the engine that runs everywhere."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from export.contract import contract_of
from export.engines.batches import check_batch, check_input, in_batches
from export.engines.options import TensorRTOptions
from export.engines.protocol import Array, Availability, Boundary, EngineInfo, Query, Samples
from export.engines.sampling import sample_query
from export.engines.sidecar import write_sidecar
from export.errors import BackendMissing, BuildError, EngineError, ExportError, first_line
from export.files import sha256, write_bytes
from export.machine import usable_cores
from export.progress import Progress, no_progress

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
# Quantises the bias of FP16 Q/DQ convolutions with an FP16 scale that underflows: outputs become garbage.
DISABLED_OPTIMIZERS = ("WeightBiasQuantization",)
_INSTALL = "pip install onnxruntime-gpu (x86-64 Linux) or onnxruntime (elsewhere), never both"


class OnnxRuntimeBackend:
    """Runs ONNX files as they are; the engine file is the ONNX file."""

    name = "onnxruntime"

    def availability(self) -> Availability:
        """What this machine can do; never raises."""
        if importlib.util.find_spec("onnxruntime") is None:
            return Availability(False, False, "onnxruntime is not installed", _INSTALL)
        try:
            import onnxruntime
        except Exception as error:
            return Availability(False, False, f"onnxruntime cannot be imported: {error}", _INSTALL)
        return Availability(
            True,
            True,
            f"onnxruntime {onnxruntime.__version__}, CPU",
            "",
            {"onnxruntime": onnxruntime.__version__},
        )

    def build(
        self,
        onnx: Path,
        out: Path,
        *,
        batch_sizes: Sequence[int] = (1,),
        compute_capabilities: Sequence[str] = (),
        threads: int | None = None,
        tensorrt: TensorRTOptions | None = None,
        progress: Progress = no_progress,
    ) -> EngineInfo:
        """Check that a session can be created and runs once at each batch size, then write the file to `out`.

        A single batch size is fixed in the file; more than one need (and keep) a dynamic batch.

        Raises:
            BackendMissing: onnxruntime is absent.
            BuildError: the file cannot be loaded or run, or its batch is fixed to another size.
        """
        from export import graph
        from export.image_input import require_image_input

        start = time.perf_counter()
        _library()
        sizes = tuple(sorted({int(size) for size in batch_sizes}))
        model = graph.load_model(Path(onnx))
        try:
            require_image_input(model, Path(onnx).name)
            if len(sizes) == 1:
                graph.fix_batch(model, sizes[0])
            elif graph.batch_size(model) is not None:
                raise BuildError(
                    f"{Path(onnx).name} has a fixed batch of {graph.batch_size(model)}, "
                    f"batch sizes {list(sizes)} were asked for",
                    "export with a dynamic batch",
                )
        except BuildError:
            raise
        except ExportError as error:
            raise BuildError(error.what, error.fix) from error
        data = model.SerializeToString(deterministic=True)
        progress(0, 2, "creating a session")
        try:
            session = _session(data, threads, CPU)
            progress(1, 2, "running it once")
            inputs = _describe(session.get_inputs())
            for size in sizes:
                image = np.zeros((size, *inputs[0]["shape"][1:]), inputs[0]["dtype"])
                session.run(None, {inputs[0]["name"]: image})
        except EngineError as error:
            raise BuildError(error.what, error.fix) from error
        except Exception as error:
            raise BuildError(f"ONNX Runtime cannot run {Path(onnx).name}: {first_line(error)}") from error
        out = Path(out)
        write_bytes(out, data)
        told = contract_of(model)
        info = EngineInfo(
            file=str(out),
            bytes=len(data),
            build_seconds=time.perf_counter() - start,
            backend=self.name,
            versions=self.availability().versions,
            compute_capability=(),
            batch_sizes=sizes if len(sizes) == 1 else (),
            inputs=tuple(inputs),
            outputs=tuple(_describe(session.get_outputs())),
            layers=len(model.graph.node),
            sha256=sha256(out),
            classes=told.classes,
            image=dict(told.image or {}),
        )
        write_sidecar(info, out)
        progress(2, 2, "written")
        return info

    def load(
        self,
        path: Path,
        *,
        threads: int | None = None,
        provider: str | None = None,
        spinning: bool = True,
        denormals_as_zero: bool = False,
    ) -> OnnxRuntimeEngine:
        """Load any ONNX file; a sidecar is not needed, the format is portable.

        Raises:
            BackendMissing: onnxruntime is absent.
            EngineError: the file cannot be loaded, or the provider is not the one that was asked for.
        """
        from export.image_input import require_image_input
        from export.model_file import check_file

        _library()
        path = Path(path)
        if not path.exists():
            raise EngineError(f"there is no engine file {path}", "build it first")
        try:
            require_image_input(check_file(path), path.name)
        except ExportError as error:
            raise EngineError(error.what, error.fix) from error
        return OnnxRuntimeEngine(
            str(path), threads, provider or CPU, spinning=spinning, denormals_as_zero=denormals_as_zero
        )


class OnnxRuntimeEngine:
    """An ONNX Runtime session with one input and one output.

    Without `int8_kernels` every node between Q and DQ is computed in floating point: what a CPU with exact 8-bit
    sums gives, on any CPU.
    """

    backend = "onnxruntime"

    def __init__(
        self,
        model: str | bytes,
        threads: int | None,
        provider: str,
        *,
        spinning: bool = True,
        denormals_as_zero: bool = False,
        int8_kernels: bool = True,
    ) -> None:
        self._session = _session(
            model, threads, provider, spinning, denormals_as_zero, int8_kernels=int8_kernels
        )
        source = self._session.get_inputs()[0]
        if (
            source.type not in _DTYPES
            or not source.shape
            or not all(type(d) is int for d in source.shape[1:])
        ):
            raise EngineError(
                f"the input {source.name} is {source.type} of the shape {source.shape}",
                f"it must be {', '.join(_DTYPES)} with the batch first and all other sizes fixed",
            )
        self._input, self._output = source.name, self._session.get_outputs()[0].name
        batch = source.shape[0]
        self.batch_sizes: tuple[int, ...] = (batch,) if isinstance(batch, int) else ()
        self.input_shape: tuple[int, ...] = tuple(int(dim) for dim in source.shape[1:])
        self.input_dtype: str = _DTYPES[source.type]
        self._device = "cuda" if provider == CUDA else "cpu"
        self.facts: dict[str, Any] = {
            "providers": list(self._session.get_providers()),
            "threads": threads or usable_cores(),
            "spinning": spinning,
            "denormals_as_zero": denormals_as_zero,
            "onnxruntime": _library().__version__,
        }

    def infer(self, images: Array) -> Array:
        """Logits float32 [N, C] of `images` [N, ...]."""
        check_input(images, self.input_shape, self.input_dtype)
        return in_batches(images, self.batch_sizes, self._run).astype(np.float32, copy=False)

    def time(
        self,
        batch: Array,
        *,
        boundary: Boundary = "engine",
        warmup_s: float = 0.2,
        min_samples: int = 1000,
        min_seconds: float = 0.0,
        max_seconds: float = 10.0,
    ) -> Samples:
        """Host-measured time of one inference.

        `engine` binds preallocated input and output once and times the run alone; `engine+copies` hands over
        a NumPy array and receives one.
        """
        (query,) = self.queries(batch, boundary=boundary)
        try:
            return sample_query(
                query,
                batch=len(batch),
                boundary=boundary,
                warmup_s=warmup_s,
                min_samples=min_samples,
                min_seconds=min_seconds,
                max_seconds=max_seconds,
            )
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed while it was timed: {first_line(error)}") from error

    def queries(self, batch: Array, *, boundary: Boundary = "engine", streams: int = 1) -> list[Query]:
        """Queries that share the session, each with its own bound input and output; they may run at once."""
        check_input(batch, self.input_shape, self.input_dtype)
        check_batch(len(batch), self.batch_sizes)
        if boundary not in ("engine", "engine+copies"):
            raise EngineError(f"unknown timing boundary {boundary!r}", "use 'engine' or 'engine+copies'")
        data = np.ascontiguousarray(batch)
        if boundary == "engine":
            return [self._bound(data) for _ in range(streams)]
        run, names, feed = self._session.run, [self._output], {self._input: data}

        def copying() -> None:
            run(names, feed)

        return [copying] * streams

    def close(self) -> None:
        """Release the session."""
        self._session = None

    def _run(self, images: Array) -> Array:
        if self._session is None:
            raise EngineError("the engine is closed", "load it again")
        try:
            return cast(Array, self._session.run([self._output], {self._input: images})[0])
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed: {first_line(error)}") from error

    def _bound(self, data: Array) -> Query:
        ort = _library()
        logits = self._run(data)
        # On a CPU the value sits on the array's memory, so each query needs an array that lives as long as it.
        source = ort.OrtValue.ortvalue_from_numpy(data.copy(), self._device, 0)
        target = ort.OrtValue.ortvalue_from_shape_and_type(logits.shape, logits.dtype, self._device, 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, source)
        binding.bind_ortvalue_output(self._output, target)
        run, keep = self._session.run_with_iobinding, (source, target)
        if self._device == "cpu":

            def query(_alive: Any = keep) -> None:
                run(binding)

        else:

            def query(_alive: Any = keep) -> None:
                run(binding)
                binding.synchronize_outputs()

        return query


def optimised_operators(path: Path) -> dict[str, int]:
    """Operators of the graph that ONNX Runtime's CPU provider really runs, after its fusions, with their counts.

    `QLinearConv`, `QGemm` and their like compute in INT8; a `DequantizeLinear` that is left was not fused, a
    `ReorderInput` or `ReorderOutput` changes the memory layout.

    Raises:
        BackendMissing: onnxruntime is absent.
        EngineError: the file cannot be loaded.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "optimised.onnx"
        _session(str(path), 1, CPU, optimised=out)
        nodes = onnx.load(str(out)).graph.node
    return dict(Counter(node.op_type for node in nodes).most_common())


_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


def _library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendMissing(f"onnxruntime cannot be imported: {error}", _INSTALL) from error
    return onnxruntime


def _session(
    model: str | bytes,
    threads: int | None,
    provider: str,
    spinning: bool = True,
    denormals_as_zero: bool = False,
    optimised: Path | None = None,
    int8_kernels: bool = True,
) -> Any:
    ort = _library()
    if provider not in ort.get_available_providers():
        raise EngineError(
            f"ONNX Runtime has no {provider} here", f"it offers {', '.join(ort.get_available_providers())}"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.inter_op_num_threads = 1
    # The library's own default looks at the machine instead of at what this process may use.
    options.intra_op_num_threads = int(threads or usable_cores())
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1" if denormals_as_zero else "0")
    if not int8_kernels:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    if provider == CUDA:
        from export.engines.cuda import device_count

        if device_count() == 0:  # otherwise it would print errors and fall back to the CPU in silence
            raise EngineError(
                "the CUDA provider was asked for, but there is no CUDA device", "use the CPU provider"
            )
    providers = [provider] if provider == CPU else [provider, CPU]
    try:
        session = ort.InferenceSession(
            model, options, providers=providers, disabled_optimizers=list(DISABLED_OPTIMIZERS)
        )
    except Exception as error:
        raise EngineError(
            f"ONNX Runtime cannot load the file: {first_line(error)}", "build it again"
        ) from error
    used = session.get_providers()
    if used[0] != provider:
        raise EngineError(
            f"{provider} was asked for, ONNX Runtime chose {used[0]}", "install what the provider needs"
        )
    return session


def _describe(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": v.name,
            "dtype": _DTYPES.get(v.type, v.type),
            "shape": [d if d is not None else "?" for d in v.shape],
        }
        for v in values
    ]
