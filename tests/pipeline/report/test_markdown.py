"""The Markdown says the same as the page, and its tables survive any name."""

from __future__ import annotations

import re

from sample import sample, sample_bare, sample_crowded, sample_missed

from pipeline.report.html import render_html
from pipeline.report.markdown import render_markdown
from pipeline.results.engine import Energy


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def test_tables_are_rectangular() -> None:
    """A stray pipe in a name would shift every cell after it."""
    result = sample_missed()
    result.student.test.confused[0]["true"] = "a|b\nc `d` <script>"
    result.engines[0].id = "cpu/a|b`c"
    result.parity[0]["what"] = "x|y"
    for text in (render_markdown(r) for r in (result, sample(), sample_crowded(), sample_bare())):
        for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
            widths = {len(cells(line)) for line in block.strip().splitlines()}
            assert len(widths) == 1, block
        assert "<script>" not in text


def test_rows_of_engines() -> None:
    """One row an engine; what ships is bold; an accuracy of the ONNX file is marked."""
    lines = render_markdown(sample()).splitlines()
    assert (
        "| `cpu/fp16` | ran | 0.030 | 67.10 | −0.04 | 67.09 | 0.231 | 0.296 | 4,264 | 1 of 3 missed |"
        in lines
    )
    assert any(line.startswith("| **`cpu/int8`** | ran |") for line in lines)
    rtx = [line for line in lines if line.startswith("| `rtx/int8-SM89` | built, not run |")]
    assert rtx and "66.62 †" in rtx[0] and "1 of 3 not measured" in rtx[0]


def test_decision_comes_first() -> None:
    """Verdict, what to ship and why, in the first lines."""
    text = render_markdown(sample())
    assert text.startswith("# fonts\\_cpu: ✅ Pass\n")
    assert "- ✅ **cpu**: ship `cpu/int8`. fastest of 2 within budget" in text
    assert text.index("ship `cpu/int8`") < text.index("## Engines")


def test_what_went_wrong_is_told_with_its_fix() -> None:
    """Missed budgets by value, limit and margin; failures and missing back ends with their fix."""
    text = render_markdown(sample_missed())
    assert "| `cpu/fp16` | p99 latency ≤ 0.2 ms | 0.296 ms | ❌ missed | 0.096 ms over |" in text
    assert "`jetson/fp16`: back end missing" in text
    assert "Fix: pip install 'figkd-pipeline\\[tensorrt\\]'" in text
    assert (
        "**validate@rtx** failed: the engine returned 3 rows that are not finite. Fix: keep the norms in FP32"
        in text
    )


def test_latency_has_boundary_and_n() -> None:
    """Every latency row says what was timed, on what, and how often."""
    text = render_markdown(sample())
    assert "| `cpu/int8` | image to class | 1 | 1 | 3,100 |" in text
    assert (
        "image to class: decoding of an image file, resize, inference and argmax of one image "
        "(32 files of the test images: 31 JPEG, 1 PNG; in the median 12.2 megapixels, 4,310 kB)" in text
    )


def test_columns_of_numbers_are_right_aligned() -> None:
    """The alignment row matches the header it stands under."""
    lines = render_markdown(sample()).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("| engine | state |"))
    aligned = dict(zip(cells(lines[head]), cells(lines[head + 1]), strict=True))
    assert aligned["state"] == "---" and aligned["budgets"] == "---"
    assert all(aligned[name] == "---:" for name in ("size MB", "top-1 %", "p99 ms", "img/s"))


def test_a_fixed_rate_has_its_own_table() -> None:
    """Kept or not, how many were late, and that latency counts from the arrival."""
    result = sample()
    row = (
        result.engines[0]
        .latency[0]
        .model_copy(
            update={
                "rate_fps": 30.0,
                "deadline_misses": 12,
                "keeps_rate": False,
                "deadline_miss_percent": 1.2,
            }
        )
    )
    result.engines[0].latency.append(row)
    text = render_markdown(result)
    assert "| `cpu/fp32` | engine | 30 | no | 12 of 8,412 |" in text and "scheduled arrival" in text
    latency = text.split("## Latency")[1].split("At a fixed rate")[0]
    assert latency.count("`cpu/fp32`") == 3


def test_energy_or_why_there_is_none() -> None:
    """A table with the sensor and what it covers; else the reason."""
    result = sample()
    assert "Energy" not in render_markdown(result)
    result.machine["energy_not_available"] = "virtual machines have none"
    assert "Energy: not available: virtual machines have none." in render_markdown(result)
    result.engines[0].energy = Energy(
        source="RAPL package-0", covers="package-0", mj_per_image=1.234, mj_per_image_total=3.5, idle_w=4.0,
        load_w=9.0, n=2,
    )  # fmt: skip
    assert "| `cpu/fp32` | 1.23 | 3.50 | 9.00 | 4.00 | 2 | RAPL package-0: package-0 |" in render_markdown(
        result
    )
    assert "1.23" in render_html(result) and "RAPL package-0" in render_html(result)
