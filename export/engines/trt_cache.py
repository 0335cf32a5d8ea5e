"""Which timing cache a build uses: a file for each version of TensorRT, device and kind of network; it is of use for
nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CacheKey:
    """What a timing cache belongs to."""

    module: str
    version: str
    device: str
    """Name of the GPU."""
    compute_capability: str
    platform: str
    """CPU architecture, and on a Jetson the L4T release."""
    kind: str
    """Precision and typing of the network, such as `fp16` or `int8-weak`."""

    def file(self, folder: Path) -> Path:
        """The cache file in `folder`: every part of the key is in its name."""
        parts = (self.module, self.version, self.device, self.compute_capability, self.platform, self.kind)
        plain = (re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts)
        return Path(folder) / f"timing_{'_'.join(plain)}.cache"

    def facts(self) -> dict[str, str]:
        """For the JSON file beside the cache."""
        return dict(vars(self))
