"""An exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """Moving average of a model's parameters and of its floating-point buffers.

    The decay warms up: step t (from 0) uses min(decay, (1 + t) / (10 + t)), so that the random start does not weigh
    on short trainings (the rule of TensorFlow's ExponentialMovingAverage). It depends on t alone, so resuming needs no
    counter.

    Batch-norm statistics are averaged with the weights. Copying them from the trained model, which is one step of a
    noisy walk, would pair the averaged weights with the activations of other weights; to first order in the weights,
    the statistics of the average are the average of the statistics. Integer buffers (counters) are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        pairs: list[tuple[Tensor, Tensor]] = [*zip(self.module.parameters(), model.parameters(), strict=True)]
        buffers = [*zip(self.module.buffers(), model.buffers(), strict=True)]
        pairs += [pair for pair in buffers if pair[0].is_floating_point()]
        self._kept: list[Tensor] = [kept for kept, _ in pairs]
        self._new: list[Tensor] = [new.detach() for _, new in pairs]
        counters = [pair for pair in buffers if not pair[0].is_floating_point()]
        self._kept_counters = [kept for kept, _ in counters]
        self._new_counters = [new for _, new in counters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the model's weights after optimizer step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._kept, self._new, 1 - decay)
        if self._kept_counters:  # in one call: on a GPU each would be a kernel of its own in every step
            torch._foreach_copy_(self._kept_counters, self._new_counters)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The average as a state dict of the model."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a saved average."""
        self.module.load_state_dict(state)
