"""The command line: thin. Every command loads what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import sys
from typing import NoReturn

from pipeline.cli import signals
from pipeline.core.errors import Exit


def main() -> NoReturn:
    """Entry point: run the command and end with a documented exit code."""
    with signals.as_interrupts() as interrupts:
        try:
            from pipeline.cli.entry import execute

            code = execute(sys.argv[1:], interrupts)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:
            # Code written in C may turn an interrupt into another error.
            if not interrupts and not isinstance(error, KeyboardInterrupt):
                raise
            code = Exit.INTERRUPTED
        if code == Exit.INTERRUPTED:
            signals.tell()
    from figkd.distributed import leave

    leave(code)
