"""What can go wrong when a release is installed, and the exit code of each."""

from __future__ import annotations

TAKEN_BACK = 1
"""The release is what it says and does not work here; the old model serves."""
USAGE = 2
ENVIRONMENT = 4
"""This machine lacks something: room, rights, a free lock, a file."""
REFUSED = 6
"""The bundle is damaged, changed, unsigned or older than what was installed; nothing of it was run."""
INTERRUPTED = 130


class InstallError(Exception):
    """A failure with what happened, where, and how to fix it. The model that served before still serves."""

    exit_code = ENVIRONMENT

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        head = "{}: {}".format(self.where, self.what) if self.where else self.what
        return "{}\n  fix: {}".format(head, self.fix) if self.fix else head


class Usage(InstallError):
    """The command asks for something that cannot be."""

    exit_code = USAGE


class Environment(InstallError):
    """This machine lacks something."""

    exit_code = ENVIRONMENT


class Refused(InstallError):
    """A bundle that must not be installed here."""

    exit_code = REFUSED


class TakenBack(InstallError):
    """A release failed its self-test, or while it was watched, and does not serve."""

    exit_code = TAKEN_BACK
