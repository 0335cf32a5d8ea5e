"""A process with many open files."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

import pytest

_MANY = 1100


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:
    """Within this block all descriptors below 1024 are taken, which is what `select.select` can watch."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * _MANY:
        pytest.skip(f"this system lets a process open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * _MANY), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        null = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, null)
        for _ in range(_MANY):
            stack.callback(os.close, os.dup(null))
        yield
