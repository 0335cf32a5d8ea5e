"""`samples.npz` of the stage `benchmark`: raw latency samples in ms, by case and part.

A case is named as in `LatencyRow.samples`; its parts are `latency`, and what it consists of. In the file an array is
called `CASE|PART`, with `:` for `/`, which names inside a ZIP file cannot hold.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.files import write_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SAMPLES = "samples.npz"


def _key(case: str, part: str) -> str:
    return f"{case}|{part}".replace("/", ":")


def save_samples(folder: Path, samples: Mapping[str, Mapping[str, npt.NDArray[Any]]]) -> None:
    """Write the samples of all cases; equal samples give equal bytes."""
    import numpy as np

    buffer = io.BytesIO()
    arrays = {_key(case, part): values for case, parts in samples.items() for part, values in parts.items()}
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(folder / SAMPLES, buffer.getvalue())


class RawSamples:
    """The samples in an artifact of `benchmark`."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        with np.load(folder / SAMPLES, allow_pickle=False) as arrays:
            self._arrays = dict(arrays)

    def of(self, case: str, part: str = "latency") -> npt.NDArray[np.float64]:
        """The samples of one part of a case, float64 [N] in ms.

        Raises:
            KeyError: there are none.
        """
        found: npt.NDArray[np.float64] = self._arrays[_key(case, part)]
        return found
