"""Protects: on a real terminal of 60 columns and more, every number of a result stands whole."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from pipeline.report.plain import SET_A_GOAL, headline
from pipeline.results.result import Result
from tests.pipeline.conftest import FONTS, TINY, Finished, environment, quick_command, sets

WIDTHS = [60, 80, 100, 120, 200]
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def on_terminal(columns: int, *arguments: str | Path, cwd: Path) -> tuple[int, list[str]]:
    """Run a command on a terminal so wide; its exit code and what stood on stdout, without colours."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    changes = {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    without = {
        key: value for key, value in environment().items() if key not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    process = subprocess.Popen(
        quick_command(*arguments),
        cwd=cwd,
        env=without | changes,
        stdin=slave,
        stdout=slave,
        stderr=subprocess.DEVNULL,
    )
    os.close(slave)
    said = b""
    while True:
        try:
            part = os.read(master, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    os.close(master)
    text = _ESCAPES.sub("", said.decode()).replace("\r\n", "\n")
    return process.wait(), text.splitlines()


def _checked(lines: list[str], columns: int) -> str:
    """The text in one line, after what holds for every output at every width."""
    long = [line for line in lines if len(line.rstrip()) > columns and " " in line.strip()]
    assert not long and not any("…" in line for line in lines), "\n".join(lines)
    assert not any(re.match(r"\s*(ms|%|points|MB|short|over)\b", line) for line in lines), "\n".join(lines)
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize("columns", WIDTHS)
def test_run_shows_every_number_whole(columns: int, finished: Finished) -> None:
    """Every engine with its size, accuracy, latency and throughput; the verdict and its reasons."""
    code, lines = on_terminal(columns, "run", FONTS, *sets(TINY), cwd=finished.folder)
    text = _checked(lines, columns)
    assert code == 0
    result = json.loads((finished.folder / "runs" / "fonts_cpu" / "result.json").read_text())
    for engine in result["engines"]:
        assert engine["id"] in text
        assert f"{engine['engine_mb']:.3f}" in text and f"{engine['accuracy']['top1']:.2f}" in text
        for row in engine["latency"]:
            if (row["boundary"], row["batch"], row["streams"]) == ("engine", 1, 1):
                assert f"{row['median']:.3f}" in text and f"{row['throughput']:,.0f}" in text
    assert headline(Result.model_validate(result)) in text and SET_A_GOAL in text


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_benchmark_shows_every_number_whole(columns: int, finished: Finished) -> None:
    """Each row's engine, boundary and figures."""
    file = "runs/fonts_cpu/engines/cpu/fp32.onnx"
    words = ("--seconds", "0.02", "--threads", "1", "-o", f"now{columns}.json")
    code, lines = on_terminal(columns, "benchmark", file, *words, cwd=finished.folder)
    text = _checked(lines, columns)
    assert code == 0
    for row in json.loads((finished.folder / f"now{columns}.json").read_text())["latency"]:
        for figure in ("min", "median", "p90"):
            assert f"{row[figure]:.3f}" in text
        assert row["id"] in text and row["boundary"] in text and f"{row['throughput']:.0f}" in text


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize(
    "arguments", [("plan", FONTS, "--force", "data"), ("doctor", FONTS)], ids=["plan", "doctor"]
)
def test_plan_and_doctor_wrap_at_words(
    columns: int, arguments: tuple[str | Path, ...], finished: Finished
) -> None:
    """The same words as at any other width, none of them cut."""
    code, lines = on_terminal(columns, *arguments, *sets(TINY), cwd=finished.folder)
    wide = subprocess.run(
        quick_command(*arguments, *sets(TINY)),
        cwd=finished.folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    stable = re.compile(r"\d+\.\d of \d+\.\d GB free|\d+\.\d GB free")
    assert code == 0
    assert stable.sub("", _checked(lines, columns)) == stable.sub("", " ".join(wide.stdout.split()))
