"""TensorRT and TensorRT-RTX: one code path, two module names.

Networks are strongly typed: precision is what the ONNX file says. TensorRT-RTX builds ahead of time for named
compute capabilities and needs no GPU to do so; TensorRT builds on the GPU that will run the engine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from export import graph
from export.contract import contract_of
from export.engines.identity import HostMachine, incompatibility, rebuild_command
from export.engines.options import TensorRTOptions
from export.engines.protocol import Availability, EngineInfo
from export.engines.sidecar import Sidecar, read_sidecar, write_sidecar
from export.engines.trt_build import build, check_batches, onnx_file, settings_of, targets_of
from export.engines.trt_cache import CacheKey
from export.engines.trt_fit import fit, kind_of
from export.engines.trt_layers import layers_path
from export.engines.trt_refusals import Place, require
from export.engines.trt_versions import Dialect, dialect
from export.errors import BackendMissing, BuildError, EngineError, ExportError
from export.image_input import require_image_input
from export.machine import architecture
from export.nvidia import driver_lacks, present
from export.progress import Progress, no_progress
from export.runtime import cudart
from export.runtime.files import sha256, write_bytes, write_json
from export.runtime.readings import l4t_release
from export.runtime.trt_build import CachePlace
from export.runtime.trt_engine import TensorRTEngine
from export.runtime.trt_library import INSTALL, library

_DEFAULT = TensorRTOptions()
# Options that do not decide what the engine is.
_PASSING = ("timing_caches",)


class TensorRTBackend:
    """Either library, by module name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def availability(self) -> Availability:
        """What this machine can do; never raises."""
        try:
            trt, chosen = self.library()
        except BackendMissing as error:
            return Availability(False, False, error.what, error.fix)
        except Exception as error:
            return Availability(False, False, f"{self.name} cannot be used: {error}", INSTALL[self.name])
        version = str(trt.__version__)
        capability, reason = _gpu()
        builds = bool(capability) or chosen.compute_capabilities
        detail = f"{self.name} {version}" + (f"; {reason}" if reason else "")
        fix = _driver_fix() if reason else ""
        return Availability(builds, bool(capability), detail, fix, {self.name: version}, capability)

    def place(self) -> Place:
        """This machine, as far as it decides what can be built here.

        Raises:
            BackendMissing: the library is absent or too old.
        """
        trt, _ = self.library()
        capability, _ = _gpu()
        return Place(
            self.name,
            str(trt.__version__),
            jetson=bool(l4t_release()),
            gpu=bool(capability),
            capability=capability,
        )

    def build(
        self,
        onnx: Path,
        out: Path,
        *,
        batch_sizes: Sequence[int] = (1,),
        compute_capabilities: Sequence[str] = (),
        threads: int | None = None,
        tensorrt: TensorRTOptions = _DEFAULT,
        progress: Progress = no_progress,
    ) -> EngineInfo:
        """Build a plain engine file, `<out>.json` with its facts and `<out>.layers.json` with its layers.

        Args:
            onnx: FP32, FP16, BF16 or TensorRT-layout INT8 file.
            out: where to write; nothing is written on failure.
            batch_sizes: one size makes a static engine; several need a dynamic file and get a profile each.
            compute_capabilities: `"SM86"` and so on, TensorRT-RTX only; empty is its portable default
                (Ampere, Ada, Blackwell and later).
            threads: unused.
            tensorrt: options of the builder.
            progress: called with the builder's top-level steps.

        Raises:
            BackendMissing: the library is absent or too old.
            BuildError: no GPU where one is needed, an option that this version does not have, an unknown compute
                capability, or the library's reason for failing, with the node where it names one.
        """
        start = time.perf_counter()
        trt, chosen = self.library()
        library = f"{self.name} {trt.__version__}"
        count, reason = cudart.probe()
        if count == 0 and not chosen.compute_capabilities:
            raise BuildError(
                f"{self.name} builds on the GPU that runs the engine: {reason}", "build on the target machine"
            )
        l4t = l4t_release()
        onnx, out = Path(onnx), Path(out)
        model = graph.load_model(onnx)
        try:
            require_image_input(model, onnx.name)
        except ExportError as error:
            raise BuildError(error.what, error.fix) from error
        sizes = tuple(sorted({int(size) for size in batch_sizes}))
        check_batches(model, onnx.name, sizes)
        require(self.place(), tensorrt, onnx_file(model, onnx.name))
        kind = kind_of(model)
        fitted = fit(library, chosen, model)
        targets = targets_of(trt, chosen, compute_capabilities)
        bound = not chosen.compute_capabilities  # to this GPU

        typed = tensorrt.strong_typing and chosen.strong_typing
        cache = None
        if bound and chosen.timing_cache and tensorrt.timing_caches is not None:
            here = f"{architecture()}-l4t{l4t}" if l4t else architecture()
            key = CacheKey(
                self.name,
                str(trt.__version__),
                cudart.loaded().device_name(),
                _current_capability(),
                here,
                kind if typed else f"{kind}-weak",
            )
            cache = CachePlace(str(key.file(tensorrt.timing_caches)), key.facts())
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=out.parent) as folder:
            source, built_from = onnx, fitted.model
            static = len(sizes) == 1 and graph.batch_size(built_from) is None
            if static:
                graph.fix_batch(built_from, sizes[0])
            if static or built_from is not model:
                source = Path(folder) / onnx.name
                graph.save_model(built_from, source)
            settings = settings_of(chosen, tensorrt, fitted, sizes, targets, inspect=count > 0)
            built = build(trt, self.name, source, built_from, settings, cache, progress)
            weights = source.read_bytes() if tensorrt.strip_weights else None
        beside: dict[str, str] = {}
        if weights is not None:
            path = weights_path(out)
            write_bytes(path, weights)
            beside = {"file": path.name, "sha256": sha256(path)}
        write_json(layers_path(out), built.layers)
        write_bytes(out, built.blob)
        contract = contract_of(model)
        options = {name: value for name, value in asdict(tensorrt).items() if name not in _PASSING}
        info = EngineInfo(
            file=str(out),
            bytes=len(built.blob),
            build_seconds=time.perf_counter() - start,
            backend=self.name,
            versions={self.name: str(trt.__version__)},
            compute_capability=(_current_capability(),) if bound else targets,
            batch_sizes=sizes,
            inputs=built.inputs,
            outputs=built.outputs,
            layers=built.layers["network"]["summary"]["layers"],
            sha256=sha256(out),
            device=cudart.loaded().device_name() if bound else "",
            platform=architecture(),
            l4t=l4t,
            source={"file": onnx.name, "sha256": sha256(onnx)},
            options=options | {"strong_typing": typed},
            weights=beside,
            composition={
                "network": built.layers["network"]["summary"],
                "engine": built.layers["engine"] and built.layers["engine"]["summary"],
            },
            classes=contract.classes,
            image=dict(contract.image or {}),
            notes=built.notes,
            remark=fitted.note,
            skipped_tactics=built.skipped,
        )
        write_sidecar(info, out)
        return info

    def load(
        self,
        path: Path,
        *,
        threads: int | None = None,
        provider: str | None = None,
        spinning: bool = True,
        denormals_as_zero: bool = False,
    ) -> TensorRTEngine:
        """Load an engine that this package built, on the GPU that it was built for.

        Raises:
            BackendMissing: the library is absent or too old.
            EngineError: no GPU; the file is missing, changed, of another library version or for another GPU. The fix is
                the command that builds it again.
        """
        path = Path(path)
        trt, chosen = self.library()
        count, reason = cudart.probe()
        capability = _current_capability() if count else ""

        def rebuild(facts: Sidecar | None) -> str:
            if facts is None:
                return f"build it with {self.name} {trt.__version__} on this machine"
            here: Sidecar = {**facts, "backend": self.name}
            if capability and chosen.compute_capabilities:
                here["compute_capability"] = [capability]
            return f"build it again here: {rebuild_command(path, here)}"

        facts = read_sidecar(path, self.name, rebuild)
        device = cudart.loaded().device_name() if count else facts["device"]
        known = capability or (facts["compute_capability"] or ["SM0"])[0]
        here = HostMachine(self.name, str(trt.__version__), device, known, architecture(), l4t_release())
        problem = incompatibility(facts, here, chosen)
        if problem:
            raise EngineError(f"{path.name} {problem}", rebuild(facts))
        if count == 0:
            raise EngineError(
                f"{path.name} is built, not run: {reason}",
                "run it on a machine with an NVIDIA GPU and its driver",
            )
        weights = None
        if facts["weights"]:
            weights = (
                path.with_name(facts["weights"]["file"]) if path.name == facts["name"] else weights_path(path)
            )
            if not weights.is_file() or sha256(weights) != facts["weights"]["sha256"]:
                raise EngineError(
                    f"{path.name} was built without its weights, and {weights.name} is missing or another file",
                    f"put {weights.name} beside it, or {rebuild(facts)}",
                )
        return TensorRTEngine(
            path,
            self.name,
            facts["batch_sizes"],
            host_code=bool(facts["options"].get("version_compatible")),
            weights=str(weights or ""),
        )

    def library(self) -> tuple[Any, Dialect]:
        """The library and its dialect.

        Raises:
            BackendMissing: it is not installed, cannot be imported, or is too old.
        """
        trt = library(self.name)
        return trt, dialect(self.name, str(trt.__version__))


def weights_path(engine: Path) -> Path:
    """`<engine>.weights.onnx`: the weights of an engine that was built without them."""
    engine = Path(engine)
    return engine.with_name(f"{engine.name}.weights.onnx")


def _driver_fix() -> str:
    """What makes the GPU here usable, where there is one."""
    gpu = present()
    if gpu is None:
        return "run engines on a machine with an NVIDIA GPU and its driver"
    lacks = driver_lacks(gpu.driver, cudart.version())
    return f"update it: {lacks}" if lacks else f"{gpu.name} is here: does nvidia-smi list it?"


def _gpu() -> tuple[str, str]:
    """Compute capability of the GPU here; or empty, and why there is none to use."""
    count, reason = cudart.probe()
    try:
        return (_current_capability(), "") if count else ("", reason)
    except EngineError as error:  # a driver that counts devices and cannot use them
        return "", error.what


def _current_capability() -> str:
    major, minor = cudart.loaded().compute_capability()
    return f"SM{major}{minor}"


__all__ = ["TensorRTBackend", "TensorRTEngine", "weights_path"]
