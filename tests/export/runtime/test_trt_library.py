"""Protects processes that build engines: Python's collector waits while TensorRT logs, and runs again afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from export.runtime.trt_library import collector_held


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_afterwards_what_it_was(on: bool) -> None:
    """Also after an error, and only after the last of several blocks, in whatever order they end."""
    (gc.enable if on else gc.disable)()
    first, second = collector_held(), collector_held()
    with first:
        assert not gc.isenabled()
        second.__enter__()
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled() is on
    with pytest.raises(ValueError, match="inside"), collector_held():
        raise ValueError("inside")
    assert gc.isenabled() is on
