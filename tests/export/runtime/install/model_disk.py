"""A disk in memory that knows what a power cut may take: for every moment, the trees that may be found afterwards.

POSIX promises no more than fsync(2) says. Of a file that was not synced since it was written any part may be there, or
zeros. Of each name in a folder that was not synced, any of the things that it meant since the last sync may be
found, whatever became of other names: also the two halves of a rename into another folder are independent.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from export.runtime.install.errors import Environment


@dataclass(eq=False)
class File:
    data: bytes
    synced: bytes = b""

    def outcomes(self) -> list[bytes]:
        found = [self.synced, self.data, bytes(len(self.data)), self.data[: len(self.data) // 2]]
        return list(dict.fromkeys(found)) if self.data != self.synced else [self.data]


@dataclass(eq=False)
class Link:
    target: str


@dataclass(eq=False)
class Folder:
    entries: dict[str, Node] = field(default_factory=dict)
    history: dict[str, list[Node | None]] = field(default_factory=dict)
    """Name to what it meant since the last sync, oldest first; only names that changed."""

    def put(self, name: str, node: Node | None) -> None:
        self.history.setdefault(name, [self.entries.get(name)]).append(node)
        if node is None:
            del self.entries[name]
        else:
            self.entries[name] = node


Node: TypeAlias = "File | Link | Folder"
Tree = tuple[tuple[str, str, bytes], ...]
"""Sorted (path, kind, content or target)."""


class ModelDisk:
    """See `export.runtime.install.disk.Disk`.

    Args:
        before: called before each change.
        left_out: number of the sync that does nothing, counted from 0.
    """

    def __init__(self, before: Callable[[], None] = lambda: None, left_out: int | None = None) -> None:
        self.root = Folder()
        self.before = before
        self.left_out = left_out
        self.syncs: list[str] = []
        self.changes = 0

    # What the code under test calls.

    def kind(self, path: str) -> str:
        node = self._find(path)
        return {File: "file", Link: "link", Folder: "folder", type(None): ""}[type(node)]

    def names(self, folder: str) -> list[str]:
        node = self._find(folder)
        return sorted(node.entries) if isinstance(node, Folder) else []

    def read(self, path: str, most: int) -> bytes | None:
        node = self._find(path)
        return node.data if isinstance(node, File) and len(node.data) <= most else None

    def blocks(self, path: str) -> Iterator[bytes]:
        node = self._find(path)
        assert isinstance(node, File)
        yield node.data

    def target(self, path: str) -> str | None:
        node = self._find(path)
        return node.target if isinstance(node, Link) else None

    def free(self, folder: str) -> int:
        return 1 << 40

    def make_folder(self, path: str) -> None:
        self._add(path, Folder())

    def write(self, path: str, blocks: Iterable[bytes], mode: int = 0o600) -> None:
        node = File(b"")
        self._add(path, node)
        for block in blocks:
            self._changing()
            node.data += block

    def append(self, path: str, content: bytes) -> None:
        node = self._find(path)
        if node is None:
            self.write(path, [content])
            return
        assert isinstance(node, File)
        self._changing()
        node.data += content

    def symlink(self, target: str, path: str) -> None:
        self._add(path, Link(target))

    def rename(self, old: str, new: str) -> None:
        node = self._find(old)
        assert node is not None, old
        assert not isinstance(self._find(new), Folder), new
        self._changing()
        above, name = self._above(new)
        above.put(name, node)
        above, name = self._above(old)
        above.put(name, None)

    def remove(self, path: str) -> None:
        assert isinstance(self._find(path), (File, Link)), path
        self._changing()
        above, name = self._above(path)
        above.put(name, None)

    def remove_folder(self, path: str) -> None:
        node = self._find(path)
        assert isinstance(node, Folder) and not node.entries, path
        self._changing()
        above, name = self._above(path)
        above.put(name, None)

    def sync(self, path: str) -> None:
        node = self._find(path)
        self._changing()
        self.syncs.append(path)
        if self.left_out == len(self.syncs) - 1:
            return
        if isinstance(node, File):
            node.synced = node.data
        elif isinstance(node, Folder):
            node.history.clear()
        else:
            raise AssertionError(path)

    # What may be found after a power cut now.

    def after_power_cut(self, most: int, chance: random.Random) -> set[Tree]:
        """Trees that may be found: all combinations if there are at most `most`, else the extremes and a sample."""
        points: list[tuple[Node, str, int]] = []
        seen: set[int] = set()
        waiting: list[Node] = [self.root]
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, File) and len(node.outcomes()) > 1:
                points.append((node, "", len(node.outcomes())))
            if isinstance(node, Folder):
                points += [(node, name, len(values)) for name, values in node.history.items()]
                waiting += [
                    inner for values in node.history.values() for inner in values if inner is not None
                ]
                waiting += node.entries.values()
        sizes = [size for _, _, size in points]
        return {self._tree(dict(self._named(points, choice))) for choice in _choices(sizes, most, chance)}

    @staticmethod
    def _named(
        points: list[tuple[Node, str, int]], choice: tuple[int, ...]
    ) -> Iterator[tuple[tuple[int, str], int]]:
        for (node, name, _), picked in zip(points, choice, strict=True):
            yield (id(node), name), picked

    def _tree(self, picked: dict[tuple[int, str], int]) -> Tree:
        found: list[tuple[str, str, bytes]] = []

        def walk(path: str, node: Node) -> None:
            if isinstance(node, File):
                found.append((path, "file", node.outcomes()[picked.get((id(node), ""), 0)]))
            elif isinstance(node, Link):
                found.append((path, "link", node.target.encode()))
            else:
                found.append((path, "folder", b""))
                for name in {*node.entries, *node.history}:
                    values = node.history.get(name)
                    inner = values[picked[id(node), name]] if values else node.entries[name]
                    if inner is not None:
                        walk(f"{path}/{name}", inner)

        walk("", self.root)
        return tuple(sorted(found))

    def tree(self) -> Tree:
        """What is there now."""
        newest = {}
        waiting: list[Node] = [self.root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, File):
                newest[id(node), ""] = node.outcomes().index(node.data)
            if isinstance(node, Folder):
                newest |= {(id(node), name): len(values) - 1 for name, values in node.history.items()}
                waiting += node.entries.values()
        return self._tree(newest)

    def _find(self, path: str) -> Node | None:
        node: Node | None = self.root
        for part in path.strip("/").split("/"):
            if part:
                node = node.entries.get(part) if isinstance(node, Folder) else None
        return node

    def _above(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        folder = self._find(above)
        assert isinstance(folder, Folder), path
        return folder, name

    def _add(self, path: str, node: Node) -> None:
        above, name = self._above(path)
        if name in above.entries:
            raise Environment("File exists", path)
        self._changing()
        above.put(name, node)

    def _changing(self) -> None:
        self.before()
        self.changes += 1


def disk_of(tree: Tree) -> ModelDisk:
    """A disk on which a tree is found at boot; all of it is on the medium."""
    disk = ModelDisk()
    for path, kind, content in tree:
        if not path:
            continue
        above, name = disk._above(path)
        if kind == "file":
            above.entries[name] = File(content, content)
        else:
            above.entries[name] = Link(content.decode()) if kind == "link" else Folder()
    return disk


def _choices(sizes: list[int], most: int, chance: random.Random) -> Iterator[tuple[int, ...]]:
    count = 1
    for size in sizes:
        count *= size
    if count <= most:
        yield from itertools.product(*map(range, sizes))
        return
    oldest, newest = (0,) * len(sizes), tuple(size - 1 for size in sizes)
    found = [oldest, newest]
    for start in (oldest, newest):
        for at, size in enumerate(sizes):
            found += [(*start[:at], value, *start[at + 1 :]) for value in range(size)]
    yield from found
    for _ in range(most - len(found)):
        yield tuple(chance.randrange(size) for size in sizes)
