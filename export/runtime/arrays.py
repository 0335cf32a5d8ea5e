"""The array type of annotations: Python 3.8 cannot subscript numpy's at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
else:
    Array = Any
