"""Protects: the line of a running step fits every terminal, tells one estimate, and cuts nothing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console, Group
from rich.progress import Progress, Task

from pipeline.core.errors import StageFailed
from pipeline.run.console import ConsoleInterface, bar


def running(note: str, done: int = 1234, total: int = 12345) -> Task:
    """A step that has gone on for 75 minutes at a known speed."""
    now = 0.0
    times = Progress(get_time=lambda: now, console=Console(file=io.StringIO()), speed_estimate_period=10**6)
    task = times.add_task("benchmark@orin-nano", total=total, note=note)
    for part in range(1, 4):
        now = 1500.0 * part
        times.update(task, completed=done * part // 3)
    return times.tasks[0]


def lines(note: str, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(Group(*bar(running(note), width)), crop=False, end="")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 61, 64, 70, 80, 100, 120, 200])
@pytest.mark.parametrize(
    "note", ["", "epoch 3/40, 1,234 images/s", f"parity: {'a long note of many words ' * 4}".strip()]
)
def test_a_running_step_fits_and_shows_every_number_once(note: str, width: int) -> None:
    """Name, count, time so far and one time left, whole; the note beside or below."""
    shown = lines(note, width)
    assert max(map(len, shown)) <= width
    text = " ".join(" ".join(shown).split())
    assert "benchmark@orin-nano" in text and "1234/12345" in text and "1:15:00, " in text
    assert text.count(" left") == 1 and "ETA" not in text and "…" not in text
    assert note in text
    assert width < 80 or "─" in shown[0]


def test_a_name_and_a_note_cannot_move_the_cursor() -> None:
    """What a device puts into a note is written out."""
    assert r"\x1b[2J\nx" in "".join(lines("\x1b[2J\nx", 80))


def test_lines_without_a_terminal_are_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One line each for programs and logs; the fix of a failure on its own."""
    ui = ConsoleInterface()
    show = ui.step_started("build@cpu", "")
    show(1, 2, "x")
    ui.step_finished("build@cpu", "word " * 60, 1.25, tmp_path)
    ui.step_failed("build@rtx", StageFailed("no\x1b[2J", where="build@rtx", fix="do this"))
    ui.note("a\nnote")
    ui.close()
    told = capsys.readouterr().err.splitlines()
    assert told[0].split() == ["...", "build@cpu", "started"]
    assert told[1].startswith("done   build@cpu            1.2 s  word word") and told[1].count("word") == 60
    assert told[2:4] == [r"failed build@rtx        build@rtx: no\x1b[2J", "  fix: do this"]
    assert told[4:] == ["note   a", "       note"]
