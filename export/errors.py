"""Errors that a user can cause or must act on."""

from __future__ import annotations

from export.runtime.errors import BackendMissing, EngineError, ExportError, first_line

__all__ = [
    "BackendMissing",
    "BuildError",
    "EngineError",
    "ExportError",
    "ParityError",
    "PrecisionError",
    "first_line",
]


class ParityError(ExportError):
    """The ONNX file does not compute what the module computes."""


class PrecisionError(ExportError):
    """A precision file cannot be made from the given model or calibration data."""


class BuildError(ExportError):
    """An engine could not be built."""
