"""Load, run and time an engine: one piece for this machine, for the agent on a device, and inside a bundle.

Python 3.8, the standard library, numpy, and the engine's own module. Imports inside the package are relative, so that
it also runs from a zip archive or under another name. Nothing here reads a config, a sidecar or an ONNX graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bundle.model import Model
    from .bundle.verify import Choice, Path


def load(bundle: Path, trust: Choice) -> Model:
    """Verify a bundle and load it: photos in, class names out. See `bundle.load`."""
    from .bundle import load

    return load(bundle, trust)
