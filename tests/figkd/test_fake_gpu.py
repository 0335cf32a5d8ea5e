"""Protects training on a GPU where there is none: every operator of it sees tensors of one device and fitting dtypes.

The whole loop runs on tensors that have a device and no values: views, feed, network, teacher, losses, mixing, average,
optimizer, validation, and the cache of logits. A tensor left on the CPU, or one read back within a step, fails here.
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
from figkd.models import ImageClassifier, build_model
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
    "cached logits": {"teacher_logits": True},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_training_keeps_to_its_device(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"method": "figkd", "kind": "shift_flip", "amp": "bf16", **CASES[case]}
    made: dict[str, Callable[[], Any]] = {
        "teacher": _network,
        "teacher_logits": lambda: np.zeros((COUNT, 2, CLASSES), np.float16),
        "val": _split,
    }
    options |= {name: made[name]() for name in options.keys() & made.keys()}
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


@pytest.mark.parametrize("method", METHODS)
def test_every_loss_keeps_to_its_device(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = _loss(method)
    with fake_gpu(monkeypatch):
        student = torch.empty(BATCH, CLASSES, device="cuda", requires_grad=True)
        teacher = torch.empty(BATCH, CLASSES, device="cuda")
        labels = torch.zeros(BATCH, dtype=torch.int64, device="cuda")
        value = loss.to("cuda")(student, teacher, labels)
        assert (value.device.type, value.dtype, value.shape) == ("cuda", torch.float32, ())


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
    with fake_gpu(monkeypatch), pytest.raises(RuntimeError, match="same device"):
        net.to("cuda")(torch.empty(BATCH, SIDE, SIDE, 3, dtype=torch.uint8, device="cuda"))
