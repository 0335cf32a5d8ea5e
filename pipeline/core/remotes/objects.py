"""Object storage as a remote: whatever fsspec reaches, such as S3."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.remotes.files import RemoteFault, TooLarge, Wanted

PROTOCOLS = ("s3", "gs", "gcs", "az", "abfs", "abfss")
PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
_CHUNK = 1 << 20
_S3 = {"config_kwargs": {"connect_timeout": 10, "read_timeout": 20, "retries": {"max_attempts": 2}}}


def object_files(url: str) -> ObjectFiles:
    """The objects below `s3://bucket/folder` and the like; credentials are found as the protocol's own tools find them.

    Raises:
        ImportError: the package for the protocol is missing.
    """
    import fsspec

    protocol, _, place = url.partition("://")
    options: dict[str, Any] = _S3 if protocol == "s3" else {}
    system = fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False, **options)
    return ObjectFiles(system, place.strip("/"), url)


class ObjectFiles:
    """Objects below a prefix of a file system of fsspec. An object appears whole, as such storage promises."""

    def __init__(self, system: Any, root: str, title: str) -> None:
        self._system = system
        self._root = root
        self._title = title

    @property
    def title(self) -> str:
        """The URL."""
        return self._title

    def read(self, name: str, most: int) -> bytes | None:
        """See `Files`."""
        with _faults():
            try:
                content = bytes(self._system.cat_file(self._path(name), start=0, end=most + 1))
            except FileNotFoundError:
                return None
        if len(content) > most:
            raise TooLarge(f"{name} has more than {most:,} bytes")
        return content

    def fetch(self, wanted: Sequence[Wanted], folder: Path, until: float) -> None:
        """See `Files`."""
        for one in wanted:
            with (folder / one.local).open("wb") as target:
                left = one.bytes
                with _faults():
                    size = self._size(one.name)
                if size != one.bytes:
                    raise RemoteFault(f"{one.name} has {size} bytes instead of {one.bytes}")
                for start in range(0, one.bytes, _CHUNK * 8):
                    with _faults():
                        end = min(start + _CHUNK * 8, one.bytes)
                        chunk = bytes(self._system.cat_file(self._path(one.name), start=start, end=end))
                    left -= len(chunk)
                    if left < 0:
                        raise TooLarge(f"{one.name} has more than {one.bytes:,} bytes")
                    if time.monotonic() > until:
                        raise RemoteFault("too slow")
                    target.write(chunk)

    def lacking(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        """See `Files`."""
        with _faults():
            return [one for one in wanted if self._size(one.name) != one.bytes]

    def put(self, files: Sequence[tuple[Path, str]], until: float) -> None:
        """See `Files`."""
        for path, name in files:
            if time.monotonic() > until:
                raise RemoteFault("too slow")
            with _faults():
                self._system.put_file(str(path), self._path(name))

    def create(self, name: str, content: bytes) -> bool:
        """See `Files`; where the storage has no conditional write, two may both succeed."""
        path = self._path(name)
        with _faults():
            try:
                self._system.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError):
                if self._system.exists(path):
                    return False
                self._system.pipe_file(path, content)
        return True

    def remove(self, name: str) -> None:
        """See `Files`."""
        with _faults(), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _size(self, name: str) -> int | None:
        try:
            size = self._system.info(self._path(name)).get("size")
        except FileNotFoundError:
            return None
        return size if isinstance(size, int) else None


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Libraries of clouds raise errors of their own."""
    try:
        yield
    except (RemoteFault, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise RemoteFault(f"{type(error).__name__}: {text}") from error
