"""ONNX Runtime: the engine that runs everywhere."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from export.contract import contract_of
from export.engines.options import TensorRTOptions
from export.engines.protocol import Availability, EngineInfo
from export.engines.sidecar import write_sidecar
from export.errors import BuildError, EngineError, ExportError
from export.progress import Progress, no_progress
from export.runtime.files import sha256, write_bytes
from export.runtime.onnx_session import (
    CPU,
    CUDA,
    DISABLED_OPTIMIZERS,
    INSTALL,
    OnnxRuntimeEngine,
    SessionOptions,
    create_session,
    library,
)

__all__ = [
    "CPU",
    "CUDA",
    "DISABLED_OPTIMIZERS",
    "OnnxRuntimeBackend",
    "OnnxRuntimeEngine",
    "optimised_operators",
]


class OnnxRuntimeBackend:
    """Runs ONNX files as they are; the engine file is the ONNX file."""

    name = "onnxruntime"

    def availability(self) -> Availability:
        """What this machine can do; never raises."""
        if importlib.util.find_spec("onnxruntime") is None:
            return Availability(False, False, "onnxruntime is not installed", INSTALL)
        try:
            import onnxruntime
        except Exception as error:
            return Availability(False, False, f"onnxruntime cannot be imported: {error}", INSTALL)
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
        library()
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
            engine = OnnxRuntimeEngine(data, threads, CPU)
            progress(1, 2, "running it once")
            engine.try_batches(sizes)
        except EngineError as error:
            raise BuildError(f"{Path(onnx).name}: {error.what}", error.fix) from error
        out = Path(out)
        write_bytes(out, data)
        contract = contract_of(model)
        info = EngineInfo(
            file=str(out),
            bytes=len(data),
            build_seconds=time.perf_counter() - start,
            backend=self.name,
            versions=self.availability().versions,
            compute_capability=(),
            batch_sizes=sizes if len(sizes) == 1 else (),
            inputs=engine.inputs,
            outputs=engine.outputs,
            layers=len(model.graph.node),
            sha256=sha256(out),
            classes=contract.classes,
            image=dict(contract.image or {}),
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

        library()
        path = Path(path)
        if not path.exists():
            raise EngineError(f"there is no engine file {path}", "build it first")
        try:
            require_image_input(check_file(path), path.name)
        except ExportError as error:
            raise EngineError(error.what, error.fix) from error
        _has_gpu(provider or CPU)
        return OnnxRuntimeEngine(
            str(path), threads, provider or CPU, spinning=spinning, denormals_as_zero=denormals_as_zero
        )


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
        create_session(str(path), SessionOptions(threads=1, optimised=str(out)))
        nodes = onnx.load(str(out)).graph.node
    return dict(Counter(node.op_type for node in nodes).most_common())


def _has_gpu(provider: str) -> None:
    """Refuse CUDA without a GPU: ONNX Runtime prints errors and falls back to the CPU."""
    if provider == CUDA:
        from export.runtime.cudart import probe

        if probe()[0] == 0:
            raise EngineError(
                "the CUDA provider was asked for, but there is no CUDA device", "use the CPU provider"
            )
