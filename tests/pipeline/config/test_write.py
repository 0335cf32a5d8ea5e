"""A config that is written: equal to what it was when it is loaded again, and nothing is written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.config.write import write_config
from pipeline.core.errors import ConfigError
from tests.pipeline.config.test_search_file import BASE


def test_a_written_config_is_the_same(tmp_path: Path) -> None:
    """Keys that nobody set are left out; the comment stands at its head."""
    path, out = tmp_path / "base.yaml", tmp_path / "out.yaml"
    path.write_text(BASE, encoding="utf-8")
    config = load_config(path, ["distill.figkd.weight=0.123456789012", "precision.select=int8"])
    write_config(out, config, "Point 1\nof a search")
    text = out.read_text(encoding="utf-8")
    assert text.startswith("# Point 1\n# of a search\n") and "momentum" not in text
    assert load_config(out) == config
    with pytest.raises(ConfigError, match="there is something already"):
        write_config(out, config, "")
    assert out.read_text(encoding="utf-8") == text
