"""The site, built: `make site`. Skipped where MkDocs is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import figkd

ROOT = Path(__file__).parents[1]
NEEDED = ("mkdocs", "material", "mkdocstrings", "latex2mathml")

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason="MkDocs is not installed (make site installs it)"
)


class _Page(HTMLParser):
    """What a page refers to, what it loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif tag in ("script", "img", "iframe", "source") and "src" in values:
            self.loaded.add(values["src"])
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.add(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, _Page]:
    """Every page of the site, by its file. The build is strict: a warning ends it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {path: _Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


def test_nothing_is_loaded_from_another_host(site: dict[Path, _Page]) -> None:
    """Fonts, scripts and pictures lie beside the pages."""
    for path, page in site.items():
        for address in page.loaded:
            parts = urlsplit(address)
            assert not parts.scheme.startswith("http") and not parts.netloc, (path.name, address)
            if not parts.scheme and path.name != "404.html":
                assert (path.parent / unquote(parts.path)).is_file(), (path.name, address)


def test_links_lead_somewhere(site: dict[Path, _Page]) -> None:
    """The rendered ones, those of the API pages and of the theme among them."""
    for path, page in site.items():
        for link in page.links if path.name != "404.html" else ():
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), (path.name, link)
            if parts.fragment and target in site:
                assert unquote(parts.fragment) in site[target].ids, (path.name, link)


def test_public_names_are_documented(site: dict[Path, _Page]) -> None:
    """Every name of `figkd.__all__`, and every module of `export`."""
    ids = set().union(*(page.ids for page in site.values()))
    assert {f"{figkd._WHERE[name]}.{name}" for name in figkd.__all__} <= ids
    modules = [path for path in (ROOT / "export").rglob("*.py") if not path.stem.startswith("_")]
    assert {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules} <= ids


def test_formulas_need_no_script(site: dict[Path, _Page]) -> None:
    """They are MathML; none is left as TeX."""
    (path,) = (path for path in site if path.name == "method.html")
    text = path.read_text(encoding="utf-8")
    assert text.count("<math ") > 40 and 'class="arithmatex"' not in text
