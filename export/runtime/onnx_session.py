"""ONNX Runtime: the engine that runs everywhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np

from .arrays import Array
from .batches import check_batch, check_boundary, check_input, in_batches
from .cpu import usable_cores
from .errors import BackendMissing, EngineError, first_line
from .facts import EngineFacts, Tensor
from .sampling import Limits, Query, Samples, host_timed, sample_query, sustained

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
# Quantises the bias of FP16 Q/DQ convolutions with an FP16 scale that underflows: outputs become garbage.
DISABLED_OPTIMIZERS = ("WeightBiasQuantization",)
INSTALL = "pip install onnxruntime-gpu (x86-64 Linux) or onnxruntime (elsewhere), never both"
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


@dataclass(frozen=True)
class SessionOptions:
    """How ONNX Runtime runs a file.

    Attributes:
        threads: CPU threads for one inference; None: all that this process may use.
        provider: execution provider; with the CPU's for what it cannot run.
        spinning: CPU threads wait for work in a loop instead of sleeping.
        denormals_as_zero: CPU threads take denormal numbers as zero.
        int8_kernels: False computes every node between Q and DQ in floating point, which is what a CPU with exact
            8-bit sums gives, on any CPU.
        optimised: path where the graph is written as it is run, after the library's fusions; '' for none.
    """

    threads: int | None = None
    provider: str = CPU
    spinning: bool = True
    denormals_as_zero: bool = False
    int8_kernels: bool = True
    optimised: str = ""


def library() -> Any:
    """The module `onnxruntime`.

    Raises:
        BackendMissing: it cannot be imported.
    """
    try:
        import onnxruntime
    except Exception as error:  # an ImportError, or whatever a broken installation raises
        raise BackendMissing(f"onnxruntime cannot be imported: {error}", INSTALL) from error
    return onnxruntime


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    provider: str = CPU,
    spinning: bool = True,
    denormals_as_zero: bool = False,
) -> OnnxRuntimeEngine:
    """A session on an ONNX file; arguments as `SessionOptions` has them.

    Raises:
        BackendMissing: onnxruntime is absent.
        EngineError: the file cannot be loaded, its input is no batch of images, or the provider is not the one that
            was asked for.
    """
    return OnnxRuntimeEngine(
        os.fspath(path), threads, provider, spinning=spinning, denormals_as_zero=denormals_as_zero
    )


class OnnxRuntimeEngine:
    """An ONNX Runtime session with one input, whose first dimension is the batch, and logits as its first output.

    Attributes:
        inputs, outputs: what the file declares.
        input_shape: of one image, without the batch.
        input_dtype: `uint8`, `float32` or `float16`.
        input_name, output_name: of the images and the logits.
        batch_sizes: accepted batch sizes; empty where any size is.
        threads: CPU threads for one inference.
        facts: how it runs: providers, threads, options, version.
    """

    backend = "onnxruntime"

    def __init__(
        self,
        model: str | bytes,
        threads: int | None = None,
        provider: str = CPU,
        *,
        spinning: bool = True,
        denormals_as_zero: bool = False,
        int8_kernels: bool = True,
    ) -> None:
        """Load a file, or its content; the other arguments are those of `SessionOptions`."""
        options = SessionOptions(threads, provider, spinning, denormals_as_zero, int8_kernels)
        self._ort = library()
        self._session = create_session(model, options)
        self.inputs, self.outputs = (
            tuple(_described(value) for value in values)
            for values in (self._session.get_inputs(), self._session.get_outputs())
        )
        source = self.inputs[0]
        batch, image = (source.shape[0], source.shape[1:]) if source.shape else ("?", ("?",))
        if source.dtype not in _DTYPES.values() or not all(type(dim) is int for dim in image):
            raise EngineError(
                f"the input {source.name} is {source.dtype} of the shape {list(source.shape)}",
                f"it must be {', '.join(_DTYPES)} with the batch first and all other sizes fixed",
            )
        self.input_name, self.output_name = source.name, self.outputs[0].name
        self.batch_sizes: tuple[int, ...] = (batch,) if isinstance(batch, int) else ()
        self.input_shape = tuple(int(dim) for dim in image)
        self.input_dtype = source.dtype
        self._device = "cuda" if options.provider == CUDA else "cpu"
        self.threads = int(options.threads or usable_cores())
        self.facts: EngineFacts = {
            "providers": list(self._session.get_providers()),
            "threads": self.threads,
            "spinning": options.spinning,
            "denormals_as_zero": options.denormals_as_zero,
            "onnxruntime": str(self._ort.__version__),
        }

    def run(self, images: Array) -> Array:
        """Logits [B, C] of one accepted batch, in the file's type.

        Raises:
            EngineError: the engine is closed, or ONNX Runtime fails.
        """
        if self._session is None:
            raise EngineError("the engine is closed", "load it again")
        try:
            logits: Array = self._session.run([self.output_name], {self.input_name: images})[0]
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed: {first_line(error)}") from error
        return logits

    def infer(self, images: Array) -> Array:
        """Logits float32 [N, C] of `images` [N, ...]."""
        check_input(images, self.input_shape, self.input_dtype)
        return in_batches(images, self.batch_sizes, self.run).astype(np.float32, copy=False)

    def try_batches(self, sizes: Sequence[int]) -> Array:
        """Run zeros at each batch size; the logits of the last.

        Raises:
            EngineError: one of them fails.
        """
        for size in sizes:
            logits = self.run(np.zeros((size, *self.input_shape), self.input_dtype))
        return logits

    def time(self, batch: Array, limits: Limits, *, boundary: str = "engine") -> Samples:
        """Host-measured time of one inference.

        `engine` binds preallocated input and output once and times the run alone; `engine+copies` hands over
        a NumPy array and receives one.
        """
        (query,) = self.queries(batch, boundary=boundary)
        try:
            return sample_query(query, limits, batch=len(batch), boundary=boundary)
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed while it was timed: {first_line(error)}") from error

    def sustain(
        self, batch: Array, seconds: float, *, window_s: float, keep: int, between: Callable[[float], None]
    ) -> Samples:
        """Minutes of the same at boundary `engine`; see `sampling.sustained`."""
        (query,) = self.queries(batch)
        return sustained(
            host_timed(query), seconds, window_s=window_s, keep=keep, between=between, batch=len(batch),
            boundary="engine",
        )  # fmt: skip

    def queries(self, batch: Array, *, boundary: str = "engine", streams: int = 1) -> list[Query]:
        """Queries that share the session, each with its own bound input and output; they may run at once."""
        check_input(batch, self.input_shape, self.input_dtype)
        check_batch(len(batch), self.batch_sizes)
        check_boundary(boundary)
        data = np.ascontiguousarray(batch)
        if boundary == "engine":
            return [self._bound(data) for _ in range(streams)]
        run, names, feed = self._session.run, [self.output_name], {self.input_name: data}

        def copying() -> None:
            run(names, feed)

        return [copying] * streams

    def close(self) -> None:
        """Release the session."""
        self._session = None

    def _bound(self, data: Array) -> Query:
        values = self._ort.OrtValue
        logits = self.run(data)
        # On a CPU the value sits on the array's memory, so each query needs an array that lives as long as it.
        source = values.ortvalue_from_numpy(data.copy(), self._device, 0)
        target = values.ortvalue_from_shape_and_type(logits.shape, logits.dtype, self._device, 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self.input_name, source)
        binding.bind_ortvalue_output(self.output_name, target)
        run, keep = self._session.run_with_iobinding, (source, target)
        if self._device == "cpu":

            def query(_alive: Any = keep) -> None:
                run(binding)

        else:

            def query(_alive: Any = keep) -> None:
                run(binding)
                binding.synchronize_outputs()

        return query


def create_session(model: str | bytes, options: SessionOptions) -> Any:
    """The library's own session on a file or its content.

    Raises:
        BackendMissing: onnxruntime is absent.
        EngineError: the library refuses the file, or does not have the provider.
    """
    ort = library()
    if options.provider not in ort.get_available_providers():
        raise EngineError(
            f"ONNX Runtime has no {options.provider} here",
            f"it offers {', '.join(ort.get_available_providers())}",
        )
    chosen = ort.SessionOptions()
    chosen.log_severity_level = 4
    chosen.inter_op_num_threads = 1
    # The library's own default looks at the machine instead of at what this process may use.
    chosen.intra_op_num_threads = int(options.threads or usable_cores())
    chosen.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.spinning)))
    chosen.add_session_config_entry("session.set_denormal_as_zero", str(int(options.denormals_as_zero)))
    if not options.int8_kernels:
        chosen.add_session_config_entry("session.disable_quant_qdq", "1")
    if options.optimised:
        chosen.optimized_model_filepath = options.optimised
    providers = [options.provider] if options.provider == CPU else [options.provider, CPU]
    try:
        session = ort.InferenceSession(
            model, chosen, providers=providers, disabled_optimizers=list(DISABLED_OPTIMIZERS)
        )
    except Exception as error:
        raise EngineError(
            f"ONNX Runtime {ort.__version__} cannot load the file: {first_line(error)}",
            "build it again, export with a lower opset, or install a newer onnxruntime",
        ) from error
    used = session.get_providers()
    if used[0] != options.provider:
        raise EngineError(
            f"{options.provider} was asked for, ONNX Runtime chose {used[0]}",
            "install what the provider needs",
        )
    return session


def _described(value: Any) -> Tensor:
    shape = tuple(dim if dim is not None else "?" for dim in value.shape)
    return Tensor(value.name, _DTYPES.get(value.type, value.type), shape)
