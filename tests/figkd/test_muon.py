"""Muon: its law (a step is orthogonal), its formula, which parameters follow which rule, and its state."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from figkd.muon import Muon, orthogonalised, weight_matrices
from figkd.networks import NETWORKS
from figkd.optim import make_optimizer


def _conditioned(count: int, rows: int, columns: int, seed: int) -> Tensor:
    """Matrices whose singular values are between 0.1 and 1."""
    generator = torch.Generator().manual_seed(seed)
    left, _, right = torch.linalg.svd(
        torch.randn(count, rows, columns, generator=generator), full_matrices=False
    )
    values = 0.1 + 0.9 * torch.rand(count, min(rows, columns), generator=generator)
    made: Tensor = left * values[:, None, :] @ right
    return made


@given(
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 999),
    st.sampled_from([1e-4, 1.0, 1e4]),
)
def test_singular_values_are_near_1(count: int, rows: int, columns: int, seed: int, scale: float) -> None:
    """Protects the law: whatever the scale, wide or tall, the singular vectors stay and the values come near to 1."""
    matrices = _conditioned(count, rows, columns, seed)
    turned = orthogonalised(matrices * scale)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    aligned = left.mT @ turned @ right.mT
    values = aligned.diagonal(dim1=-2, dim2=-1)
    assert ((values > 0.67) & (values < 1.22)).all()
    assert (aligned - torch.diag_embed(values)).abs().max() < 1e-3
    assert turned.shape == matrices.shape


@pytest.mark.parametrize("shape", [(2, 5, 9), (2, 9, 5)])
def test_it_is_the_plain_iteration(shape: tuple[int, int, int]) -> None:
    """Protects the shortcut: multiplying the polynomials first changes nothing but the rounding."""
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = matrices.mT if shape[1] > shape[2] else matrices
    plain = wide / torch.linalg.matrix_norm(wide)[:, None, None]
    for _ in range(5):
        gram = plain @ plain.mT
        plain = 3.4445 * plain + (-4.7750 * gram + 2.0315 * gram @ gram) @ plain
    plain = plain.mT if shape[1] > shape[2] else plain
    torch.testing.assert_close(orthogonalised(matrices, 5), plain, rtol=0, atol=1e-12)


def test_zeros_stay() -> None:
    """Protects a layer without a gradient signal from values that are not finite."""
    assert orthogonalised(torch.zeros(2, 3, 4)).eq(0).all()
    assert orthogonalised(torch.full((1, 2, 2), 1e-30)).isfinite().all()


def _network() -> nn.Sequential:
    """Every kind of parameter: plain, grouped and depthwise convolutions, 1x1, two of one shape, vectors, a head."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 6, 1, bias=False),
        nn.Conv2d(6, 6, 3, groups=2),
        nn.ConvTranspose2d(6, 6, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 6),
        nn.Linear(6, 6),
        nn.Linear(6, 5),
    )


def _learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        images = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(step))
        model(images).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _make(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return make_optimizer(model, "muon", **{"lr": 0.1, "weight_decay": 0.0, **options})


def test_which_weights_are_matrices() -> None:
    """Protects the choice: convolutions and inner linear layers, by group; no head, vector or transposed kernel."""
    model = _network()
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    model[8].weight.requires_grad_(False)
    found = {names[weight]: count for weight, count in weight_matrices(model).items()}
    assert found == {"0.weight": 1, "2.weight": 8, "3.weight": 1, "4.weight": 2, "9.weight": 1}
    groups = _make(model).param_groups
    assert [len(group["params"]) for group in groups] == [5, 2, 9]
    for network in NETWORKS.values():
        assert weight_matrices(network.build(4))


def test_a_step_is_a_share_of_the_norm_in_an_orthogonal_direction() -> None:
    """Protects the rate's meaning for every shape, and the singular values of what a step adds."""
    model = _network()
    before, matrices = copy.deepcopy(model), weight_matrices(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for seed, (weight, count) in enumerate(matrices.items()):
        rows = weight.shape[0] // count
        gradient = _conditioned(count, rows, weight[0].numel(), seed)
        weight.grad = gradient.reshape(weight.shape)
    _make(model).step()
    for weight, old in zip(model.parameters(), before.parameters(), strict=True):
        if weight in matrices:
            change = (weight - old).detach()
            torch.testing.assert_close(change.norm(), 0.1 * old.detach().norm())
            values = torch.linalg.svdvals(
                change.reshape(matrices[weight], weight.shape[0] // matrices[weight], -1)
            )
            assert values.max() < 1.22 / 0.67 * values.min()


def test_frozen_values() -> None:
    """Protects the formula: two steps of a diagonal matrix, which stays diagonal, with momentum and decay."""
    layer, head = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
    model = nn.Sequential(layer, head)
    nn.init.eye_(layer.weight)
    head.weight.data.fill_(1.0)
    optimizer = _make(model, weight_decay=0.5)
    a, b, c = 3.4445, -4.7750, 2.0315
    weight, momentum, top, top_momentum = [1.0, 1.0], [0.0, 0.0], 1.0, 0.0
    for gradient in ([2.0, 1.0], [1.0, -3.0]):
        layer.weight.grad = torch.diag(torch.tensor(gradient))
        head.weight.grad = torch.full((1, 2), 3.0)
        optimizer.step()
        momentum = [0.9 * m + g for m, g in zip(momentum, gradient, strict=True)]
        ahead = [g + 0.9 * m for m, g in zip(momentum, gradient, strict=True)]
        turned = [value / sum(other**2 for other in ahead) ** 0.5 for value in ahead]
        for _ in range(3):
            turned = [a * value + b * value**3 + c * value**5 for value in turned]
        share = 0.1 * (sum(w**2 for w in weight) / sum(value**2 for value in turned)) ** 0.5
        weight = [0.95 * w - share * value for w, value in zip(weight, turned, strict=True)]
        top_momentum = 0.9 * top_momentum + 3 + 0.5 * top
        top -= 0.1 * (3 + 0.5 * top + 0.9 * top_momentum)
        torch.testing.assert_close(layer.weight.detach(), torch.diag(torch.tensor(weight)))
        torch.testing.assert_close(head.weight.detach(), torch.full((1, 2), top))


def test_equal_shapes_in_one_batch_change_nothing() -> None:
    """Protects the batching: a network's parameters move as each would alone."""
    together, apart = _network(), _network()
    alone: list[torch.optim.Optimizer] = [
        Muon([{"params": [weight], "matrices": [count]}], lr=0.1)
        for weight, count in weight_matrices(apart).items()
    ]
    both: list[tuple[nn.Module, list[torch.optim.Optimizer]]] = [
        (together, [_make(together)]),
        (apart, alone),
    ]
    for model, optimizers in both:
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        for one in optimizers:
            one.step()
    for moved, other in zip(weight_matrices(together), weight_matrices(apart), strict=True):
        torch.testing.assert_close(moved, other, rtol=1e-5, atol=1e-6)


def test_a_saved_state_goes_on_with_the_same_bits() -> None:
    """Protects resuming: momentum of every rule is in the state, which weights_only reads."""
    straight, first = _network(), _network()
    _learn(straight, _make(straight), 5)
    optimizer = _make(first)
    _learn(first, optimizer, 3)
    file = io.BytesIO()
    torch.save((first.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    second = _network()
    second.load_state_dict(weights)
    resumed = _make(second)
    resumed.load_state_dict(state)
    _learn(second, resumed, 2, start=3)
    for one, other in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_has_no_gradient_stays() -> None:
    """Protects frozen branches: no gradient, no step, and the others still move; nor does an empty rule fail."""
    model = _network()
    before = copy.deepcopy(model)
    optimizer = _make(model)
    next(model.parameters()).grad = torch.ones(8, 3, 3, 3)
    optimizer.step()
    moved = [
        name
        for (name, one), other in zip(model.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(one, other)
    ]
    assert moved == ["0.weight"]
    only = nn.BatchNorm1d(3)
    only.weight.grad = torch.ones(3)
    _make(only).step()
    torch.testing.assert_close(only.weight.detach(), torch.full((3,), 1 - 0.1 * 1.9))


def test_a_weight_of_zeros_starts_to_move() -> None:
    """Protects layers that start at zero: a share of nothing would be nothing."""
    first = nn.Linear(3, 3)
    nn.init.zeros_(first.weight)
    optimizer = _make(nn.Sequential(first, nn.Linear(3, 2)))
    first.weight.grad = torch.eye(3)
    optimizer.step()
    assert first.weight.detach().norm() > 0


def test_it_learns_in_channels_last() -> None:
    """Protects the layout that `train` puts weights in: the update is that of the plain layout."""
    plain, last = _network(), _network()
    last.to(memory_format=torch.channels_last)
    for model in (plain, last):
        _learn(model, _make(model, lr=0.02), 3)
    for one, other in zip(plain.parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
