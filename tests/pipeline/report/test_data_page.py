"""The page of the data goes where it harms nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_sample import data_sample

from pipeline.core.errors import ConfigError
from pipeline.report.contact_sheet import ContactSheet
from pipeline.report.data_page import render_data_page
from pipeline.report.page_place import check_place


def test_the_page_replaces_itself_and_nothing_else(tmp_path: Path) -> None:
    """Protects users' files: a config named by mistake, a page of somebody's, a folder and a link stay."""
    page = tmp_path / "data.html"
    check_place(page, "data", "--html")
    page.write_text(render_data_page("x", data_sample(["a", "b"]), ContactSheet()))
    check_place(page, "data", "--html")
    (tmp_path / "own.html").write_text("<html>mine</html>")
    (tmp_path / "config.yaml").write_text("name: x")
    (tmp_path / "link.html").symlink_to(page)
    (tmp_path / "dangling.html").symlink_to("/nonexistent")
    for name in ("own.html", "config.yaml", "link.html", "dangling.html", ""):
        with pytest.raises(ConfigError, match="not replaced") as caught:
            check_place(tmp_path / name, "data", "--html")
        assert "--html" in caught.value.fix
