"""The section `store`: where artifacts are kept, and with whom they are shared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from pipeline.config.bounds import FilePath, SomeSeconds
from pipeline.config.section import Section


class Storage(Section):
    """Where artifacts are kept. A path in place of this section is its `folder`."""

    folder: FilePath = Path(".figkd")
    """Folder for artifacts, shared between configs (relative to where the command runs)."""
    remote: Annotated[str, Field(max_length=2_048)] | None = None
    """A store that machines share: a folder, `ssh://[user@]host[:port]/path`, or `s3://bucket/path`
    (docs/sharing.md). A run downloads what is there instead of making it, and uploads what it makes: all but the
    stages of a target and the report."""
    ssh_config: FilePath | None = None
    """For `ssh://`: an OpenSSH client config to use instead of your own (relative to where the command runs)."""
    push: bool = True
    """false: download from `remote`, and upload nothing."""
    remote_gb: Annotated[float, Field(gt=0, le=100_000)] = 20
    """Largest artifact that is downloaded or uploaded, in GB (10^9 bytes)."""
    remote_s: SomeSeconds = 600
    """Longest time of one download or upload, in s. After that it is given up; what was not downloaded is made here."""

    @model_validator(mode="before")
    @classmethod
    def _path(cls, given: Any) -> Any:
        return {"folder": given} if isinstance(given, str | Path) else given
