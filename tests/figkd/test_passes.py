"""Micro-batches side by side: what a training comes to does not depend on how many threads there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from figkd.distributed import ALONE
from figkd.errors import TrainingPaused
from figkd.feed import Batch, Slot
from figkd.loss.build import build_loss
from figkd.passes import make_passes
from tests.figkd.test_train import CLASSES, _model, _plain, _run, _same


@pytest.fixture(autouse=True)
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped, averaged, accumulated": {"grad_clip": 0.5, "ema_decay": 0.9, "accumulate": 2, "batch_size": 24},
    "mixed": {"mixup": 0.4, "cutmix": 1.0},
    "online teacher": {"teacher": True},
    "AdamW": {"optimizer": "adamw", "lr": 0.01},
    "Muon": {"optimizer": "muon", "lr": 0.02},
}


def _trained(dropout: float = 0.0, **changes: Any) -> tuple[nn.Module, list[dict[str, Any]]]:
    if changes.pop("teacher", False):
        changes |= {"teacher": _model(5, 0.0), "loss": build_loss("dist", CLASSES)}
    return _run(_model(0, dropout), **{"replicas": 3, "batch_size": 18, **changes})


@pytest.mark.parametrize("name", list(CASES))
def test_the_number_of_threads_changes_no_bits(name: str) -> None:
    """Protects: a training on one core, two and three ends with the same weights and the same record."""
    ends = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        ends.append(_trained(**CASES[name]))
        assert torch.get_num_threads() == threads
    (one, record), *others = ends
    for model, history in others:
        assert _same(one, model) and _plain(record) == _plain(history)
    assert record[-1]["loss"] < record[0]["loss"]


def test_statistics_are_the_same_however_often_they_are_averaged() -> None:
    """Protects evaluation: the mean over replicas after each step (for the average of weights) and after an epoch."""
    images = torch.randint(0, 256, (3, 12, 6, 6, 3), dtype=torch.uint8)
    batches = [
        Batch(part, torch.arange(12) % CLASSES, None, Slot(step, 0, 12, 12, 1.0, True))
        for step, part in enumerate(images)
    ]
    ends = []
    for averaged in (True, False):
        model = _model(0, 0.0)
        before = {name: tensor.clone() for name, tensor in model.named_buffers()}
        passes = make_passes(
            model, build_loss("ce", CLASSES), None, replicas=3, image_size=6, averaged=averaged, device="cpu",
            amp="none", mode="none", world=ALONE,
        )  # fmt: skip
        with passes.epoch() as (run, _):
            for batch in batches:
                run(batch)
        ends.append(dict(model.named_buffers()))
        changed = {name.split(".")[-1] for name in before if not torch.equal(before[name], ends[-1][name])}
        assert changed == {"running_mean", "running_var", "num_batches_tracked"}
    for name, tensor in ends[0].items():
        torch.testing.assert_close(tensor, ends[1][name])


def test_dropout_repeats_its_bits() -> None:
    """Protects: replicas that draw from one generator take turns, so that a training repeats itself."""
    torch.set_num_threads(2)
    (one, _), (two, _) = (_trained(dropout=0.3) for _ in range(2))
    assert _same(one, two)


@pytest.mark.parametrize("name", ["plain", "Muon"])
def test_a_paused_training_ends_with_the_same_bits(tmp_path: Path, name: str) -> None:
    """Protects resume: replicas start again from the statistics of the state, and shares of Muon from their moments."""
    whole, history = _trained(**CASES[name])
    torch.set_num_threads(2)
    with pytest.raises(TrainingPaused):
        _trained(state_path=tmp_path / "state", pause_after=2, **CASES[name])
    again, resumed = _trained(state_path=tmp_path / "state", **CASES[name])
    assert _same(whole, again) and _plain(resumed) == _plain(history)


def test_frozen_and_unused_parameters_have_no_gradient() -> None:
    """Protects transfer: what is not trained, or not used, stays as it is."""
    model = _model(0, 0.0)
    model.backbone[0].weight.requires_grad_(False)  # type: ignore[index,union-attr]
    model.unused = nn.Parameter(torch.ones(3))
    frozen = model.backbone[0].weight.clone()  # type: ignore[index,operator,union-attr]
    _run(model, replicas=2)
    assert torch.equal(frozen, model.backbone[0].weight)  # type: ignore[index,arg-type,union-attr]
    assert torch.equal(model.unused, torch.ones(3)) and model.unused.grad is None


def test_a_network_that_raises_says_so() -> None:
    """Protects the message of a user's own network: it arrives as it was raised."""

    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.shape[0] == 6 and images.float().mean() > 0:
                raise ValueError("no such branch")
            return images.float().mean((1, 2))[:, :1].expand(-1, CLASSES)

    torch.set_num_threads(2)
    broken = Broken()
    broken.weight = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="no such branch"):
        _run(broken, replicas=3, batch_size=18)
