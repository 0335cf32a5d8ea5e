"""The command `figkd-pipeline`, also as `python -m figkd_pipeline`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from figkd_pipeline import HOME, foreign_packages
from figkd_pipeline.openmp import spin_briefly

_ENVIRONMENT = (
    4  # pipeline.core.errors.Exit.ENVIRONMENT, which cannot be imported where `pipeline` is another's
)


def main() -> NoReturn:
    """Run the command and end with a documented exit code."""
    if foreign := foreign_packages():
        for name, place in foreign.items():
            print(f"error: {place} was imported as `{name}` instead of {HOME}/{name}", file=sys.stderr)
        print(
            "  fix: start the command as `figkd-pipeline` or `python -m figkd_pipeline`; if you did, Python imports "
            "that folder when it starts: look for it in sitecustomize.py, usercustomize.py and .pth files",
            file=sys.stderr,
        )
        sys.exit(_ENVIRONMENT)
    spin_briefly(os.environ)
    from pipeline.cli import main as run

    run()


if __name__ == "__main__":
    main()
