"""A release that is loaded: its model, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional

import numpy as np

from ..bundle import open_bundle
from ..bundle.model import model_of
from ..counts import Tally
from .tensors import Signature

if TYPE_CHECKING:
    from ..bundle.manifest import Manifest
    from ..bundle.model import Model
    from ..bundle.verify import Choice

_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan", "tensorrt_rtx": "tensorrt_rtx"}


class Served:
    """A model that answers requests. The connections' thread counts how many still need it; the worker runs it."""

    def __init__(self, model: Model, manifest: Manifest, name: Optional[str], most_images: int) -> None:
        self.model, self.manifest, self.release = model, manifest, manifest.release
        engine, self.entry = model.engine, model.entry_in(manifest)
        self.signature = Signature(
            name or manifest.name,
            str(manifest.sequence),
            _PLATFORMS[self.entry.backend],
            engine.input_name,
            engine.output_name,
            tuple(engine.input_shape),
            engine.input_dtype,
            model.classes,
            most_images,
        )
        self.tally = Tally(len(model.classes))
        """Of its answers, as far as they are counted."""
        self.active = 0
        """Requests that were begun with it and are not answered yet."""
        self.is_retired = False

    @property
    def labels(self) -> Dict[str, str]:
        """Of the release, for the metrics."""
        return {
            "release": self.release,
            "name": self.signature.name,
            "version": self.signature.version,
            "backend": self.entry.backend,
            "precision": self.entry.precision,
        }

    def facts(self) -> Dict[str, Any]:
        """Of the release, for people."""
        return {"release": self.release, "model": self.signature.name, "version": self.signature.version}


def open_served(folder: str, trust: Choice, name: Optional[str], most_images: int, seen: str = "") -> Served:
    """Verify a bundle, load it, and let the engine answer once.

    Args:
        folder: of the bundle.
        trust: whose signatures count.
        name: of the model for clients; None: the bundle's.
        most_images: that a request may have.
        seen: as for `open_bundle`.

    Raises:
        BundleRefused, CannotRun: as `load`; or the engine's first answer fails.
    """
    bundle = open_bundle(folder, trust, seen=seen)
    model = model_of(bundle)
    try:
        engine = model.engine
        model.answers(np.zeros((1, *engine.input_shape), engine.input_dtype))
        return Served(model, bundle.manifest, name, most_images)
    except BaseException:
        model.close()
        raise
