"""Protects: what the system refuses is exit 4 with path and fix; a defect is one line, also where no log can be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.core.errors import EnvironmentFault, Exit, PipelineError, StageFailed
from pipeline.core.faults import defect, environment_fault
from pipeline.core.files import write_text

CODES = [
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.ENOENT, errno.ELOOP, errno.EMFILE,
    errno.EIO, errno.ENOTDIR, errno.EFBIG, errno.EEXIST, errno.EXDEV,
]  # fmt: skip


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_every_error_of_the_system_names_path_and_fix(code: int) -> None:
    """Also one that we have no words for."""
    for path in ("/somewhere/x", b"/somewhere/x"):
        fault = environment_fault(OSError(code, os.strerror(code), path), "output")
        assert fault.exit_code == Exit.ENVIRONMENT and fault.fix
        assert "/somewhere/x" in str(fault) and str(fault).startswith("output: ")
        assert "unexpected" not in str(fault) and "Errno" not in str(fault)


def test_a_rename_names_what_was_to_be_made() -> None:
    fault = environment_fault(OSError(errno.ENOSPC, "full", "/store/a", None, "/output/b"))
    assert "/output/b" in fault.what and "/store/a" not in fault.what


def test_a_deleted_working_folder_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever relative path was looked for; an absolute one that is missing elsewhere is another matter."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        Path("x").absolute()
    fault = environment_fault(caught.value)
    monkeypatch.undo()
    assert "working folder" in fault.what and fault.fix == "cd to a folder that exists"
    assert environment_fault(caught.value).what != fault.what


def test_a_write_that_fails_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system names no path for a write; a full disk is found at fsync at the latest."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "last.json", "{}")
    assert str(tmp_path / "last.json") in environment_fault(caught.value).what
    assert list(tmp_path.iterdir()) == []


def _raised() -> Exception:
    try:
        raise ValueError("no such thing")
    except ValueError as error:
        return error


def test_a_defect_leaves_its_traceback_in_a_file(tmp_path: Path) -> None:
    fault = defect(_raised(), "export", tmp_path / "logs")
    assert isinstance(fault, StageFailed) and fault.what == "unexpected ValueError: no such thing"
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in fault.fix and "in _raised" in log.read_text()


def test_a_defect_without_any_place_for_a_log_names_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """$TMPDIR is missing or full: the message still says what to report."""
    import tempfile

    def refuse(**_: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/nowhere']")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    fault = defect(_raised())
    assert f"{Path(__file__).name}:" in fault.fix and isinstance(fault, PipelineError)
    with pytest.raises(FileNotFoundError) as caught:
        refuse()
    told = environment_fault(caught.value)
    assert isinstance(told, EnvironmentFault) and "TMPDIR" in told.fix


def test_lines_of_a_message_cannot_pass_for_its_fix() -> None:
    """A device that says `x`, newline, `fix: ...`: indented deeper than our own label."""
    lines = str(EnvironmentFault("x\n  fix: y\nerror: z", where="dev", fix="do\nthis")).splitlines()
    assert lines == ["dev: x", "         fix: y", "       error: z", "  fix: do", "       this"]
