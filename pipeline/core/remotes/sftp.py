"""A folder on an SSH server as a remote, through the user's own `sftp`: config, keys, jump hosts and known hosts count.

Each call is one connection that carries one batch of commands. No name in a batch comes from the server.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.address import Device
from pipeline.core.remotes.files import RemoteFault, TooLarge, Wanted

URL = re.compile(
    r"(?:ssh|sftp)://(?P<host>(?:[^@/:]+@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)(?::\d{1,5})?)"
    r"/(?P<path>[A-Za-z0-9._~/+ -]+)"
)
_MISSING = re.compile(r"not found|no such file", re.IGNORECASE)
_LISTED = re.compile(r"^-\S+\s+\S+\s+\S+\s+\S+\s+(?P<size>\d+)\s.*?(?P<name>[^/\s]+)$")
_QUICK_S = 40.0
_POLL_S = 0.05


@dataclass(frozen=True)
class _Ended:
    code: int
    out: str
    err: str

    @property
    def reason(self) -> str:
        lines = [line for line in self.err.splitlines() if line.strip() and not line.startswith("sftp>")]
        said = [line for line in lines if not line.startswith("Connection closed")] or lines
        return " ".join(said[-1].split())[:200] if said else f"sftp ended with code {self.code}"


class SftpFiles:
    """The files below a folder of an SSH server.

    Args of the constructor:
        url: `ssh://[user@]host[:port]/path` (or `sftp://`); `/~/path` is below the user's home.
        ssh_config: an OpenSSH client config to use instead of the user's own.
    """

    def __init__(self, url: str, ssh_config: Path | None) -> None:
        found = URL.fullmatch(url)
        if found is None:
            raise ValueError(f"{url} is not ssh://[user@]host[:port]/path")
        self._device = Device(f"ssh://{found['host']}", ssh_config=ssh_config)
        path = found["path"].rstrip("/")
        self._root = path.removeprefix("~/") if path.startswith("~") else f"/{path}"
        self._title = url
        self._made: set[str] = set()

    @property
    def title(self) -> str:
        """The URL."""
        return self._title

    def read(self, name: str, most: int) -> bytes | None:
        """See `Files`."""
        with tempfile.TemporaryDirectory(prefix="figkd-remote-") as folder:
            done = self._batch([f"get {self._path(name)} got"], Path(folder), _QUICK_S, most)
            if done.code == 0:
                return (Path(folder) / "got").read_bytes()
        if _MISSING.search(done.err):
            return None
        raise RemoteFault(done.reason)

    def fetch(self, wanted: Sequence[Wanted], folder: Path, until: float) -> None:
        """See `Files`."""
        lines = [f"get {self._path(one.name)} {_quoted(one.local)}" for one in wanted]
        total = sum(one.bytes for one in wanted)
        done = self._batch(lines, folder, until - time.monotonic(), total)
        if done.code:
            raise RemoteFault(done.reason)

    def lacking(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        """See `Files`."""
        lines = [f"-ls -ln {self._path(one.name)}" for one in wanted]
        done = self._batch(lines, Path(tempfile.gettempdir()), _QUICK_S, None)
        if done.code:
            raise RemoteFault(done.reason)
        matches = [found for line in done.out.splitlines() if (found := _LISTED.match(line))]
        sizes = {found["name"]: int(found["size"]) for found in matches}
        return [one for one in wanted if sizes.get(one.name.rpartition("/")[2]) != one.bytes]

    def put(self, files: Sequence[tuple[Path, str]], until: float) -> None:
        """See `Files`."""
        with tempfile.TemporaryDirectory(prefix="figkd-remote-") as folder:
            lines = self._folders([name for _, name in files])
            for number, (path, name) in enumerate(files):
                os.symlink(os.path.abspath(path), Path(folder) / str(number))
                part = self._path(f"{name}.{secrets.token_hex(6)}.part")
                lines += [f"put {number} {part}", f"rename {part} {self._path(name)}"]
            done = self._batch(lines, Path(folder), until - time.monotonic(), None)
        if done.code:
            raise RemoteFault(done.reason)

    def create(self, name: str, content: bytes) -> bool:
        """See `Files`; on a server without hard links, two may both succeed."""
        part = self._path(f"{name}.{secrets.token_hex(6)}.part")
        target = self._path(name)
        with tempfile.TemporaryDirectory(prefix="figkd-remote-") as folder:
            (Path(folder) / "content").write_bytes(content)
            lines = [*self._folders([name]), f"put content {part}", f"ln {part} {target}", f"rm {part}"]
            done = self._batch(lines, Path(folder), _QUICK_S, None)
            if done.code == 0:
                return True
            there = self._batch(
                [f"-rm {part}", f"ls -1 {target}"], Path(folder), _QUICK_S, None
            )  # a batch ends at its first failure
            if there.code == 0:
                return False
            if not re.search(r"remote link|unsupported|ln ", done.err):
                raise RemoteFault(done.reason)
        with tempfile.NamedTemporaryFile(prefix="figkd-remote-") as file:
            file.write(content)
            file.flush()
            self.put([(Path(file.name), name)], time.monotonic() + _QUICK_S)
        return True

    def remove(self, name: str) -> None:
        """See `Files`."""
        done = self._batch([f"rm {self._path(name)}"], Path(tempfile.gettempdir()), _QUICK_S, None)
        if done.code and not _MISSING.search(done.err):
            raise RemoteFault(done.reason)

    def _path(self, name: str) -> str:
        return _quoted(f"{self._root}/{name}")

    def _folders(self, names: Sequence[str]) -> list[str]:
        """Commands that make the folders of names; those that exist fail, which does not matter."""
        wanted: dict[str, None] = {}
        for name in names:
            parts = f"{self._root}/{name}".split("/")[:-1]
            for end in range(1, len(parts) + 1):
                if folder := "/".join(parts[:end]):
                    wanted[folder] = None
        missing = [folder for folder in wanted if folder not in self._made]
        self._made.update(missing)
        return [f"-mkdir {_quoted(folder)}" for folder in missing]

    def _batch(self, lines: Sequence[str], folder: Path, seconds: float, most: int | None) -> _Ended:
        """Run a batch in a local folder that may hold `most` bytes, for `seconds` at most."""
        ends = time.monotonic() + seconds
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                self._device.sftp(),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                assert process.stdin is not None
                try:
                    process.stdin.write("".join(f"{line}\n" for line in lines).encode())
                    process.stdin.close()
                except BrokenPipeError:  # it ended before; its message says why
                    pass
                while process.poll() is None:
                    if time.monotonic() > ends:
                        raise RemoteFault(f"did not answer within {seconds:.0f} s")
                    if most is not None and _grown(folder) > most:
                        raise TooLarge(f"sends more than {most:,} bytes")
                    if os.fstat(out.fileno()).st_size + os.fstat(err.fileno()).st_size > 1 << 24:
                        raise RemoteFault("sends endless messages")
                    time.sleep(_POLL_S)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
            if most is not None and process.returncode == 0 and _grown(folder) > most:
                raise TooLarge(f"sends more than {most:,} bytes")
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode("utf-8", "replace"))
        return _Ended(process.returncode, *texts)


def _quoted(path: str) -> str:
    # The characters that sftp's globbing and its parser know do not occur in our names nor in URL's paths.
    return f'"{path}"'


def _grown(folder: Path) -> int:
    return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(folder) if entry.is_file())
