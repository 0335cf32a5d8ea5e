"""Commands without a process of their own."""

from __future__ import annotations

from pathlib import Path

from click import ClickException
from click.testing import CliRunner

from pipeline.cli.entry import cli
from pipeline.core.errors import PipelineError
from tests.pipeline.conftest import Done


def run(*words: str | Path) -> Done:
    """A command in this process."""
    done = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    error = done.exception
    if error is None:
        return Done(int(done.return_value or 0), done.stdout, done.stderr)
    assert isinstance(error, PipelineError | ClickException), error
    return Done(int(error.exit_code), done.stdout, str(error))
