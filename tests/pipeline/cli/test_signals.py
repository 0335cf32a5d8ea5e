"""Protects: a signal at any time after the first line of the command is an interruption: a message and exit 130."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import Exit
from tests.pipeline.conftest import FONTS, ROOT, environment

# Sends itself a signal at the import of a module that the command needs.
_AT_IMPORT = """
import builtins, os, sys
import pipeline.cli
real, number, at, how = builtins.__import__, int(sys.argv[1]), sys.argv[2], sys.argv[3]
def load(name, *rest, **more):
    if name.startswith(at):
        builtins.__import__ = real
        try:
            os.kill(os.getpid(), number)
            for _ in range(10**7):
                pass
        except KeyboardInterrupt:
            if how == "hidden":  # as code written in C does
                raise ImportError("initialisation failed")
            raise
    return real(name, *rest, **more)
builtins.__import__ = load
sys.argv = ["figkd-pipeline", "plan", sys.argv[4]]
pipeline.cli.main()
"""


def _at_import(number: int, module: str, how: str, ignored: bool = False) -> subprocess.CompletedProcess[str]:
    def before() -> None:  # a test runner's shell may ignore some of them
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)

    return subprocess.run(
        [sys.executable, "-c", _AT_IMPORT, str(int(number)), module, how, str(FONTS)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, preexec_fn=before,
    )  # fmt: skip


@pytest.mark.parametrize("how", ["plain", "hidden"])
@pytest.mark.parametrize("module", ["click", "pipeline.run.planning"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_modules_are_loaded(number: signal.Signals, module: str, how: str) -> None:
    """Long before the first stage, and where a library turns the interrupt into another error."""
    done = _at_import(number, module, how)
    assert done.returncode == Exit.INTERRUPTED, done.stderr
    assert done.stderr.strip() == (
        "interrupted; what was finished is kept, and the same command goes on from there"
    )


def test_a_signal_that_the_caller_ignores_stays_ignored(tmp_path: Path) -> None:
    """`nohup figkd-pipeline ...`"""
    done = _at_import(signal.SIGHUP, "click", "plain", ignored=True)
    assert done.returncode == 0, done.stderr
    assert "interrupted" not in done.stderr
