"""Losses against independent NumPy formulas, frozen values, and what training relies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pywt
import torch

from figkd import losses, methods
from figkd.errors import FigkdError
from figkd.losses import METHODS, FiGKDLoss, build_loss, needs_teacher
from figkd.order import random_order

CLASSES = 21


def _logits(seed: int = 0, classes: int = CLASSES, batch: int = 6) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(batch, classes, generator=generator) * 3
    teacher = torch.randn(batch, classes, generator=generator) * 3
    return student, teacher, torch.randint(0, classes, (batch,), generator=generator)


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _np_ce(s: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(_softmax(s)[np.arange(len(y)), y]).mean())


def _np_kd(s: np.ndarray, t: np.ndarray, temperature: float) -> float:
    p, q = _softmax(t / temperature), _softmax(s / temperature)
    return float((p * (np.log(p) - np.log(q))).sum(1).mean() * temperature**2)


def _np_figkd(s: np.ndarray, t: np.ndarray, wavelet: str, level: int, mode: str, order: np.ndarray) -> float:
    def details(x: np.ndarray) -> np.ndarray:
        return np.concatenate(pywt.wavedec(x[:, order], wavelet, mode=mode, level=level, axis=1)[1:], axis=1)

    return float(((details(s) - details(t)) ** 2).mean())


def test_against_numpy() -> None:
    """Protects every formula against an independent one."""
    student, teacher, labels = _logits()
    s, t, y = student.double().numpy(), teacher.double().numpy(), labels.numpy()
    ce = _np_ce(s, y)
    centred = (s - s.mean(1, keepdims=True)) - (t - t.mean(1, keepdims=True))
    order = random_order(CLASSES, 5)
    expected = {
        ("ce", ()): ce,
        ("kd", ()): 0.1 * ce + 0.9 * _np_kd(s, t, 4.0),
        ("kd", (("temperature", 2.0), ("weight", 3.0), ("ce_weight", 0.0))): 3 * _np_kd(s, t, 2.0),
        ("logit_mse", (("weight", 1.0), ("ce_weight", 1.0))): ce + float(((s - t) ** 2).mean()),
        ("centred_logit_mse", (("weight", 2.0), ("ce_weight", 1.0))): ce + 2 * float((centred**2).mean()),
        ("figkd", (("level", 2), ("weight", 0.5), ("ce_weight", 1.0))): ce
        + 0.5 * _np_figkd(s, t, "haar", 2, "symmetric", order),
        (
            "figkd",
            (("wavelet", "db2"), ("mode", "zero"), ("level", 1), ("weight", 1.0), ("ce_weight", 0.2)),
        ): 0.2 * ce + _np_figkd(s, t, "db2", 1, "zero", order),
    }
    for (method, options), value in expected.items():
        loss = build_loss(method, CLASSES, order=order, **dict(options))
        assert float(loss(student, teacher, labels)) == pytest.approx(value, rel=2e-6), (method, options)


def test_frozen_values() -> None:
    """Protects the numbers themselves: 4 classes, values worked out by hand."""
    student = torch.tensor([[2.0, 0.0, 1.0, -1.0]])
    teacher = torch.tensor([[0.0, 1.0, 3.0, -1.0]])
    # Haar pairs: (2-0)/r2 - (0-1)/r2 = 3/r2 and (1+1)/r2 - (3+1)/r2 = -2/r2, squares 4.5 and 2.
    matrix = torch.tensor(np.array(FiGKDLoss(4, level=1).matrix))
    assert float(losses.figkd(student, teacher, matrix)) == pytest.approx((4.5 + 2.0) / 2)
    assert float(losses.figkd(student, teacher, matrix, temperature=2.0)) == pytest.approx(3.25 / 4)
    assert float(losses.logit_mse(student, teacher)) == pytest.approx((4 + 1 + 4 + 0) / 4)
    # differences 2, -1, -2, 0 have mean -0.25
    assert float(losses.logit_mse(student, teacher, centred=True)) == pytest.approx(9 / 4 - 0.0625)


def test_kl_does_not_depend_on_the_class_count() -> None:
    """Protects against reduction="mean", which divides the KL divergence by the number of classes."""
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    padding = torch.full((1, 8), -1e4)
    small = losses.kd(student, teacher, temperature=1.0)
    large = losses.kd(torch.cat([student, padding], 1), torch.cat([teacher, padding], 1), temperature=1.0)
    assert float(large) == pytest.approx(float(small))


@pytest.mark.parametrize("method", [name for name in METHODS if name != "ce"])
def test_a_perfect_student_has_no_distillation_loss(method: str) -> None:
    """Protects: equal logits give 0, and the teacher gets no gradient."""
    _, teacher, labels = _logits(1)
    loss = build_loss(method, CLASSES, weight=1.0, ce_weight=0.0)
    student = teacher.clone().requires_grad_()
    teacher.requires_grad_()
    value = loss(student, teacher, labels)
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    value.backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_figkd_ignores_what_the_transform_drops() -> None:
    """Protects the idea: the same value added to both classes of a Haar pair is invisible at level 1."""
    student, teacher, labels = _logits(2, classes=4)
    loss = FiGKDLoss(4, level=1, order=[2, 0, 3, 1], weight=1.0, ce_weight=0.0)
    same_pair = torch.tensor([5.0, 0.0, 5.0, 0.0])  # classes 0 and 2 are neighbours in this order
    other_pair = torch.tensor([5.0, 5.0, 0.0, 0.0])
    before = float(loss(student, teacher, labels))
    assert float(loss(student + same_pair, teacher, labels)) == pytest.approx(before, rel=1e-5)
    assert float(loss(student + other_pair, teacher, labels)) != pytest.approx(before, rel=1e-2)


def test_standardised_figkd_ignores_scale_and_shift() -> None:
    """Protects standardisation: logits may differ by a positive factor and a constant."""
    _, teacher, labels = _logits(3)
    loss = FiGKDLoss(CLASSES, standardise=True, weight=1.0, ce_weight=0.0)
    assert float(loss(teacher * 7 + 3, teacher, labels)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("method", list(METHODS))
def test_gradients(method: str) -> None:
    """Protects the gradient: gradcheck in double precision."""
    student, teacher, labels = _logits(4, classes=5, batch=3)
    options: dict[str, Any] = {"standardise": True} if method == "figkd" else {}
    loss = build_loss(method, 5, **options).double()
    point = student.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher.double(), labels), (point,))


@pytest.mark.parametrize("method", list(METHODS))
def test_half_precision_logits_are_computed_in_float32(method: str) -> None:
    """Protects AMP: bf16 logits under autocast give what their float32 copies give."""
    student, teacher, labels = _logits(5)
    student, teacher = student.bfloat16(), teacher.bfloat16()
    loss = build_loss(method, CLASSES)
    expected = loss(student.float(), teacher.float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(student, teacher, labels)
    assert found.dtype == torch.float32
    assert float(found) == float(expected)


def test_compiles_without_graph_breaks() -> None:
    """Protects torch.compile(fullgraph=True) of the loss; eager backend, so that no compiler is needed."""
    student, teacher, labels = _logits(6)
    loss = FiGKDLoss(CLASSES, order=random_order(CLASSES, 0))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert float(compiled(student, teacher, labels)) == pytest.approx(float(loss(student, teacher, labels)))


def test_methods_agree_with_their_builders() -> None:
    """Protects the torch-free facts: same names, options and defaults as the builders' signatures."""
    assert list(METHODS) == list(methods.METHODS)
    for name, facts in methods.METHODS.items():
        assert losses.default_options(name) == dict(facts.options), name
        build_loss(name, 7, **facts.options)
    assert [name for name in METHODS if not needs_teacher(name)] == ["ce"]


def test_the_matrix_is_not_part_of_a_checkpoint() -> None:
    """Protects checkpoints: the loss has no state to save."""
    assert not FiGKDLoss(CLASSES).state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": [0, 1, 2]}, "class order"),
        ({"weight": -1.0}, "weight"),
        ({"weight": 0.0, "ce_weight": 0.0}, "not both 0"),
        ({"temperature": 0.0}, "temperature"),
        ({"level": 9}, "wavelet level 9"),
        ({"nosuch": 1}, "no option 'nosuch'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    """Protects: wrong options raise when the loss is built, not during training."""
    with pytest.raises(FigkdError, match=message):
        build_loss("figkd", CLASSES, **options)


def test_wrong_calls_are_named() -> None:
    """Protects: wrong shapes and a missing teacher raise with the shapes in the message."""
    student, teacher, labels = _logits()
    loss = FiGKDLoss(CLASSES)
    with pytest.raises(FigkdError, match="needs the teacher's logits"):
        loss(student, None, labels)
    with pytest.raises(FigkdError, match="the loss has 21 classes"):
        loss(student[:, :20], teacher[:, :20], labels)
    with pytest.raises(FigkdError, match="do not match"):
        loss(student, teacher[:3], labels)
    with pytest.raises(FigkdError, match="do not match"):
        loss(student, teacher, labels[:3])
    with pytest.raises(FigkdError, match="unknown distillation method 'nosuch'"):
        build_loss("nosuch", CLASSES)
    with pytest.raises(FigkdError, match="1 classes"):
        build_loss("ce", 1)
