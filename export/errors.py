"""Errors that a user can cause or must act on."""

from __future__ import annotations


class ExportError(Exception):
    """A failure with one clear sentence (`what`) and, where there is one, the remedy (`fix`)."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what if not fix else f"{what} ({fix})")
        self.what = what
        self.fix = fix


class ParityError(ExportError):
    """The ONNX file does not compute what the module computes."""


class PrecisionError(ExportError):
    """A precision file cannot be made from the given model or calibration data."""


class BuildError(ExportError):
    """An engine could not be built."""


class EngineError(ExportError):
    """An engine file could not be loaded, or failed while it ran."""


class BackendMissing(ExportError):
    """The library behind a back end is not installed or cannot be used here."""


def first_line(error: Exception) -> str:
    """The first line of what a library says, at most 300 characters; its type where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line[:300] for line in lines if line), type(error).__name__)
