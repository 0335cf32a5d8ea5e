"""The pages that people read: every one is on the site, and every link between them leads somewhere."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def _tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them; of two equal headings the first has the plain one."""
    tokens = _tokens(page.read_text(encoding="utf-8"))
    found = set()
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            words = "".join(t.content for t in inline.children or () if t.type in ("text", "code_inline"))
            found.add(re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-"))
    return found


def _links(text: str) -> Iterator[str]:
    for token in _tokens(text):
        for inline in token.children or ():
            if inline.type in ("link_open", "image"):
                yield str(inline.attrs["href" if inline.type == "link_open" else "src"])


def _problems(page: Path, root: Path) -> list[str]:
    """Links of a page that lead nowhere within the repository; other hosts are not asked."""
    found = []
    for link in _links(page.read_text(encoding="utf-8")):
        parts = urlsplit(link)
        if parts.scheme in ("http", "https", "mailto"):
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if parts.path.startswith("/") or not target.is_relative_to(root):
            found.append(f"{link}: not relative, or outside the repository")
        elif not target.exists():
            found.append(f"{link}: there is no such file")
        elif parts.fragment and (target.suffix != ".md" or unquote(parts.fragment) not in _anchors(target)):
            found.append(f"{link}: there is no such heading")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Files and headings, on the code host and on the site alike."""
    assert not _problems(page, ROOT)


def test_every_promise_names_tests_that_are_there() -> None:
    """docs/security.md: a promise without a test is none."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    folder, named = Path(), 0
    for row in re.findall(
        r"^\| (?!---|promise|who).*$", text.partition("## What is promised")[2], re.MULTILINE
    ):
        tests = re.findall(r"`([\w/]*test_\w+\.py)`", row.rsplit(" | ", 1)[-1])
        assert tests, row
        for test in tests:  # of one without a folder, that of the test before
            folder = Path(test).parent if "/" in test else folder
            assert (ROOT / "tests" / folder / Path(test).name).is_file(), test
            named += 1
    assert named > 40


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("[a](other.md)", ""), ("[a](other.md#two-words-code)", ""), ("![a](a%20picture.png)", ""), ("[a](#here)", ""),
        ("[a](https://example.org/none)", ""), ("`[a](none.md)`", ""), ("[a](none.md)", "no such file"),
        ("![a](none.png)", "no such file"), ("[a](other.md#none)", "no such heading"), 
        ("[a](#none)", "no such heading"),
        ("| a |\n| - |\n| [a](none.md) |", "no such file"), ("[a][b]\n\n[b]: none.md", "no such file"),
        ("[a](other.md#not-a-heading)", "no such heading"), ("[a](/other.md)", "not relative"),
        ("[a](../../other.md)", "outside"), ("[a](Other.md)", "no such file"), 
        ("[a](a%20picture.png#x)", "no such heading"),
    ],
)  # fmt: skip
def test_the_check_itself(tmp_path: Path, link: str, problem: str) -> None:
    """It finds each kind of dead link, and takes nothing else for one."""
    (tmp_path / "other.md").write_text("# Two words, `code`\n\n```\n# Not a heading\n```\n")
    (tmp_path / "a picture.png").touch()
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n\n{link}\n")
    found = _problems(page, tmp_path)
    assert len(found) == bool(problem) and problem in "".join(found)


def _entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _entries(entry)


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    """Once each."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(_entries(nav)) == sorted(page.relative_to(ROOT).as_posix() for page in PAGES)
