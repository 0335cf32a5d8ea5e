"""Protects training on a GPU where there is none: every operator of it sees tensors of one device and fitting dtypes.

The whole loop runs on tensors that have a device and no values: views, feed, networks, teacher, losses with their own
backward passes, mixing, average, optimizer, validation, and the cache of logits. A tensor left on the CPU, or one read
back within a step, fails here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from figkd.data.logits import cache_logits
from figkd.data.split import Split
from figkd.data.views import Views, make_views
from figkd.evaluate import predict
from figkd.loss.build import build_loss
from figkd.loss.methods import METHODS
from figkd.models import ImageClassifier, build_model, place
from figkd.networks import NETWORKS
from figkd.objective import autocast
from figkd.train import train
from tests.figkd.fake_gpu import fake_gpu

CLASSES, SIDE, STORED, COUNT, BATCH = 5, 16, 20, 8, 4

pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor"),
    pytest.mark.skipif(
        torch.cuda.is_available(), reason="there is a GPU: gpu_check runs the same with values"
    ),
]


def _split() -> Split:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, STORED, STORED, 3), dtype=np.uint8)
    return Split(images, rng.integers(0, CLASSES, COUNT), [str(number) for number in range(COUNT)])


def _views(kind: str) -> Views:
    return make_views(kind, image_size=SIDE, store_size=STORED, pad=2, count=2)  # type: ignore[arg-type]


def _network() -> ImageClassifier:
    return build_model("figkd/dsconv_nano", CLASSES, image_size=SIDE)


def _loss(method: str) -> Any:
    order = np.arange(CLASSES) if METHODS[method].uses_order else None
    return build_loss(method, CLASSES, order=order)


CASES: dict[str, dict[str, Any]] = {
    "teacher online, average, clipped": {"ema_decay": 0.9, "grad_clip": 1.0, "val": True, "teacher": True},
    "resized crops, AdamW, accumulated, fp32": {
        "kind": "random_resized_crop", "optimizer": "adamw", "accumulate": 2, "amp": "none", "teacher": True,
    },
    "mixed": {"method": "kd", "mixup": 0.2, "cutmix": 1.0, "teacher": True},
    "blended, Muon": {
        "method": "figkd", "mixup": 0.2, "teacher": True, "ema_decay": 0.9, "optimizer": "muon",
    },
    "cut, of resized crops": {"method": "ce", "cutmix": 1.0, "kind": "random_resized_crop"},
    "cached logits": {"teacher_logits": True},
    "read ahead": {"teacher_logits": True, "resident": 0, "ema_decay": 0.9},
    "mixed, read ahead": {"method": "dist", "mixup": 0.2, "cutmix": 1.0, "teacher": True, "resident": 0},
    "centre crops": {"method": "ce", "kind": "none", "val": True},
}  # fmt: skip
# FiGKD in every way that it is computed in, and the number of classes.
FIGKD: dict[str, tuple[int, dict[str, Any]]] = {
    "joint, one matrix": (CLASSES, {}),
    "joint, smoothed labels": (CLASSES, {"label_smoothing": 0.1}),
    "joint, blocks": (200, {}),
    "joint, blocks and a rest": (203, {}),
    "joint, as given": (200, {"order": None}),
    "joint, tree": (CLASSES, {"distance": "kl", "temperature": 2.0, "level": "full"}),
    "joint, tree of many": (
        203,
        {"distance": "kl", "temperature": 2.0, "level": "full", "label_smoothing": 0.1},
    ),
    "tree alone": (CLASSES, {"distance": "kl", "batch_weight": 0.0}),
    "matrix alone": (CLASSES, {"batch_weight": 0.0}),
    "correlation alone": (CLASSES, {"weight": 0.0}),
    "smooth": (CLASSES, {"distance": "smooth_l1", "wavelet": "db2", "mode": "periodization"}),
    "cosine": (CLASSES, {"distance": "cosine", "domain": "standardised"}),
    "log probabilities": (CLASSES, {"domain": "log_probabilities"}),
    "filters, too many for a matrix": (4100, {"wavelet": "sym4"}),
    "random order": (CLASSES, {"order": "random"}),
}
OTHERS = ("timm/convnext_atto", "timm/mobilenetv4_conv_small")


@pytest.mark.parametrize("case", CASES)
def test_a_training_keeps_to_its_device(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"method": "figkd", "kind": "shift_flip", "amp": "bf16", **CASES[case]}
    made: dict[str, Callable[[], Any]] = {
        "teacher": _network,
        "teacher_logits": lambda: np.zeros((COUNT, 2, CLASSES), np.float16),
        "val": _split,
    }
    options |= {name: made[name]() for name in options.keys() & made.keys()}
    monkeypatch.setattr("figkd.feed.RESIDENT_BYTES", options.pop("resident", 2**30))
    monkeypatch.setattr("figkd.feed._ahead", map)  # tensors without values are not for two threads
    student, loss, views = _network(), _loss(options.pop("method")), _views(options.pop("kind"))
    with fake_gpu(monkeypatch):
        history = train(
            student,
            _split(),
            loss=loss,
            views=views,
            epochs=2,
            batch_size=BATCH,
            lr=0.1,
            device="cuda",
            **options,
        )
    assert [record["epoch"] for record in history] == [1, 2]


def _check_loss(loss: Any, classes: int) -> None:
    """Value and backward pass of a loss, of logits in fp32 and in what autocast gives."""
    for kind in (torch.float32, torch.bfloat16):
        student = torch.empty(BATCH, classes, device="cuda", dtype=kind, requires_grad=True)
        teacher = torch.empty(BATCH, classes, device="cuda", dtype=kind)
        labels = torch.zeros(BATCH, dtype=torch.int64, device="cuda")
        value = loss.to("cuda")(student, teacher, labels)
        assert (value.device.type, value.dtype, value.shape) == ("cuda", torch.float32, ())
        value.backward()
        assert student.grad is not None


@pytest.mark.parametrize("method", METHODS)
def test_every_loss_keeps_to_its_device(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = _loss(method)
    with fake_gpu(monkeypatch):
        _check_loss(loss, CLASSES)


@pytest.mark.parametrize("way", FIGKD)
def test_every_form_of_figkd_keeps_to_its_device(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The joint forms among them, whose gradients are written by hand."""
    classes, options = FIGKD[way]
    order = np.random.default_rng(0).permutation(classes)
    loss = build_loss("figkd", classes, **{"order": order, **options})
    assert ("joint" in way) == (loss.joint is not None)  # type: ignore[attr-defined]
    with fake_gpu(monkeypatch):
        _check_loss(loss, classes)


@pytest.mark.parametrize("name", [*NETWORKS, *OTHERS])
def test_every_network_keeps_to_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training under autocast, and in evaluation as `predict` runs it."""
    side = 32
    network = build_model(name, CLASSES, image_size=side)
    images = np.zeros((BATCH, side, side, 3), np.uint8)
    with fake_gpu(monkeypatch):
        place(network, "cuda").train()
        with autocast("cuda", "bf16"):
            logits = network(torch.empty(BATCH, side, side, 3, dtype=torch.uint8, device="cuda"))
        assert (logits.device.type, logits.dtype, logits.shape) == ("cuda", torch.float32, (BATCH, CLASSES))
        assert predict(network, images, image_size=side, device="cuda").shape == (BATCH, CLASSES)


def test_logits_are_cached_and_predicted_on_the_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    split, teacher, views = _split(), _network(), _views("shift_flip")
    with fake_gpu(monkeypatch):
        path = cache_logits(teacher, split.images, views, tmp_path / "logits.npy", device="cuda")
        answers = predict(teacher, split.images, image_size=SIDE, device="cuda")
    assert np.load(path).shape == (2, COUNT, CLASSES)
    assert answers.shape == (COUNT, CLASSES)


def test_a_tensor_on_the_wrong_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the test itself: it fails where a GPU would."""
    net, apart = _network(), torch.ones(CLASSES)
    net.backbone.register_forward_hook(lambda module, given, logits: logits + apart)
    with fake_gpu(monkeypatch), pytest.raises(RuntimeError, match=r"same device|different devices"):
        net.to("cuda")(torch.empty(BATCH, SIDE, SIDE, 3, dtype=torch.uint8, device="cuda"))
