"""What Python or the system raised, as an error that a user can act on."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from pipeline.core.errors import EnvironmentFault, PipelineError, StageFailed
from pipeline.core.files import write_text

_FREE = (
    "free some space and run the same command again: it goes on from there; or name a folder on another disk"
)
_RIGHTS = "name a folder that you may write to, or change the rights of this one"
_KNOWN = {
    errno.ENOSPC: ("no space left on the disk", _FREE),
    errno.EDQUOT: ("the disk quota is used up", _FREE),
    errno.EFBIG: ("the file grows beyond what is allowed here", "raise the limit (ulimit -f), or use another disk"),
    errno.EROFS: ("the file system is read-only", "name a folder on a disk that can be written"),
    errno.EACCES: ("permission denied", _RIGHTS),
    errno.EPERM: ("the operation is not permitted", _RIGHTS),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "choose a shorter name or path"),
    errno.ELOOP: ("symbolic links lead in a circle", "point the link to an existing file or folder"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "name another folder"),
    errno.EEXIST: ("something else lies in its place", "move it, or name another folder"),
    errno.EISDIR: ("is a folder, not a file", "name a file"),
    errno.EMFILE: ("too many open files", "raise the limit of this shell: ulimit -n 4096"),
    errno.ENFILE: ("too many open files in the whole system", "end other programs, then run the same command again"),
    errno.EIO: ("the disk reports an input/output error", "check the disk (dmesg), or use another one"),
    errno.ENOENT: ("no such file or folder", "check the path"),
    errno.ENOMEM: ("out of memory", "free memory, or lower batch_size or data.image_size"),
}  # fmt: skip
_OTHERWISE = "check the disk's free space and rights, then run again"


def environment_fault(error: OSError, where: str = "") -> EnvironmentFault:
    """An error of the system: what and which path, how to fix it; exit code 4.

    Args:
        error: what was raised.
        where: the step or key that it belongs to.
    """
    if error.errno == errno.ENOENT and not working_folder_exists():
        return EnvironmentFault(
            "the working folder does not exist any more", where=where, fix="cd to a folder that exists"
        )
    if error.errno == errno.ENOENT and "temporary directory" in str(error.strerror):
        fix = "set TMPDIR to a folder that you may write to, with free space"
        return EnvironmentFault("no temporary folder can be written", where=where, fix=fix)
    said = error.strerror or str(error) or type(error).__name__
    what, fix = _KNOWN.get(error.errno or 0, (said, _OTHERWISE))
    # A rename names two files; the second is the one that was to be made.
    path = error.filename2 or error.filename
    place = "" if path is None or isinstance(path, int) else f"{os.fsdecode(path)}: "
    return EnvironmentFault(f"{place}{what}", where=where, fix=fix)


def unwritable_name(error: UnicodeEncodeError, where: str = "") -> EnvironmentFault:
    """A name that the locale cannot write."""
    what = f"{error.object!r} cannot be a file name in this locale ({error.encoding})"
    return EnvironmentFault(what, where=where, fix="set PYTHONUTF8=1 (or LC_ALL=C.UTF-8), and run again")


def working_folder_exists() -> bool:
    """Whether the folder that relative paths begin in is still there."""
    try:
        return os.path.isdir(os.getcwd())
    except OSError:
        return False


def out_of_memory(where: str = "") -> StageFailed:
    """Memory ran out."""
    fix = "lower batch_size or data.image_size, or free memory"
    return StageFailed("ran out of memory", where=where, fix=fix)


def defect(error: Exception, where: str = "", folder: Path | None = None) -> PipelineError:
    """A defect of ours: one line; the traceback goes to a file in `folder` or, without one, in the temporary folder.

    Where no file can be written, the fix names the line of code. A name that the locale cannot write is no defect.
    """
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding() != "utf-8":
        return unwritable_name(error, where)
    text = "".join(traceback.format_exception(error))
    try:
        folder = folder or Path(tempfile.mkdtemp(prefix="figkd-pipeline-"))
        log = folder / f"{where or 'error'}-{time.strftime('%Y%m%dT%H%M%S')}.txt"
        write_text(log, text)
        details = str(log)
    except OSError:
        frames = traceback.extract_tb(error.__traceback__)
        details = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "the command"
    what = f"unexpected {type(error).__name__}: {error}"
    return StageFailed(what, where=where, fix=f"please report it with {details}")
