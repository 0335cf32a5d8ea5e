"""Counter-based random numbers: a value is a function of its coordinates, not of what was drawn before.

That makes augmentation replayable (view k of sample n is the same on every machine, in any batch) and
vectorised. The mixer is a 64-bit finaliser with the constants of splitmix64 (Steele, Lea, Flood 2014),
written with wrapping int64 arithmetic and logical shifts so that torch gives the same bits on CPU and GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MULTIPLIERS = (-4658895280553007687, -7723592293110705685)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(seed: int, *coordinates: Tensor | int) -> Tensor:
    """Hash a seed and coordinates (int64 tensors that broadcast, or ints) to int64 in 0..2^62-1."""
    state = torch.tensor(_signed(seed), dtype=torch.int64)
    for coordinate in coordinates:
        if not isinstance(coordinate, Tensor):
            coordinate = torch.tensor(_signed(coordinate), dtype=torch.int64)
        # A 0-dim CPU tensor mixes freely with tensors on a GPU.
        state = _finalise(state + _GAMMA) ^ _finalise(coordinate * _GAMMA)
    return _shift(_finalise(state + _GAMMA), 2)


def uniform(seed: int, *coordinates: Tensor | int) -> Tensor:
    """Hash to float64 in [0, 1)."""
    return (mix(seed, *coordinates) >> 9).to(torch.float64) / float(1 << 53)


def derive(seed: int, *coordinates: int) -> int:
    """Hash ints to an int in 0..2^62-1, for seeding other generators."""
    return int(mix(seed, *coordinates))


def _finalise(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _MULTIPLIERS[0]
    value = (value ^ _shift(value, 27)) * _MULTIPLIERS[1]
    return value ^ _shift(value, 31)


def _shift(value: Tensor, bits: int) -> Tensor:
    # >> on int64 is arithmetic; the mask makes it a logical shift.
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value
