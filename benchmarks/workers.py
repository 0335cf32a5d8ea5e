"""Processes that live through all rounds of a benchmark and take turns: each answers a line with a line."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence


class Enough(Exception):
    """Ends a training, from its progress, once it has been timed for long enough."""


@contextlib.contextmanager
def workers(
    words: Mapping[str, Sequence[str]], environs: Mapping[str, Mapping[str, str]]
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A Python process for each name, with its words and environment, ready to be asked; it says "ready" first."""
    with contextlib.ExitStack() as stack:
        started = {}
        for name, given in words.items():
            process = subprocess.Popen(
                [sys.executable, *given], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env=environs[name],
            )  # fmt: skip
            stack.callback(process.kill)
            started[name] = process
            if answer(process) != "ready":
                sys.exit(f"error: the worker {name!r} did not start")
        yield started


def answer(process: subprocess.Popen[str], line: str = "") -> str:
    """The next line of a worker, which is given one first."""
    assert process.stdin is not None and process.stdout is not None
    if line:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    return process.stdout.readline().strip()
