"""What makes a latency less sure than it looks, as codes and numbers; the views make the words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Code = Literal[
    "few_samples",
    "unstable",
    "far_outliers",
    "rounds_disagree",
    "drift",
    "rate_not_kept",
    "coarse_clock",
    "others_at_work",
]


@dataclass(frozen=True)
class Caution:
    """One finding about the samples of a row.

    Attributes:
        code: `few_samples` (`n`, `needed`): too few for a p99. `unstable` (`cv_percent`, `allowed`). `far_outliers`
            (`percent`, `fence_ms`, `p99`: 1 if the p99 is one of them). `rounds_disagree` (`low_ms`, `high_ms`): the
            interval of the median over the rounds. `drift` (`percent`): the last third's median against the first's.
            `rate_not_kept` (`rate_fps`, `service_ms`: mean time of one arrival, `period_ms`). `coarse_clock`
            (`step_ms`, `median_ms`). `others_at_work` (`others`, `stolen`: CPU cores).
        values: the numbers, by the names above.
    """

    code: Code
    values: dict[str, float] = field(default_factory=dict)
