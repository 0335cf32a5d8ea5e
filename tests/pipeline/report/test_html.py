"""The page is complete, honest, offline, and cannot be broken by names that somebody chose."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from sample import CLASSES, sample, sample_bare, sample_crowded, sample_missed, sample_useless

from pipeline.report.html import goals, render_html, tight
from pipeline.report.machine import flatten, machine_facts
from pipeline.results.result import Result

HOSTILE = '<script>alert("x")</script>$\\frac{1}{0}$ & \'"><img src=http://evil.example/x onerror=alert(1)>'
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and visible text, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> inside {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


RESULTS = [sample(), sample_missed(), sample_crowded(), sample_bare(), sample_useless()]


@pytest.fixture(scope="module", params=RESULTS, ids=lambda r: f"{r.name}-{r.verdict}")
def rendered(request: pytest.FixtureRequest) -> tuple[Result, str, Page]:
    result: Result = request.param
    text = render_html(result)
    return result, text, Page(text)


def test_one_row_for_every_engine(rendered: tuple[Result, str, Page]) -> None:
    """A row that failed, is missing or did not run must not disappear from the table."""
    result, _, page = rendered
    rows = [a["id"] for a in page.all("th") if a.get("scope") == "row" and a.get("id")]
    assert rows == [engine.id for engine in result.engines]


def test_needs_nothing_from_outside(rendered: tuple[Result, str, Page]) -> None:
    """The page must look the same on an aeroplane: nothing is fetched, nothing is run."""
    _, text, page = rendered
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:,", "data:image/")), (
                f"<{tag} {name}={value}>"
            )
        assert not any(name.startswith("on") for name in attributes)
    assert "http://" not in text and "https://" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text


def test_references_inside_the_page_lead_somewhere(rendered: tuple[Result, str, Page]) -> None:
    """Four drawings share one page: their ids may not clash, and clips and links must find theirs."""
    _, text, page = rendered
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    wanted = re.findall(r"url\(#([^)]*)\)", text) + [
        str(a["href"])[1:] for _, a in page.tags if str(a.get("href")).startswith("#")
    ]
    assert set(wanted) <= set(ids)


def test_tables_are_labelled(rendered: tuple[Result, str, Page]) -> None:
    """Screen readers need header scopes; charts need a name."""
    _, _, page = rendered
    assert all(a.get("scope") in {"col", "row", "rowgroup"} for a in page.all("th"))
    for svg in page.all("svg"):
        assert svg["role"] == "img"
        assert svg["aria-labelledby"] in {a.get("id") for a in page.all("title")}


def test_equal_results_give_equal_pages(rendered: tuple[Result, str, Page]) -> None:
    """A report that changes by itself cannot be compared; dates and random ids come from nowhere."""
    result, text, _ = rendered
    again = Result.model_validate_json(result.model_dump_json())
    assert render_html(again) == text


def test_top_says_what_to_ship_and_why() -> None:
    """The first thing that a reader sees is the decision, with its numbers, units, n and boundary."""
    page = Page(render_html(sample())).text.replace("\N{NO-BREAK SPACE}", " ")
    top = page[: page.index("One row for each engine")]
    for phrase in (
        "Pass",
        "Ship cpu/int8",
        "fastest of 2 within budget: median 0.121 ms",
        "Not judged: nothing ran here",
        "66.62 %",
        "−0.52 points from the network it was made from, n = 2,100",
        "median of 8,412, one image at a time, inference alone",
    ):
        assert phrase in top


def test_missed_budgets_and_failures_are_in_words() -> None:
    """Which budget, value, limit and by how much; the reason and the fix of whatever did not work."""
    page = Page(render_html(sample_missed())).text.replace("\N{NO-BREAK SPACE}", " ")
    for phrase in (
        "Budget missed",
        "p99 latency ≤ 0.2 ms",
        "0.296 ms 0.096 ms over",
        "top-1 ≥ 70 %",
        "66.62 % 3.38 points short",
        "node Conv_12: no tactic for FP32 with this padding",
        "set precision.exclude to [Conv_12]",
        "back end missing",
        "pip install 'figkd-pipeline[tensorrt]'",
        "no NVIDIA GPU on this machine",
        "validate@rtx failed the engine returned 3 rows that are not finite",
        "keep the norms in FP32",
    ):
        assert phrase in page


def test_accuracy_that_is_not_the_engines_own_is_marked() -> None:
    """An engine that could not run has its ONNX file's accuracy: the reader must see that."""
    page = Page(render_html(sample()))
    marks = [a for a in page.all("abbr") if a.get("title", "") and "in ONNX Runtime" in str(a["title"])]
    assert len(marks) == 9
    assert "† Accuracy of the engine's ONNX file in ONNX Runtime" in page.text
    ran = sample(engines=sample().engines[:3])
    assert "†" not in render_html(ran)


def test_hostile_names_stay_text() -> None:
    """Class names are folder names of somebody's data; engine, package and step names come from files."""
    result = sample_missed()
    raw = json.loads(result.model_dump_json())

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: poison(v) for key, v in value.items()}
        if isinstance(value, list):
            return [poison(v) for v in value]
        return (
            HOSTILE
            if isinstance(value, str) and value in {*CLASSES, "cpu", "no NVIDIA GPU on this machine"}
            else value
        )

    raw = poison(raw)
    raw["name"] = raw["git"] = HOSTILE
    raw["packages"][HOSTILE] = HOSTILE
    raw["config"][HOSTILE] = HOSTILE
    raw["machine"][HOSTILE] = [HOSTILE]
    raw["failures"][HOSTILE] = {"what": HOSTILE, "fix": HOSTILE}
    raw["engines"][0]["id"] = raw["engines"][0]["precision"] = HOSTILE
    raw["student"]["method"] = HOSTILE
    text = render_html(Result.model_validate(raw))
    page = Page(text)
    assert not page.all("script") and not page.all("img")
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert '<script>alert("x")</script>' in page.text


def test_goals_become_columns() -> None:
    """A goal that concerns only some engines leaves a gap, and never shifts the other columns."""
    engines = sample().engines
    engines[0] = engines[0].model_copy(update={"budgets": engines[0].budgets[1:]})
    table = goals(engines)
    assert [(j.metric, j.goal) for j in table.columns] == [
        ("latency_p99_ms", "max"),
        ("engine_mb", "max"),
        ("top1", "max_drop"),
    ]
    assert table.cells["cpu/fp32"][2] is None
    for engine in engines[1:]:
        assert [j and j.metric for j in table.cells[engine.id]] == ["latency_p99_ms", "engine_mb", "top1"]


def test_flatten_keeps_every_fact() -> None:
    """Nested machine facts are shown, lists in one line; what is unknown is left out."""
    facts = {"cpu": "x", "before": {"load": [0.5, 1], "deep": {"a": 0}}, "gpu": None, "none": []}
    assert list(flatten(facts)) == [
        ("cpu", "x"),
        ("before.load", "0.5, 1"),
        ("before.deep.a", "0"),
        ("none", "–"),
    ]


def test_machine_facts_are_said_once() -> None:
    """Facts from before and after the timings become one list that shows what changed in between."""
    same = {"cpu": {"model": "X", "cores": 2}, "packages": {"torch": "2.11.0", "numpy": "2.0"}}
    result = sample(
        machine={
            "before": {**same, "clock_mhz": 2000, "load": 0.1},
            "after": {**same, "clock_mhz": 1400, "gpu_c": 71},
        }
    )
    assert machine_facts(result.machine, result.packages) == [
        ("cpu.model", "X", ""),
        ("cpu.cores", "2", ""),
        ("packages.numpy", "2.0", ""),
        ("clock_mhz", "2000", "1400"),
        ("load", "0.1", "–"),
        ("gpu_c", "–", "71"),
    ]
    assert [f[:2] for f in machine_facts({"cpu": "X"}, {})] == [("cpu", "X")]
    assert "2000 → 1400" in Page(render_html(result)).text


def test_tight_keeps_numbers_with_their_units() -> None:
    """A line may not break between a number and its unit; other spaces are left alone."""
    assert (
        tight("n = 8 of 10 sacks in 3.4 % > 2.5 ms")
        == "n\u00a0=\u00a08 of 10 sacks in 3.4\u00a0% > 2.5\u00a0ms"
    )


def test_mistakes_have_pictures_where_there_are_some() -> None:
    """A result.json alone is told in words; a picture is named for those who cannot see it."""
    result = sample()
    plain = Page(render_html(result))
    assert plain.all("img") == [] and "test image 3" in plain.text
    shown = Page(render_html(result, {3: "data:image/png;base64,AAAA"}))
    assert shown.all("img") == [{"src": "data:image/png;base64,AAAA", "alt": "test image 3"}]
    assert "another class" in shown.text and "Framed: right answers" in shown.text


def test_the_layouts_of_int8_are_explained_once() -> None:
    """And two drops of one file are told apart."""
    text = Page(render_html(sample())).text
    assert text.count("because libraries and CPUs read INT8 differently") == 1
    assert "1.40 points on 1,050 validation images" in text
    assert "On the 2,100 test images the file costs 0.52 points." in text
    assert text.count("Two sets of images give two figures for one file.") == 1
