"""Mixup and CutMix."""

from __future__ import annotations

import pytest
import torch

from figkd.mixing import Mixing


def test_draws_replay_and_stay_in_range() -> None:
    """Protects replay: draws are functions of (seed, epoch, step), the own share is the larger one."""
    mixing = Mixing(0.4, 1.0, seed=3)
    one, again, other = mixing.draw(2, 50, 32), mixing.draw(2, 50, 32), mixing.draw(3, 50, 32)
    assert one.cut == again.cut and torch.equal(one.share, again.share) and torch.equal(one.box, again.box)
    assert not torch.equal(one.share, other.share)
    assert 0 < sum(one.cut) < 50
    blended = one.share[~torch.tensor(one.cut)]
    assert ((blended >= 0.5) & (blended <= 1)).all()


def test_cutmix_share_is_the_area_that_stays() -> None:
    """Protects the labels: the share equals the part of the pixels that are the image's own."""
    draws = Mixing(0.0, 1.0).draw(0, 20, 16)
    own, partner = (torch.full((1, 16, 16, 3), value, dtype=torch.uint8) for value in (0, 255))
    for step in range(20):
        mixed = draws.apply(step, own, partner)
        assert float((mixed == 0).float().mean()) == pytest.approx(float(draws.share[step]), abs=1e-6)


def test_mixup_blends() -> None:
    """Protects the pixels of mixup: share of the image plus the rest of the partner, rounded."""
    draws = Mixing(1.0, 0.0).draw(0, 5, 8)
    own, partner = (torch.full((2, 8, 8, 3), value, dtype=torch.uint8) for value in (200, 40))
    for step in range(5):
        share = float(draws.share[step])
        assert int(draws.apply(step, own, partner)[0, 0, 0, 0]) == round(200 * share + 40 * (1 - share))


def test_off_is_off() -> None:
    """Protects the default: no mixing at all."""
    assert not Mixing()
    assert Mixing(cutmix=0.1)
