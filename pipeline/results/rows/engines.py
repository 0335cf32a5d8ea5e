"""`engines.json` of the stage `build`: what became of each engine of a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pipeline.results.composition import Composition
from pipeline.results.engine import SkippedTactics
from pipeline.results.rows.row import Row, read_list, read_mapping, write_list, write_mapping

_ENGINES = "engines.json"
_NOT_MADE = "not_made.json"


class Tensor(Row):
    """An input or output of a graph."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    """Names stand for open dimensions."""


class Wanted(Row):
    """An engine that a target asks for."""

    id: str
    """`TARGET/PRECISION`, or `TARGET/PRECISION-SM86` where it is for one kind of GPU."""
    target: str
    backend: str
    precision: str
    compute_capability: str
    """The GPU that it is for, such as `SM86`; empty where the builder's own or none is meant."""
    onnx: str
    """Name of the ONNX file."""
    onnx_bytes: int | None
    """None where the file could not be made."""

    def failed(self, detail: str, fix: str, device: str = "") -> EngineRow:
        """The row of an engine that could not be built."""
        return EngineRow(**dict(self), state="failed", detail=detail, fix=fix, device=device)

    def missing(self, detail: str, fix: str, device: str = "") -> EngineRow:
        """The row of an engine whose back end is absent."""
        return EngineRow(**dict(self), state="missing", detail=detail, fix=fix, device=device)


class Made(Row):
    """What a builder made of a wanted engine."""

    file: str
    """Name in the artifact of `build`."""
    bytes: int
    layers: int
    """Of the parsed network, before the engine fuses them."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batch_sizes: tuple[int, ...] = ()
    """Accepted batch sizes of an engine that was built on a device; empty where its sidecar tells them."""
    composition: Composition = Composition()
    skipped_tactics: SkippedTactics | None = None


class EngineRow(Wanted):
    """What became of a wanted engine."""

    state: Literal["built", "missing", "failed"]
    runs: bool = False
    """It can be run where it was built."""
    detail: str = ""
    fix: str = ""
    device: str = ""
    """The device that it was built on, in words; empty for this machine."""
    access: str = ""
    """How a device's back end is used (`places.access`); empty for this machine."""
    made: Made | None = None
    """None where nothing was built."""

    @property
    def engine(self) -> Made:
        """What was built.

        Raises:
            ValueError: nothing was.
        """
        if self.made is None:
            raise ValueError(f"{self.id} was not built")
        return self.made


def built(
    wanted: Wanted, made: Made, *, runs: bool, detail: str, fix: str, device: str = "", access: str = ""
) -> EngineRow:
    """The row of an engine that was built."""
    return EngineRow(
        **dict(wanted),
        state="built",
        runs=runs,
        detail=detail,
        fix=fix,
        device=device,
        access=access,
        made=made,
    )


def read_engines(folder: Path) -> list[EngineRow]:
    """The rows in an artifact of `build`."""
    return read_list(folder / _ENGINES, EngineRow)


def write_engines(folder: Path, rows: Sequence[EngineRow]) -> None:
    """Write the rows into an artifact of `build`."""
    write_list(folder / _ENGINES, rows)


class NotMade(Row):
    """Why the ONNX file of a precision could not be made."""

    detail: str
    fix: str


def read_not_made(folder: Path) -> dict[str, NotMade]:
    """By name, the files that an artifact of `precision` lacks."""
    return read_mapping(folder / _NOT_MADE, NotMade)


def write_not_made(folder: Path, files: dict[str, NotMade]) -> None:
    """Write them into an artifact of `precision`."""
    write_mapping(folder / _NOT_MADE, files)
