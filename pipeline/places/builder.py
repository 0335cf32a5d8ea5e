"""Options and files of engines, as a target names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from export.engine_kinds import ENGINE_KINDS
from pipeline.results.rows.engines import Wanted

if TYPE_CHECKING:
    from export.engines.options import TensorRTOptions

BUILDER_KEYS: dict[str, tuple[str, ...]] = {name: kind.builder for name, kind in ENGINE_KINDS.items()}
"""Options of TensorRT's builder by engine; they are keys of the target by the same names."""


def tensorrt_options(arguments: Mapping[str, Any]) -> TensorRTOptions:
    """The builder's options of a target; the defaults where its engine has none."""
    from export.engines.options import TensorRTOptions

    return TensorRTOptions(**{name: arguments[name] for name in BUILDER_KEYS[arguments["engine"]]})


def engine_file(wanted: Wanted) -> str:
    """Name of the file that an engine is built into."""
    return f"{wanted.id.split('/', 1)[1]}.{ENGINE_KINDS[wanted.backend].suffix}"
