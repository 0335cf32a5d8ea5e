"""Protects: readers that go away, closed and full streams, any encoding: the exit code is that of the work.

Real processes, pipes and descriptors; `finished` is a run that is already made, so that a command takes a second.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import Exit
from tests.needs import unicode_names
from tests.pipeline import trees
from tests.pipeline.conftest import FONTS, ROOT, TINY, Finished, command, environment, quick_command, sets

RUN = ("run", FONTS, *sets(TINY))
PLAN = ("plan", FONTS, *sets(TINY))


def shell(
    script: str, *arguments: str | Path, cwd: Path, fresh: bool = False, **changes: str
) -> subprocess.CompletedProcess[str]:
    """`"$@"` in the script is the command, in a new interpreter if `fresh`."""
    words = (command if fresh else quick_command)(*arguments)
    return subprocess.run(
        ["/bin/bash", "-c", script, "bash", *words],
        cwd=cwd, env=environment() | changes, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "arguments"),
    [
        ("true", RUN),
        ("head -1", RUN),
        ("head -1", PLAN),
        ("head -1", ("config", "show", FONTS)),
        ("head -1", ("doctor",)),
        ("head -1", (*RUN, "--json")),
    ],
    ids=["run, nothing read", "run", "plan", "config show", "doctor", "run --json"],
)
def test_a_reader_that_goes_away_changes_nothing(reader: str, arguments: Any, finished: Finished) -> None:
    """`... | head -1`, and a reader that reads nothing: exit 0, no message."""
    done = shell(f'"$@" | {reader} >/dev/null; exit ${{PIPESTATUS[0]}}', *arguments, cwd=finished.folder)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr and "Exception" not in done.stderr and "Broken" not in done.stderr


def test_notes_and_progress_may_go_the_same_way(finished: Finished) -> None:
    """`run 2>&1 | head -1`: stages that are still to do are done all the same."""
    words = (*RUN, "--set", "name=piped")
    done = shell('"$@" 2>&1 | head -1 >/dev/null; exit ${PIPESTATUS[0]}', *words, cwd=finished.folder)
    assert done.returncode == 0
    assert (finished.folder / "runs" / "piped" / "report.html").is_file()


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_none(closed: str, finished: Finished) -> None:
    """No file of ours takes the number of a closed stream, and nothing is missed."""
    for words, code in ((RUN, 0), (("run", "nowhere.yaml"), Exit.CONFIG)):
        done = shell(f'"$@" {closed}; exit $?', *words, cwd=finished.folder, fresh=True)
        assert done.returncode == code, done.stderr
        assert "unexpected" not in done.stderr and "Errno" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_stdout_is_exit_4_and_everything_is_kept(tmp_path: Path, finished: Finished) -> None:
    """One line on stderr; the report is published before it is shown."""
    out = tmp_path / "out"
    done = shell('"$@" >/dev/full', *RUN, "--set", f"output={out}", cwd=finished.folder)
    assert done.returncode == Exit.ENVIRONMENT
    assert done.stderr.splitlines()[-2:] == [
        "error: cannot write to stdout: No space left on device",
        "  fix: write it to another place",
    ]
    assert (out / "fonts_cpu" / "report.html").is_file()
    for words, fresh in ((PLAN, True), (("config", "show", FONTS), False), ((*RUN, "--json"), False)):
        assert (
            shell('"$@" >/dev/full', *words, cwd=finished.folder, fresh=fresh).returncode == Exit.ENVIRONMENT
        )
    failed = shell('"$@" >/dev/full', "run", "--json", "nowhere.yaml", cwd=finished.folder)
    assert failed.returncode == Exit.CONFIG, "what went wrong first decides"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_stderr_costs_the_messages_only(finished: Finished) -> None:
    """Every code stays."""
    assert shell('"$@" 2>/dev/full', *RUN, cwd=finished.folder).returncode == 0
    assert shell('"$@" 2>/dev/full', "run", "nowhere.yaml", cwd=finished.folder).returncode == Exit.CONFIG


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_any_encoding(encoding: str, finished: Finished) -> None:
    """The whole table with stand-ins, exit 0."""
    done = subprocess.run(
        quick_command(*RUN), cwd=finished.folder, env=environment() | {"PYTHONIOENCODING": encoding},
        capture_output=True, timeout=300,
    )  # fmt: skip
    told = done.stdout.decode(encoding)
    assert done.returncode == 0, done.stderr
    assert "cpu/fp32" in told and "NO GOAL SET" in told and "?" not in told
    assert ("✓" in told) == (encoding == "utf-8") and ("+ 1 met" in told) == (encoding != "utf-8")


def test_json_is_ascii_whatever_the_encoding(finished: Finished) -> None:
    """So that no encoding can spoil it."""
    done = shell('"$@"', *RUN, "--json", cwd=finished.folder, PYTHONIOENCODING="latin-1")
    assert done.stdout.isascii() and json.loads(done.stdout)["verdict"] == "no_goal"


def test_the_c_locale_without_utf8(finished: Finished) -> None:
    """What cron and old services have."""
    changes = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell('"$@"', *RUN, cwd=finished.folder, **changes)
    assert done.returncode == 0 and done.stdout.isascii() and "+ 1 met" in done.stdout, done.stderr


@unicode_names
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_are_no_text_and_names_that_act_are_shown(encoding: str, tmp_path: Path) -> None:
    """A path with a byte that is not UTF-8, an escape sequence, a newline and a direction mark."""
    name = "a\udcff\x1b[31mb\nerror: c\u202e.yaml"
    done = subprocess.run(
        quick_command("config", "check", name), cwd=tmp_path, env=environment() | {"PYTHONIOENCODING": encoding},
        capture_output=True, timeout=300,
    )  # fmt: skip
    told = done.stderr.decode(encoding)
    assert done.returncode == Exit.CONFIG and r"a\xff\x1b[31mb" in told and r"\u202e" in told
    assert not any(line.startswith("error: c") for line in told.splitlines())
    (tmp_path / "good.yaml").write_text(f"extends: {ROOT / 'deploy_configs/fonts_cpu.yaml'}\n")
    output = subprocess.run(
        quick_command("config", "check", "./\x1b[2J/../good.yaml"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
    )
    assert b"\x1b" not in output.stdout + output.stderr


def test_a_name_that_the_locale_cannot_write(tmp_path: Path) -> None:
    """What cron and old services have: an error of the environment with the fix, and no defect of ours."""
    changes = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (tmp_path / "a.yaml").write_text(f"extends: {FONTS}\noutput: ré\n", encoding="utf-8")
    done = shell('"$@"', "run", "a.yaml", cwd=tmp_path, **changes)
    assert done.returncode == Exit.ENVIRONMENT and "PYTHONUTF8=1" in done.stderr, done.stderr
    assert "unexpected" not in done.stderr


def test_what_a_working_folder_that_is_gone_means(tmp_path: Path, finished: Finished) -> None:
    """Commands that need it say so, exit 4; those that do not work."""
    script = 'mkdir gone && cd gone && rmdir ../gone && "$@"'
    images = trees.image_folder(tmp_path / "images", images=3)
    for words in (RUN, ("doctor", FONTS), ("init", images), ("run", "relative.yaml")):
        done = shell(script, *words, cwd=tmp_path)
        assert done.returncode == Exit.ENVIRONMENT, done.stderr
        assert "the working folder does not exist any more" in done.stderr and "fix: cd" in done.stderr
    assert shell(script, "config", "show", FONTS, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("output", "x" * 300, "at most 255 bytes"),
        ("store", "x" * 300, "at most 255 bytes"),
        ("output", "file", "cannot be written"),
        ("store", "file/store", "cannot be written"),
        ("output", "loop", "circle"),
        ("store", "loop/store", "circle"),
        ("output", "/proc/nothing", "/proc/nothing"),
    ],
)
def test_places_that_cannot_be(key: str, value: str, told: str, tmp_path: Path, finished: Finished) -> None:
    """One line and a fix, exit 4 (2 where the config already knows); never "unexpected"."""
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    words = (
        (*RUN, "--set", f"{key}={tmp_path / value}") if key == "output" else (*RUN, "--set", f"store={value}")
    )
    done = shell('"$@"', *words, cwd=finished.folder if key == "output" else tmp_path)
    assert done.returncode in (Exit.ENVIRONMENT, Exit.CONFIG), done.stderr
    assert told in done.stderr and "unexpected" not in done.stderr and "Errno" not in done.stderr


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path, finished: Finished) -> None:
    """Outside a stage: while the report is copied. Nothing is lost: the table is shown, the store is whole."""
    out = tmp_path / "out"
    words = (*RUN, "--set", f"output={out}")
    assert shell('"$@"', *words, cwd=finished.folder).returncode == 0
    shutil.rmtree(out)
    script = 'ulimit -f 8; "$@" 2>&1 | cat; exit ${PIPESTATUS[0]}'  # blocks of 1024 bytes
    done = shell(script, *words, cwd=finished.folder, fresh=True)
    assert done.returncode == Exit.ENVIRONMENT
    assert "error: output: " in done.stdout and "ulimit -f" in done.stdout and "unexpected" not in done.stdout
    assert "NO GOAL SET" in done.stdout and "report: .figkd" in done.stdout
    assert shell('"$@"', *words, cwd=finished.folder).returncode == 0
    assert (out / "fonts_cpu" / "report.html").is_file()
