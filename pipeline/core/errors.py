"""What can go wrong, and the exit code each kind of failure ends with."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `figkd-pipeline`; docs/configuration.md lists them for users."""

    OK = 0
    STAGE_FAILED = 1
    CONFIG = 2
    BUDGET_MISSED = 3
    ENVIRONMENT = 4
    DEVICE = 5
    BUNDLE_REFUSED = 6
    INTERRUPTED = 130


class PipelineError(Exception):
    """A failure that the user can act on: what happened, where, and how to fix it."""

    exit_code: Exit = Exit.STAGE_FAILED

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    @property
    def head(self) -> str:
        """Where and what."""
        return f"{self.where}: {self.what}" if self.where else self.what

    def __str__(self) -> str:
        # Lines within a text are indented deeper than the label "fix:", so that none can pass for it.
        texts = (self.head, f"  fix: {self.fix}") if self.fix else (self.head,)
        return "\n".join(text.replace("\n", "\n       ") for text in texts)


class ConfigError(PipelineError):
    """The config, or the command line, asks for something that cannot be."""

    exit_code = Exit.CONFIG


class EnvironmentFault(PipelineError):
    """Data, disk, package or back end that this machine lacks."""

    exit_code = Exit.ENVIRONMENT


class DeviceFault(PipelineError):
    """A remote device that cannot be reached or failed."""

    exit_code = Exit.DEVICE


class BundleFault(PipelineError):
    """A bundle that is not what it says, or is not signed by who must sign it; nothing of it was loaded."""

    exit_code = Exit.BUNDLE_REFUSED


class TakenBack(PipelineError):
    """A release failed its self-test on a device, or while it was watched there; the one before serves."""

    exit_code = Exit.STAGE_FAILED


class StageFailed(PipelineError):
    """A stage started and could not finish; what earlier stages made is kept."""

    exit_code = Exit.STAGE_FAILED
