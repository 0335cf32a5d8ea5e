"""FiGKD: what can be chosen of it. The loss is in `figkd_loss`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen

from figkd.loss.method import Temperature, Weight, option

GROWTH_FROM = 128
"""Number of classes at which the correlation over the batch weighs what `batch_weight` says."""
Distance = Literal["squared", "kl", "smooth_l1", "cosine"]
Domain = Literal["logits", "standardised", "log_probabilities"]


@dataclass(frozen=True)
class FiGKD:
    """Options of `distill.method: figkd`. The paper's values are not public; these are our choices."""

    distance: Distance = option(
        "squared",
        "`squared`, `smooth_l1`, `cosine`: distance of the wavelet coefficients of `domain`. `kl`: KL divergence of "
        "how the class tree divides the probabilities; set `temperature: 2`, `weight: 1`, `level: full` and "
        "`band_decay: 0.7` with it.",
    )
    wavelet: str = option("haar", "Any discrete wavelet of PyWavelets; `kl` needs `haar`.")
    level: Annotated[int, Ge(1), Le(64)] | Literal["fine", "max", "full"] = option(
        "fine",
        "Number of levels of the transform, from the finest. `fine`: 3, or all if there are fewer. `max`: as many as "
        "have no boundary effects. `full`: all.",
    )
    mode: str = option(
        "symmetric",
        "How PyWavelets extends the signal at its ends. It matters if the number of classes is odd; not for `kl`.",
    )
    band_decay: Annotated[float, Ge(0), Le(10)] = option(
        0.5, "The weight of detail band j (1 is the finest) is band_decay^(j-1)."
    )
    band_weights: Annotated[dict[str, Weight], MaxLen(65)] | None = option(
        None, "Weights of single bands, such as `{d1: 1, d2: 0.5, a2: 0.1}`."
    )
    order: Literal["given", "confusion", "random", "random_each_step", "hierarchy"] = option(
        "confusion",
        "Order of the classes before the transform. `confusion` puts classes that the teacher confuses side by side.",
        of_loss=False,
    )
    hierarchy: Path | None = option(
        None,
        "For `order: hierarchy`: a JSON file of nested objects or lists whose leaves are the class names.",
        of_loss=False,
    )
    domain: Domain = option("logits", "What the wavelet transforms, for distances other than `kl`.")
    mass_power: Annotated[float, Ge(0), Le(1)] = option(
        0.5,
        "For `kl`: the weight of a node is the teacher's probability there, to this power. 1, with equal bands, is "
        "plain KD.",
    )
    temperature: Temperature = option(1.0, "Logits are divided by this.")
    weight: Weight = option(0.02, "Weight of the detail's distance, which is a sum over the coefficients.")
    batch_weight: Weight = option(
        1.0,
        "Weight of DIST's correlation over the batch, which sees what the detail along the classes cannot. 0: none.",
    )
    batch_temperature: Temperature = option(
        4.0,
        "Logits are divided by this for the correlation over the batch, which is multiplied by its square.",
    )
    batch_growth: Annotated[float, Ge(0), Le(1)] = option(
        0.5,
        f"The correlation's weight grows with the number of classes C as (C / {GROWTH_FROM})^batch_growth: 0.5 keeps "
        "the share of its gradient. 0: a mean over the classes, as DIST has it.",
    )
    ce_weight: Weight = option(1.0, "Weight of the labels' cross entropy.")
