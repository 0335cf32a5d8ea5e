"""Ratios that other load on the machine disturbs little."""

from __future__ import annotations

import numpy as np

from export.engines.protocol import Samples
from export.stats import ratio


def lowest(samples: Samples) -> list[float]:
    """The lowest sample of each round, ms: other load only ever adds time, and rarely to all samples of a round."""
    parts = np.split(samples.latency, np.cumsum(samples.rounds)[:-1])
    return [float(part.min()) for part in parts]


def undisturbed_ratio(numerator: Samples, denominator: Samples) -> dict[str, float]:
    """Ratio of the rounds' lowest samples, with its 95 % interval over the rounds."""
    return ratio(lowest(numerator), lowest(denominator))
