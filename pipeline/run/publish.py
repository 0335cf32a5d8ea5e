"""What a user takes away: the report and the engines, copied out of the store into one folder.

The folder is the user's too. A list of what was published lies in it; only what stands there, and has not been changed
since, is ever replaced or removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from export.runtime.files import sha256
from pipeline.core.errors import EnvironmentFault
from pipeline.core.files import read_bytes, write_text
from pipeline.core.store import Artifact
from pipeline.results.result import Result

MANIFEST = "published.json"
_PAGES = ("result.json", "report.html", "report.md")
# Facts, layers, and the weights of an engine that was built without them.
_BESIDE = (".json", ".layers.json", ".weights.onnx")
_MOST_BYTES = 16 << 20


def _inside(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\0" in name:
        raise ValueError("leads out of the folder")
    return name


class _Copy(BaseModel):
    """A file as it was published; `mtime_ns` saves reading it again."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    bytes: int
    mtime_ns: int
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Published(BaseModel):
    """What was published: by name, one copy, or two while one takes the other's place."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    version: Literal[1] = 1
    files: dict[Annotated[str, AfterValidator(_inside)], list[_Copy]] = {}


def publish(
    result: Result,
    artifacts: Mapping[str, Artifact],
    folder: Path,
    note: Callable[[str], None] = lambda text: None,
) -> None:
    """Copy the report and every built engine (with what lies beside it) to `folder`; unchanged files are left alone.

    A file of the user's in the place of one of these is kept under another name; files of an earlier publication that
    are wanted no more are removed, unless somebody changed them.

    Args:
        result: of the run.
        artifacts: by step.
        folder: where to.
        note: told what was kept.

    Raises:
        EnvironmentFault: there is a folder in the place of a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _published_before(folder / MANIFEST, note)
    sources = _sources(result, artifacts)
    now = {name: _copy_of(source, before.get(name, ())) for name, source in sources.items()}
    # First, so that a run that is killed while it copies knows its own files afterwards.
    both = {name: [*before.get(name, []), *([now[name]] if name in now else [])] for name in {*before, *now}}
    _write(folder, both)
    for name, source in sources.items():
        _place(source, folder / name, both[name], now[name], note)
    for name in sorted(set(before) - set(now)):
        _remove(folder, name, before[name], note)
    _write(folder, {name: [copy] for name, copy in now.items()})


def _sources(result: Result, artifacts: Mapping[str, Artifact]) -> dict[str, Path]:
    found = {name: artifacts["report"].path / name for name in _PAGES}
    for engine in result.engines:
        if engine.file is None:
            continue
        source = artifacts[f"build@{engine.target}"].path / Path(engine.file).name
        for path in (source, *(source.with_name(source.name + suffix) for suffix in _BESIDE)):
            if path.is_file():
                found[f"engines/{engine.target}/{path.name}"] = path
    return found


def _place(source: Path, target: Path, ours: list[_Copy], wanted: _Copy, note: Callable[[str], None]) -> None:
    if os.path.lexists(target):
        there = _facts(target, ours)
        if there == wanted:
            return
        if target.is_dir() and not target.is_symlink():
            raise EnvironmentFault(
                "there is a folder in the place of a file that is published",
                where=str(target),
                fix="move it, or set another output",
            )
        if there is None or there.sha256 not in {copy.sha256 for copy in (*ours, wanted)}:
            _keep_aside(target, note)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copy2(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _remove(folder: Path, name: str, ours: list[_Copy], note: Callable[[str], None]) -> None:
    path = folder / name
    if not os.path.lexists(path):
        return
    there = _facts(path, ours)
    if there is None or there.sha256 not in {copy.sha256 for copy in ours}:
        note(f"{path} is of an earlier run, and was changed since: left alone")
        return
    path.unlink()
    try:
        path.parent.rmdir()
    except OSError:
        return  # something else lies in it


def _copy_of(source: Path, known: list[_Copy] | tuple[()]) -> _Copy:
    copy = _facts(source, known)
    assert copy is not None  # the store holds regular files
    return copy


def _facts(path: Path, known: list[_Copy] | tuple[()]) -> _Copy | None:
    """What a file is; None if it is none. One that has kept its size and time is not read again."""
    if path.is_symlink() or not path.is_file():
        return None
    stat = path.stat()
    for copy in known:
        if (copy.bytes, copy.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            return copy
    return _Copy(bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=sha256(path))


def _keep_aside(path: Path, note: Callable[[str], None]) -> None:
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}.kept-{number}")):
        number += 1
    path.rename(kept)
    note(f"{path} was not published by a run, or was changed since: kept as {kept.name}")


def _published_before(path: Path, note: Callable[[str], None]) -> dict[str, list[_Copy]]:
    """What was published before; nothing if that is not known: then what lies in the place is kept."""
    if not os.path.lexists(path):
        return {}
    if not path.is_symlink():
        with suppress(OSError, ValueError):  # no regular file, too large, or no list
            return _Published.model_validate_json(read_bytes(path, _MOST_BYTES)).files
    _keep_aside(path, note)
    return {}


def _write(folder: Path, files: Mapping[str, list[_Copy]]) -> None:
    text = _Published(files=dict(sorted(files.items()))).model_dump_json(indent=1)
    write_text(folder / MANIFEST, text + "\n")
