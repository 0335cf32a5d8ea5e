"""The throughput meter."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from figkd.meter import Meter, peak_flops, training_flops
from figkd.models import ImageClassifier, build_model


def test_compilation_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the rate: seconds and images of compiling passes are left out, the wall clock is not."""
    now = [7.0]
    monkeypatch.setattr("figkd.meter.time", SimpleNamespace(perf_counter=lambda: now[0]))
    meter = Meter(flops_per_image=2e6, peak=1e9)
    meter.start(waited=1.0)
    now[0] += 0.06
    meter.count(100, skipped=0.06)
    now[0] += 0.05
    meter.count(50)
    timing = meter.stop(waited=1.01)
    assert timing["seconds"] == pytest.approx(0.11)
    assert timing["images_per_s"] == pytest.approx(50 / 0.05)
    assert timing["mfu"] == pytest.approx(timing["images_per_s"] * 2e6 / 1e9)
    assert timing["data_wait"] == pytest.approx(0.01 / 0.11)


def test_what_is_unknown_is_none() -> None:
    """Protects against an invented utilisation."""
    meter = Meter()
    meter.start(0.0)
    meter.count(1)
    assert meter.stop(0.0)["mfu"] is None


def test_flops_are_those_of_the_layers() -> None:
    """Protects the count: a linear layer by hand; backward is about twice forward; weights stay as they are."""
    model = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(8 * 8 * 3, 10)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert training_flops(model, 8, backward=False) == 2 * 192 * 10
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    net = build_model("figkd/resnet_tiny", 21, image_size=32)
    forward, both = training_flops(net, 32, backward=False), training_flops(net, 32)
    assert forward is not None and both is not None and 2.5 < both / forward < 3.1


@pytest.mark.parametrize(
    ("layer", "forward"),
    [
        (nn.Conv2d(3, 6, 3, padding=1), 2 * 64 * 6 * 3 * 9),
        (nn.Conv2d(3, 6, 3, padding=1, groups=3), 2 * 64 * 6 * 9),
        (nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3), 2 * 16 * 6 * 9),
        (nn.ConvTranspose2d(3, 6, 2, stride=2), 2 * 64 * 3 * 6 * 4),
    ],
)
def test_flops_of_grouped_convolutions(layer: nn.Module, forward: int) -> None:
    """Protects the utilisation of mobile networks: torch counts the groups of a backward pass as one.

    An image needs no gradient, so a single layer has the weight's alone; the second one behind it has both.
    """
    assert training_flops(ImageClassifier(layer), 8, backward=False) == forward
    assert training_flops(ImageClassifier(layer), 8) == 2 * forward
    behind = ImageClassifier(nn.Sequential(nn.Conv2d(3, 3, 1), layer))
    assert training_flops(behind, 8) == 2 * (2 * 64 * 9) + 3 * forward


def test_peak_of_this_cpu_is_positive() -> None:
    """Protects the measured peak."""
    peak = peak_flops("cpu", "none")
    assert peak is not None and peak > 1e8


def test_the_peak_of_a_slow_type_is_measured_with_small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the start of a training in bf16 on a CPU without it: larger products take seconds, and tell no more."""
    ticks = iter(range(1000))
    monkeypatch.setattr("figkd.meter.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    assert peak_flops.__wrapped__("cpu", "bf16") == 2 * 128**3
    assert next(ticks) == 10, "five products of the smallest"
