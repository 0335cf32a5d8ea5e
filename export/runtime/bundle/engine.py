"""The engine of a bundle, loaded from the bytes that were checked; refused where it is for another machine."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING, Any, Callable, Dict

from ..errors import ExportError
from .errors import BundleRefused, CannotRun, shown

if TYPE_CHECKING:
    from typing import Protocol

    from ..arrays import Array
    from .manifest import Manifest

    class Engine(Protocol):
        """A loaded engine; not thread-safe."""

        input_shape: tuple[int, ...]
        """Of one image, without the batch."""
        input_dtype: str
        facts: dict[str, Any]
        """How it runs."""

        def infer(self, images: Array) -> Array:
            """Logits float32 [N, C] of images [N, ...]."""
            ...

        def close(self) -> None:
            """Release what it holds."""
            ...


_L4T_FILE = "/etc/nv_tegra_release"


def load_engine(data: bytes, manifest: Manifest, threads: int | None = None) -> Engine:
    """A bundle's engine from its bytes.

    Args:
        data: of the engine's file, as `Bundle.read` gave them.
        manifest: of the bundle.
        threads: CPU threads; None: as it was measured.

    Raises:
        CannotRun: the engine is for another machine, or its library is missing or does not take it.
    """
    require_machine(manifest)
    chosen = threads or manifest.engine.threads or None
    try:
        engine: Engine = _LOADERS[manifest.engine.backend](data, chosen)
        return engine
    except ExportError as error:
        raise CannotRun(error.what, error.fix) from error


def require_machine(manifest: Manifest) -> None:
    """Refuse a machine that the engine is not for, as far as that is known without its library.

    Raises:
        CannotRun: says what differs.
    """
    needs, here = manifest.needs, platform.machine()
    fix = "take the bundle that was made for this machine"
    if needs.architecture not in ("", here):
        raise CannotRun("the engine is for %s, this machine is %s" % (needs.architecture, here), fix)
    release = l4t_release()
    if needs.l4t not in ("", release):
        raise CannotRun("the engine is for L4T %s, here is %s" % (needs.l4t, release or "none"), fix)
    for package, version in sorted(needs.versions.items()):
        found = _version(package)
        if found and found != version:
            raise CannotRun("the engine is for %s %s, here is %s" % (package, version, found), fix)


def l4t_release() -> str:
    """Release of NVIDIA's board support package, such as `36.4`; empty where there is none."""
    try:
        with open(_L4T_FILE, encoding="ascii", errors="replace") as file:
            text = file.read(200)
    except OSError:
        return ""
    found = re.match(r"# R(\d+) \(release\), REVISION: ([0-9.]+)", text)
    return "%s.%s" % found.groups() if found else ""


def _version(package: str) -> str:
    try:
        return str(getattr(__import__(package), "__version__", ""))
    except Exception:  # the loader says what is missing
        return ""


def _onnx_runtime(data: bytes, threads: int | None) -> Engine:
    from ..onnx_session import OnnxRuntimeEngine

    return OnnxRuntimeEngine(data, threads)


def _tensorrt(name: str) -> Callable[[bytes, int | None], Engine]:
    def load(data: bytes, threads: int | None) -> Engine:
        raise CannotRun("engines of %s are not run by this version" % shown(name))

    return load


_LOADERS: Dict[str, Callable[[bytes, "int | None"], Any]] = {
    "onnxruntime": _onnx_runtime,
    "tensorrt": _tensorrt("tensorrt"),
    "tensorrt_rtx": _tensorrt("tensorrt_rtx"),
}


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
