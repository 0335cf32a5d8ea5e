"""Checks that end in every way that a check can end in."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.checks import Failed, Found, NotApplicable, NotRun, Options


def passes(options: Options) -> Found:
    """Measures the process that it runs in."""
    print("a line that nobody asked for")
    return {"process": os.getpid(), "note": "fine"}


def fails(options: Options) -> Found:
    raise Failed("too far apart", {"gap": 3})


def raises(options: Options) -> Found:
    raise ZeroDivisionError("a mistake")


def crashes(options: Options) -> Found:
    print("the last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def hangs(options: Options) -> Found:
    threading.Event().wait()
    return {}


def announces_and_hangs(options: Options) -> Found:
    """Tells whoever reads the pipe two folders up which process it is."""
    (options.folder.parents[1] / "pipe").write_text(str(os.getpid()))
    return hangs(options)


def lacks(options: Options) -> Found:
    import a_package_that_does_not_exist  # type: ignore[import-not-found]

    return {"found": a_package_that_does_not_exist}


def is_wrong(options: Options) -> Found:
    import figkd.a_module_that_does_not_exist  # type: ignore[import-not-found]

    return {"found": figkd.a_module_that_does_not_exist}


def does_not_apply(options: Options) -> Found:
    raise NotApplicable("this version has no such thing")


CHECKS: dict[str, Callable[[Options], Found]] = {
    check.__name__: check
    for check in (
        passes, fails, raises, crashes, hangs, announces_and_hangs, lacks, is_wrong, does_not_apply,
    )
} | {"passes_again": passes}  # fmt: skip


def prepare(group: str, options: Options) -> tuple[Any, Found]:
    if group == "missing":
        raise NotRun("no such library")
    if group == "crashing":
        os.abort()
    return options, {group: "prepared"}
