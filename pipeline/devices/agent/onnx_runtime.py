"""ONNX Runtime on the device, as `export.engines.onnxruntime` runs it on the host."""

from __future__ import annotations

import os
import time
from typing import Any, Callable

from .errors import JobError
from .sampling import Limits, Timed, sample_query, sustained

CPU = "CPUExecutionProvider"
# Quantises the bias of FP16 Q/DQ convolutions with an FP16 scale that underflows: outputs become garbage.
DISABLED_OPTIMIZERS = ["WeightBiasQuantization"]
DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}
_INSTALL = (
    "install onnxruntime for this Python on the device (pip install onnxruntime), or use another engine"
)


def library() -> Any:
    """The module `onnxruntime`.

    Raises:
        JobError: it cannot be imported.
    """
    try:
        import onnxruntime  # type: ignore[import-not-found,unused-ignore]
    except Exception as error:  # an ImportError, or whatever a broken installation raises
        raise JobError(
            f"onnxruntime cannot be imported on the device: {error}", _INSTALL, "missing"
        ) from error
    return onnxruntime


class OrtEngine:
    """A session on the CPU with one input and one output."""

    def __init__(self, path: str, spec: dict[str, Any]) -> None:
        ort = library()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.inter_op_num_threads = 1
        # Its own default counts the machine's cores, also those that this process may not use.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        self.threads = options.intra_op_num_threads = int(spec.get("threads") or cores)
        entries = {
            "session.intra_op.allow_spinning": spec.get("spinning", True),
            "session.set_denormal_as_zero": spec.get("denormals_as_zero", False),
        }
        for key, value in entries.items():
            options.add_session_config_entry(key, "1" if value else "0")
        try:
            self._session = ort.InferenceSession(
                path, options, providers=[CPU], disabled_optimizers=DISABLED_OPTIMIZERS
            )
        except Exception as error:
            raise JobError(
                f"ONNX Runtime {ort.__version__} on the device cannot load the file: {_line(error)}",
                "install a newer onnxruntime on the device, or export with a lower opset",
            ) from error
        source = self._session.get_inputs()[0]
        self._input, self._output = source.name, self._session.get_outputs()[0].name
        self.input_shape: tuple[int, ...] = tuple(int(dim) for dim in source.shape[1:])
        self.input_dtype = DTYPES.get(source.type, source.type)
        batch = source.shape[0]
        self.batch_sizes: tuple[int, ...] = (batch,) if isinstance(batch, int) else ()
        self.facts = {
            "onnxruntime": ort.__version__,
            "providers": list(self._session.get_providers()),
            "threads": self.threads or "library default",
        }

    def run(self, images: Any) -> Any:
        """Logits of one accepted batch, an array [B, C]."""
        try:
            return self._session.run([self._output], {self._input: images})[0]
        except Exception as error:
            raise JobError(f"ONNX Runtime failed on the device: {_line(error)}") from error

    def time(self, batch: Any, boundary: str, limits: Limits) -> Timed:
        """Host-clock times of one inference; see `export.engines.onnxruntime.OnnxRuntimeEngine.time`."""
        return sample_query(self._query(batch, boundary), limits)

    def sustain(
        self, batch: Any, seconds: float, window_s: float, keep: int, between: Callable[[float], None]
    ) -> Timed:
        """Minutes of the same at boundary `engine`."""
        query, clock = self._bound(batch), time.perf_counter

        def step() -> dict[str, float]:
            begin = clock()
            query()
            return {"latency": 1e3 * (clock() - begin)}

        return sustained(step, seconds, window_s, keep, between)

    def loop(self, batch: Any) -> Callable[[], None]:
        """One inference, not timed."""
        return self._bound(batch)

    def close(self) -> None:
        """Release the session."""
        self._session = None

    def _query(self, batch: Any, boundary: str) -> Callable[[], Any]:
        if boundary == "engine":
            return self._bound(batch)
        session, names, fed = self._session, [self._output], {self._input: batch}
        return lambda: session.run(names, fed)

    def _bound(self, batch: Any) -> Callable[[], None]:
        ort = library()
        logits = self.run(batch)
        source = ort.OrtValue.ortvalue_from_numpy(batch, "cpu", 0)
        target = ort.OrtValue.ortvalue_from_shape_and_type(logits.shape, logits.dtype, "cpu", 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, source)
        binding.bind_ortvalue_output(self._output, target)
        session = self._session

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run


def check(path: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Load a file and run it once at each batch size on zeros: what `build` means for ONNX Runtime.

    Returns:
        `inputs`, `outputs`, `facts`.
    """
    import numpy  # onnxruntime cannot be without it

    engine = OrtEngine(path, spec)
    try:
        for size in spec["batch_sizes"]:
            logits = engine.run(numpy.zeros((size, *engine.input_shape), engine.input_dtype))
        session = engine._session
        describe = [
            [
                {
                    "name": v.name,
                    "dtype": DTYPES.get(v.type, v.type),
                    "shape": [d if d is not None else "?" for d in v.shape],
                }
                for v in values
            ]
            for values in (session.get_inputs(), session.get_outputs())
        ]
        return {
            "inputs": describe[0],
            "outputs": describe[1],
            "facts": engine.facts,
            "classes": int(logits.shape[1]),
        }
    finally:
        engine.close()


def _line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
