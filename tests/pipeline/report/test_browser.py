"""The page in a real browser: it fits a laptop and a phone, fetches nothing, and draws something."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from data_sample import data_sample_messy, sheet_sample
from PIL import Image
from sample import latency, sample, sample_bare, sample_crowded, sample_missed, sample_useless
from search_sample import BUDGETS, SCOUTED, scouted_crowded, searched, searched_crowded

from pipeline.report.data_page import render_data_page
from pipeline.report.html import render_html
from pipeline.report.latency_page import render_latency_page
from pipeline.report.scout_page import render_scout_page
from pipeline.report.search_page import render_search_page
from pipeline.results.choice import Reason
from pipeline.results.latency import BenchmarkDocument, BenchmarkRow
from pipeline.results.result import Result

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
# Headless Chromium has a smallest window of about 500 px, so the widths are those of frames in a page.
WIDTHS = (320, 390, 768, 1280)
MEASURE = """<script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument, root = page.documentElement;
    const inside = (e) => e.closest(".scroll, svg, .narrow, .wide");
    const out = [...page.body.querySelectorAll("*")]
      .filter((e) => !inside(e) && e.getBoundingClientRect().right > root.clientWidth + 0.5)
      .map((e) => e.tagName + "." + e.className);
    const text = [...page.querySelectorAll("svg text")].map((t) => t.getBoundingClientRect());
    return {
      name: frame.title, width: root.clientWidth, scroll: root.scrollWidth, out,
      fetched: frame.contentWindow.performance.getEntriesByType("resource").map((r) => r.name),
      rows: page.querySelectorAll("#engines tbody th[scope=row]").length,
      scrollers: [...page.querySelectorAll(".scroll")].filter((e) => e.scrollWidth > e.clientWidth).length,
      cut: [...page.querySelectorAll(".scroll caption")].filter((e) => {
        const words = page.createRange();
        words.selectNodeContents(e);
        return words.getBoundingClientRect().right > root.clientWidth;
      }).map((e) => e.textContent),
      clipped: text.filter((t) => t.left < 0 || t.right > root.clientWidth).length,
      smallest: Math.min(...[...page.querySelectorAll("svg text")].map((t) =>
        parseFloat(getComputedStyle(t).fontSize) * Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b))),
    };
  });
  const out = document.createElement("pre");
  out.id = "found"; out.textContent = JSON.stringify(found); document.body.append(out);
});
</script>"""


def chromium(profile: Path, *arguments: str) -> str:
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
        "--no-first-run",
        f"--user-data-dir={profile}",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def framed(pages: dict[str, str], widths: tuple[int, ...], height: int, script: str = "") -> str:
    frames = "".join(
        f'<iframe title="{name}" width="{width}" height="{height}" style="border:0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
        for name, page in pages.items()
        for width in widths
    )
    return f'<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">{frames}{script}'


def long_names() -> Result:
    """Names of a length that nobody tests with, without a place to break them."""
    result = sample(name="a_deployment_with_a_very_long_name_that_never_seems_to_end_0123456789")
    endless = "Pseudopseudohypoparathyroidism" * 3
    result.student.test.confused[0]["true"] = endless
    result.student.test.worst_classes[0]["name"] = endless
    assert result.confusion and result.engines[2].standing
    result.confusion.classes[3] = result.mistakes[0].true = result.engines[2].standing.majority_class = (
        endless
    )
    result.shipping[0].reason = Reason(code="recorded", text=endless * 2)
    result.machine["cpu"] = endless * 2
    result.engines[0].detail = endless * 2
    result.engines[2].file = f"{endless}/{endless}.onnx"
    result.failures["benchmark@cpu"] = {"what": endless * 2, "fix": endless}
    return result


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("browser")
    results = {
        "pass": sample(),
        "missed": sample_missed(),
        "crowded": sample_crowded(),
        "bare": sample_bare(),
        "useless": sample_useless(),
        "long": long_names(),
    }
    pages = {
        name: render_html(result, sheet=result.your_data and sheet_sample(result.your_data))
        for name, result in results.items()
    }
    endless = data_sample_messy(["Pseudopseudohypoparathyroidism" * 4, "ash", "elm"])
    pages["data"] = render_data_page("endless" * 20, endless, sheet_sample(endless))
    paths = [f"{'long/' * 9}{endless.classes[0]}.onnx", "b.onnx"]
    rows = [
        BenchmarkRow.model_validate(latency("engine", 1.0 + i, 2000, path).model_dump() | {"id": path})
        for i, path in enumerate(paths)
    ]
    pages["latency"] = render_latency_page(BenchmarkDocument(created="2026", latency=rows))
    pages["search"], pages["crowded search"] = map(render_search_page, (searched(), searched_crowded()))
    pages["scout"], pages["crowded scout"] = (
        render_scout_page(document, BUDGETS) for document in (SCOUTED, scouted_crowded())
    )
    page = folder / "frames.html"
    page.write_text(framed(pages, WIDTHS, 900, MEASURE), encoding="utf-8")
    dom = chromium(folder / "profile", "--virtual-time-budget=10000", "--dump-dom", page.as_uri())
    match = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert match, "the measuring script did not run"
    measured: list[dict[str, Any]] = json.loads(html.unescape(match[1]))
    assert len(measured) == len(pages) * len(WIDTHS)
    return measured


def test_page_never_scrolls_sideways(found: list[dict[str, Any]]) -> None:
    """Wide tables scroll inside their own container; nothing else may reach over the right edge."""
    for page in found:
        assert page["width"] in WIDTHS
        assert page["scroll"] <= page["width"], page
        assert page["out"] == [], page


def test_wide_tables_scroll_on_a_phone(found: list[dict[str, Any]]) -> None:
    """Guards the measurement above: at 390 px the table of engines cannot fit and must scroll."""
    phone = next(p for p in found if p["name"] == "pass" and p["width"] == 390)
    assert phone["scrollers"] >= 3
    assert phone["rows"] == 12


def test_titles_of_wide_tables_fit_the_page(found: list[dict[str, Any]]) -> None:
    """A table scrolls, its title does not: it was cut off on a phone."""
    assert [(page["name"], page["width"], page["cut"]) for page in found if page["cut"]] == []


def test_nothing_is_fetched(found: list[dict[str, Any]]) -> None:
    """What the browser itself says that it loaded for the page: nothing."""
    assert [p["fetched"] for p in found] == [[]] * len(found)


def test_chart_text_is_legible_and_on_the_page(found: list[dict[str, Any]]) -> None:
    """Charts shrink with the page, but their text stays readable on a phone and is not cut off."""
    charts = ("pass", "crowded", "useless", "latency", "search", "crowded search", "scout", "crowded scout")
    for page in (p for p in found if p["name"] in charts):
        assert page["clipped"] == 0, page
        assert page["smallest"] >= (8.0 if page["width"] >= 390 else 6.0), page


@pytest.mark.parametrize(("theme", "flag"), [("light", 1), ("dark", 0)])
def test_screenshots(tmp_path: Path, theme: str, flag: int) -> None:
    """Wide and narrow side by side, in both themes: drawn in the theme's colours, and not blank."""
    page = tmp_path / "page.html"
    text = render_html(sample())
    page.write_text(
        framed({"wide": text}, (1280, 390), 1600).replace(
            "<body", '<meta name="color-scheme" content="light dark"><body'
        ),
        encoding="utf-8",
    )
    shot = tmp_path / f"{theme}.png"
    chromium(
        tmp_path / "profile",
        f"--blink-settings=preferredColorScheme={flag}",
        "--window-size=1680,1600",
        f"--screenshot={shot}",
        page.as_uri(),
    )
    with Image.open(shot) as image:
        picture = image.convert("RGB")
    assert picture.size == (1680, 1600)
    for left, right in ((0, 1280), (1284, 1674)):
        part = picture.crop((left, 0, right, 1600))
        shades = part.convert("L").histogram()
        background = shades.index(max(shades))
        assert (background > 200) if theme == "light" else (background < 60)
        # Text and tables: some of the page is far from the background, most of it is not.
        inked = sum(n for shade, n in enumerate(shades) if abs(shade - background) > 60) / sum(shades)
        assert 0.01 < inked < 0.4
