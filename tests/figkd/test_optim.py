"""Optimizers that share a network's parameters: together they do what one does."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from figkd.models import build_model
from figkd.muon import products, weight_matrices
from figkd.networks import NETWORKS
from figkd.optim import OptimizerName, Optimizers, make_optimizer, shares
from figkd.replicas import in_turn


def _make(model: nn.Module, name: OptimizerName, count: int) -> Optimizers:
    return Optimizers(
        [
            make_optimizer(model, name, only=only, lr=0.1, weight_decay=0.01)
            for only in shares(model, name, count)
        ]
    )


def _learn(model: nn.Module, optimizers: Optimizers, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizers.step(0.1 / (1 + step), in_turn)


@pytest.mark.parametrize("network", list(NETWORKS))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_share_has_about_as_much_to_do(network: str, count: int) -> None:
    """Protects the gain: every parameter in one share, none empty, and no work moved could make the largest smaller."""
    model = NETWORKS[network].build(4)
    found = shares(model, "muon", count)
    assert len(found) == count and all(found)
    assert sum(map(len, found)) == len(set().union(*found)) == len(list(model.parameters()))
    matrices = weight_matrices(model)
    work = {p: products(p, matrices[p]) if p in matrices else p.numel() for p in model.parameters()}
    loads = [sum(work[parameter] for parameter in share) for share in found]
    largest = found[loads.index(max(loads))]
    assert max(loads) - min(work[parameter] for parameter in largest) <= min(loads)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_what_takes_no_time_is_not_shared(name: OptimizerName) -> None:
    """Protects small steps: threads that wait for each other take longer than the update."""
    model = build_model("figkd/resnet_tiny", 4, image_size=16)
    assert shares(model, name, 2) == [set(model.parameters())]


def test_products_are_counted() -> None:
    """Frozen values: 2 matrices of 3 x 10 (two products with the large side, nine of small matrices), and 8 x 2."""
    assert products(torch.empty(6, 10), 2) == 2 * (2 * 3 * 3 * 10 + 9 * 3**3)
    assert products(torch.empty(8, 2, 1, 1), 1) == 2 * 2 * 2 * 8 + 9 * 2**3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_do_what_one_optimizer_does(count: int) -> None:
    """Protects training with replicas, and going on from a state: the same weights, gradients dropped."""
    torch.manual_seed(0)
    model = build_model("figkd/resnet_tiny", 4, image_size=16)
    one, interrupted = copy.deepcopy(model), copy.deepcopy(model)
    _learn(one, _make(one, "muon", 1), range(4))
    optimizers = _make(model, "muon", count)
    _learn(model, optimizers, range(4))
    assert all(parameter.grad is None for parameter in model.parameters())
    for ours, theirs in zip(model.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)

    before, after, state = _make(interrupted, "muon", count), _make(interrupted, "muon", count), io.BytesIO()
    _learn(interrupted, before, range(2))
    torch.save(before.state_dict(), state)
    after.load_state_dict(torch.load(io.BytesIO(state.getvalue()), weights_only=True))
    _learn(interrupted, after, range(2, 4))
    assert all(map(torch.equal, interrupted.parameters(), model.parameters()))


def test_the_state_of_one_is_torchs() -> None:
    """Protects trainings that an earlier version began: without shares, its states are as before."""
    model = build_model("figkd/resnet_tiny", 4, image_size=16)
    optimizers = _make(model, "sgd", 2)
    _learn(model, optimizers, range(1))
    plain = make_optimizer(model, "sgd", lr=0.1, weight_decay=0.01)
    plain.load_state_dict(optimizers.state_dict())
    optimizers.load_state_dict(plain.state_dict())
