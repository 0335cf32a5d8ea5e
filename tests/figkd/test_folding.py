"""Folded batch norm: the same logits with fewer operations, and networks that are left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from figkd.folding import folded
from figkd.models import build_model
from figkd.networks import NETWORKS

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def _lived(model: nn.Module) -> nn.Module:
    """In eval mode, with statistics and weights of batch norm as after a training."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, NORMS) and module.track_running_stats:
            for tensor in (module.running_mean, module.bias):
                tensor.data.normal_(0, 0.3, generator=generator)  # type: ignore[union-attr]
            for tensor in (module.running_var, module.weight):
                tensor.data.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return model.eval()


def _norms(model: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in model.modules())


@pytest.mark.parametrize("name", [*NETWORKS, "timm/resnet18"])
def test_logits_stay(name: str) -> None:
    """Protects the teacher's logits, for every built-in network, and that the network given stays as it is."""
    torch.manual_seed(0)
    model = _lived(build_model(name, 5, image_size=32))
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    before, kept = _norms(model), {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with torch.no_grad():
        made = folded(model)
        expected, found = model(images), made(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert _norms(model) == before and not made.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, kept[key]) for key, tensor in model.state_dict().items())
    if name in ("figkd/resnet_tiny", "figkd/resnet32x4", "figkd/dsconv_nano", "timm/resnet18"):
        assert before and not _norms(made)


class _Twice(nn.Module):
    """One convolution, used with its norm and without it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images)) + self.conv(images + 1)  # type: ignore[no-any-return]


class _Read(_Twice):
    """What the norm reads is read again."""

    def forward(self, images: Tensor) -> Tensor:
        seen = self.conv(images)
        return self.norm(seen) + seen  # type: ignore[no-any-return]


class _Weighs(_Twice):
    """Reads the weight of the convolution elsewhere."""

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images)) * self.conv.weight.sum()  # type: ignore[no-any-return]


class _Scales(_Twice):
    """Reads the weight of the norm elsewhere."""

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images)) * self.norm.weight.sum()  # type: ignore[no-any-return]


class _Named(_Twice):
    """Gives arguments by name."""

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(input=self.conv(input=images))  # type: ignore[no-any-return]


class _Looks(_Twice):
    """Reads what the norm is and has."""

    def forward(self, images: Tensor) -> Tensor:
        seen = self.norm(self.conv(images)) * (1 + self.norm.eps) ** self.norm.num_features
        return seen + self.norm.running_mean.sum()  # type: ignore[no-any-return, union-attr, operator]


class _Remembers(_Twice):
    """Changes a buffer and draws a number whenever it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        self.runs.add_(1)  # type: ignore[operator]
        torch.rand(1)
        return self.norm(self.conv(images))  # type: ignore[no-any-return]


class _Counts(_Twice):
    """Python state that its code changes: the code still runs."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.norm(self.conv(images)) * self.calls  # type: ignore[no-any-return]


class _Branches(_Twice):
    """Cannot be traced."""

    def forward(self, images: Tensor) -> Tensor:
        seen = self.norm(self.conv(images))
        return seen if seen.sum() > 0 else -seen  # type: ignore[no-any-return]


def _with_weight_norm() -> nn.Module:
    return nn.Sequential(torch.nn.utils.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3))


def _parametrised() -> nn.Module:
    return nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3))


def _batch_statistics() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))


def _hooked() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    model[0].register_forward_hook(lambda module, given, result: 2 * result)
    return model


@pytest.mark.parametrize(
    ("make", "same"),
    [
        (_Twice, True), (_Read, True), (_Branches, True), (_with_weight_norm, True), (_parametrised, True),
        (_batch_statistics, True), (_hooked, True), (_Weighs, True), (_Scales, True), (_Named, True), (_Counts, False),
        (_Remembers, False), (_Looks, False),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_cannot_be_folded_is_left_alone(make: Callable[[], nn.Module], same: bool) -> None:
    """Protects networks of all kinds: the same logits, and the same network where folding would change them."""
    torch.manual_seed(0)
    model = _lived(make())
    images = torch.randn(2, 3, 4, 4)
    kept, state = {key: tensor.clone() for key, tensor in model.state_dict().items()}, torch.get_rng_state()
    with torch.no_grad():
        made = folded(model)
        assert (made is model) == same and torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(tensor, kept[key]) for key, tensor in model.state_dict().items())
        if isinstance(model, _Counts) and isinstance(made, _Counts):
            assert model.calls == made.calls == 0
        torch.testing.assert_close(made(images), model(images))
