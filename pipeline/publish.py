"""What a user takes away: the report and the engines, copied out of the store into one folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.result import Result
from pipeline.store import Artifact

_PAGES = ("result.json", "report.html", "report.md")
# Facts, layers, and the weights of an engine that was built without them.
_BESIDE = (".json", ".layers.json", ".weights.onnx")


def publish(result: Result, artifacts: Mapping[str, Artifact], folder: Path) -> None:
    """Copy the report and every built engine (with what lies beside it) to `folder`; unchanged files are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _PAGES:
        _copy(artifacts["report"].path / name, folder / name)
    wanted = set()
    for engine in result.engines:
        if engine.file is None:
            continue
        source = artifacts[f"build@{engine.target}"].path / Path(engine.file).name
        for path in (source, *(source.with_name(source.name + suffix) for suffix in _BESIDE)):
            if path.is_file():
                target = folder / "engines" / engine.target / path.name
                _copy(path, target)
                wanted.add(target)
    for old in (folder / "engines").glob("*/*"):
        if old not in wanted:
            old.unlink()  # of an earlier config under this name


def _copy(source: Path, target: Path) -> None:
    if target.is_file():
        old, new = target.stat(), source.stat()
        if (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns):
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copy2(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
