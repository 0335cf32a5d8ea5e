"""One build for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.runtime_cpp import built


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the programs of `CMakeLists.txt`, built with sanitizers."""
    if reason := built.missing():
        pytest.skip(reason)
    return built.build(tmp_path_factory.mktemp("runtime_cpp"))
