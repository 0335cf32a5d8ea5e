"""Networks of timm whose last layer starts at zero, or almost: they train with the default loss as they come."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from figkd.loss.build import build_loss

CLASSES, BATCH, STEPS = 10, 64, 5
NETWORKS = [
    "resmlp_12_224",
    "mixer_s32_224",
    "mixer_s16_224",
    "gmixer_12_224",
    "gmlp_ti16_224",
    "eva02_tiny_patch14_224",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_it_trains_with_the_default_loss(name: str) -> None:
    """Protects students from a first step that ends the training: the loss was NaN in the first epoch."""
    torch.manual_seed(0)
    import timm  # takes a second to import

    model = timm.create_model(name, img_size=32, num_classes=CLASSES).train()
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(CLASSES, (BATCH,))
    teacher = 3 * torch.randn(BATCH, CLASSES)
    first = {method: _gradient_norm(model, method, images, teacher, labels) for method in ("ce", "figkd")}
    print(f"{name}: first gradient {first['figkd']:.3g}, {first['ce']:.3g} of ce alone")
    assert 0 < first["figkd"] < 100 * first["ce"]

    loss = build_loss("figkd", CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        value: Tensor = loss(model(images), teacher, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    print(f"{name}: losses {losses}")
    assert all(math.isfinite(value) for value in losses) and max(losses) < 10 * losses[0]
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def _gradient_norm(model: nn.Module, method: str, images: Tensor, teacher: Tensor, labels: Tensor) -> float:
    model.zero_grad()
    build_loss(method, CLASSES)(model(images), teacher, labels).backward()
    gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    return float(torch.stack(gradients).norm())
