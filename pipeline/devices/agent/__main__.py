"""Entry points: `serve FOLDER SILENCE_S` talks to a host, `work FOLDER JOB` runs one job."""

from __future__ import annotations

import os
import sys

from .serve import serve
from .work import work


def main(arguments: list[str]) -> int:
    """Run what the arguments name."""
    role, folder, what = arguments
    if role == "serve":
        return serve(folder, os.path.abspath(sys.argv[0]), float(what))
    return work(folder, what)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
