"""The data in words: nothing is lost, nothing is unbounded, and sound data worry nobody."""

from __future__ import annotations

import io
import re

import pytest
from data_sample import data_sample, data_sample_messy, sheet_sample
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.core.terminal import Filtered
from pipeline.report import data_markdown
from pipeline.report.data_page import render_data_page
from pipeline.report.data_terminal import render_data
from pipeline.report.data_words import MOST_ROWS, class_table, facts, worries
from pipeline.results.data_summary import SourceImages, Spread

EVERYTHING = [
    "582: 447 train (the rest), 45 val (held out), 90 test (given)",
    "3, 7 to 400 training images each; the largest has 57 times the smallest",
    "500 JPEG, 82 PNG",
    "width 640 px (median; 60 to 4,000), height 480 px (median; 40 to 3,000)",
    "224 x 224 px, the centre of 256 x 256 px; 100 of 582 images (17 %) are smaller, and enlarged; decoded on the fly",
    "20 train images are copies of others there",
    "1 test image is a copy of a train image",
    "2 images stand under several labels with one content, e.g. oak/1.jpg and ash/1.jpg",
    "1 x hidden (.cache/)",
    "3 x empty file (oak/a.jpg, oak/b.jpg, ...)",
    "4 x damaged (oak/d.jpg, elm/e.jpg, ...)",
    "integers of more than 8 bits: 0 is black, 4,095 is white",
    "wholly transparent, and so white: 1 image, e.g. oak/f.png",
    "test has no images of elm",
]
WORRIES = [
    "1 of 90 test images (1.1 %) repeat train images: results on test may look better than they are, by up to",
    "2 of 582 images (0.34 %) stand under several labels with the same content",
    "1 class has fewer than 20 training images: “elm” (7). More images help these most.",
    "“oak” has 57 times as many training images as “elm”. The share of right answers (top-1) then tells mostly about",
    "20 of 582 images (3.4 %) repeat another one of their split",
    "100 of 582 images (17 %) are smaller than the 224 px that the network sees",
    "4 images could not be decoded, and are not used.",
    "Left out: 3 x empty file (oak/a.jpg, oak/b.jpg, ...); copy it again, or remove it.",
]


def test_everything_is_said_once() -> None:
    """Protects the summary: every number of the data has its words."""
    assert [value for fact in facts(data_sample_messy()) for value in fact.values] == EVERYTHING


def test_worries_are_those_that_matter_first() -> None:
    """Protects: what may make a result wrong comes before what is worth a look."""
    said = [worry.text for worry in worries(data_sample_messy())]
    assert len(said) == len(WORRIES) and all(
        text.startswith(w) for text, w in zip(said, WORRIES, strict=True)
    )


def test_sound_data_worry_nobody() -> None:
    """Protects: a warning that always comes is none; what was made here is called so."""
    data = data_sample(["a", "b"])
    assert worries(data) == []
    said = {fact.label: list(fact.values) for fact in facts(data)}
    assert said["Formats"] == ["1,500 rendered here"] and said["Copies"] == ["not looked for"]
    assert said["Size"] == ["width 40 px, height 40 px"] and said["Left out"] == ["nothing"]


def test_formats_are_told_by_number() -> None:
    """Protects against the order of JSON keys: the most frequent format comes first, whatever its name."""
    spread = Spread(min=9, median=9, max=9)
    sources = SourceImages(formats={"BMP": 1, "JPEG": 5, "array": 3}, width=spread, height=spread, enlarged=0)
    said = {fact.label: fact.values for fact in facts(data_sample(["a", "b"], sources=sources))}
    assert said["Formats"] == ["5 JPEG, 3 as pixels of a table or an archive, 1 BMP"]


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=200))
def test_tables_are_bounded_and_true(counts: list[int]) -> None:
    """Protects pages of data with thousands of classes: each shown row is a class's, the extremes are always shown."""
    names = [f"c{n}" for n in range(len(counts))]
    rest = [1] * len(counts)
    table = class_table(data_sample(names, images={"train": counts, "val": rest, "test": rest}))
    assert len(table.rows) <= MOST_ROWS and bool(table.rest) == (len(counts) > MOST_ROWS)
    assert all(row.name == names[row.output] and row.images[0] == counts[row.output] for row in table.rows)
    shown = [row.images[0] for row in table.rows]
    assert min(shown) == min(counts) and max(shown) == max(counts)


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.floats(0, 1))
@example(10**7, 10**7, 4e-8)
@example(10, 10, 1.0)
def test_numbers_are_written_out(least: int, more: int, part: float) -> None:
    """Protects readers from 1e+02 %, whatever the sizes."""
    spread = Spread(min=1, median=2, max=3)
    total = 2 * (least + least + more)
    data = data_sample(
        ["a", "b"],
        images={"train": [least, least + more], "val": [1, 1], "test": [1, 1]},
        sources=SourceImages(
            formats={"JPEG": total}, width=spread, height=spread, enlarged=round(part * total) // 2
        ),
    )
    text = " ".join(
        [value for fact in facts(data) for value in fact.values] + [w.text for w in worries(data)]
    )
    assert not re.search(r"\de[+-]\d", text)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_three_views_say_the_same(width: int) -> None:
    """Protects against views that drift apart: each has every fact, every worry and every class."""
    data = data_sample_messy()
    page = render_data_page("trees", data, sheet_sample(data))
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(Filtered(render_data(data)), crop=False, end="")
    assert isinstance(console.file, io.StringIO)
    terminal, markdown = console.file.getvalue(), data_markdown.render(data)
    lines = [line for line in terminal.splitlines() if len(line.rstrip()) > width]
    assert not lines
    for view in (page, terminal, markdown):
        words = " ".join(view.replace("\N{NO-BREAK SPACE}", " ").replace("\\_", "_").split())
        for said in (*EVERYTHING, *WORRIES):
            assert said in words, said
        for name in data.classes:
            assert name in words


def test_a_page_of_10000_classes_is_small() -> None:
    """Protects many classes: tables and pictures are bounded, and what is not shown is counted."""
    data = data_sample_messy([f"class {n}" for n in range(10_000)])
    page = render_data_page("many", data, sheet_sample(data))
    assert len(page) < 200_000
    assert "A few training images of 60 of the 10,000 classes" in page
    assert "The 9,970 between them have 100 training images each" in " ".join(page.split()).replace(
        "\xa0", " "
    )


def test_pictures_have_alternative_texts() -> None:
    """Protects those who hear the page, and names that are markup."""
    data = data_sample_messy(['"><script>x', "ash", "elm"])
    page = render_data_page("trees", data, sheet_sample(data))
    assert page.count("<img") == page.count(' alt="training image of ') == 9
    assert "<script" not in page
