"""Losses against independent NumPy formulas, frozen values, and what training relies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pywt
import torch

from figkd.errors import FigkdError
from figkd.loss import functional
from figkd.loss.build import build_loss
from figkd.loss.figkd_loss import FiGKDLoss
from figkd.loss.methods import BASELINES, METHODS, needs_teacher
from figkd.loss.order import random_order
from figkd.loss.parts import InParts, total

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

    return float(((details(s) - details(t)) ** 2).sum(1).mean())


def _np_z(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6)


def _np_dkd(
    s: np.ndarray, t: np.ndarray, y: np.ndarray, alpha: float, beta: float, temperature: float
) -> float:
    p, q = _softmax(t / temperature), _softmax(s / temperature)
    total = 0.0
    for row, label in enumerate(y):
        others = [c for c in range(p.shape[1]) if c != label]
        pt, qt = p[row, label], q[row, label]
        tckd = pt * np.log(pt / qt) + (1 - pt) * np.log((1 - pt) / (1 - qt))
        ph, qh = p[row, others] / p[row, others].sum(), q[row, others] / q[row, others].sum()
        total += alpha * tckd + beta * (ph * np.log(ph / qh)).sum()
    return float(total / len(y) * temperature**2)


def _np_dist(s: np.ndarray, t: np.ndarray, beta: float, gamma: float, temperature: float) -> float:
    p, q = _softmax(t / temperature), _softmax(s / temperature)
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return float(temperature**2 * (beta * (1 - rows) + gamma * (1 - columns)))


def test_against_numpy() -> None:
    """Protects every formula against an independent one."""
    student, teacher, labels = _logits()
    s, t, y = student.double().numpy(), teacher.double().numpy(), labels.numpy()
    ce = _np_ce(s, y)
    centred = (s - s.mean(1, keepdims=True)) - (t - t.mean(1, keepdims=True))
    order = random_order(CLASSES, 5)
    linear = {
        "distance": "squared",
        "temperature": 1.0,
        "band_decay": 1.0,
        "weight": 1.0,
        "batch_weight": 0.0,
    }
    expected: list[tuple[str, dict[str, Any], float]] = [
        ("ce", {}, ce),
        ("kd", {}, 0.1 * ce + 0.9 * _np_kd(s, t, 4.0)),
        ("kd", {"temperature": 2.0, "weight": 3.0, "ce_weight": 0.0}, 3 * _np_kd(s, t, 2.0)),
        ("kd_ls", {}, 0.1 * ce + 9 * _np_kd(_np_z(s), _np_z(t), 2.0)),
        ("dkd", {}, ce + _np_dkd(s, t, y, 1.0, 8.0, 4.0)),
        ("dkd", {"alpha": 0.5, "beta": 2.0, "weight": 3.0}, ce + 3 * _np_dkd(s, t, y, 0.5, 2.0, 4.0)),
        ("dkd_ls", {}, ce + 9 * _np_dkd(_np_z(s), _np_z(t), y, 1.0, 8.0, 2.0)),
        ("dist", {}, ce + _np_dist(s, t, 2.0, 2.0, 1.0)),
        ("dist", {"beta": 1.0, "gamma": 3.0, "temperature": 4.0}, ce + _np_dist(s, t, 1.0, 3.0, 4.0)),
        ("logit_mse", {}, ce + float(((s - t) ** 2).mean())),
        ("centred_logit_mse", {"weight": 2.0}, ce + 2 * float((centred**2).mean())),
        (
            "figkd",
            {
                **linear,
                "level": 1,
                "weight": 0.0,
                "batch_weight": 3.0,
                "batch_temperature": 1.0,
                "batch_growth": 0.0,
            },
            ce + _np_dist(s, t, 0.0, 3.0, 1.0),
        ),
        (
            "figkd",
            {**linear, "level": 2, "batch_weight": 3.0, "batch_temperature": 4.0, "batch_growth": 0.25},
            ce
            + _np_figkd(s, t, "haar", 2, "symmetric", order)
            + _np_dist(s, t, 0.0, 3.0 * (CLASSES / 128) ** 0.25, 4.0),
        ),
        (
            "figkd",
            {**linear, "level": 2, "weight": 0.5},
            ce + 0.5 * _np_figkd(s, t, "haar", 2, "symmetric", order),
        ),
        (
            "figkd",
            {**linear, "wavelet": "db2", "mode": "zero", "level": 1, "ce_weight": 0.2},
            0.2 * ce + _np_figkd(s, t, "db2", 1, "zero", order),
        ),
        (
            "figkd",
            {**linear, "level": 2, "temperature": 2.0, "domain": "log_probabilities"},
            ce + _np_figkd(np.log(_softmax(s / 2)), np.log(_softmax(t / 2)), "haar", 2, "symmetric", order),
        ),
    ]
    for method, options, value in expected:
        loss = build_loss(method, CLASSES, order=order, **options)
        assert float(loss(student, teacher, labels)) == pytest.approx(value, rel=3e-6), (method, options)


def test_frozen_values() -> None:
    """Protects the numbers themselves: 4 classes, values worked out by hand."""
    student = torch.tensor([[2.0, 0.0, 1.0, -1.0]])
    teacher = torch.tensor([[0.0, 1.0, 3.0, -1.0]])
    labels = torch.tensor([0])

    def linear(**options: Any) -> float:
        loss = FiGKDLoss(
            4, distance="squared", level=1, weight=1.0, batch_weight=0.0, ce_weight=0.0, **options
        )
        return float(loss(student, teacher, labels))

    # Haar pairs: (2-0)/r2 - (0-1)/r2 = 3/r2 and (1+1)/r2 - (3+1)/r2 = -2/r2, squares 4.5 and 2.
    assert linear(temperature=1.0) == pytest.approx(4.5 + 2.0)
    assert linear(temperature=2.0) == pytest.approx(6.5 / 4)
    assert float(functional.logit_mse(student, teacher)) == pytest.approx((4 + 1 + 4 + 0) / 4)
    # differences 2, -1, -2, 0 have mean -0.25
    assert float(functional.logit_mse(student, teacher, centred=True)) == pytest.approx(9 / 4 - 0.0625)
    # Probabilities 1/2, 1/2 against 3/4, 1/4: KL = ln 2 - (ln 3) / 2 = 0.1438410.
    even, skewed = torch.tensor([[0.0, 0.0]]), torch.tensor([[float(np.log(3)), 0.0]])
    assert float(functional.kd(skewed, even, temperature=1.0)) == pytest.approx(0.1438410, abs=1e-6)


def test_smooth_l1_and_cosine() -> None:
    """Protects the other distances against their definitions on the coefficients."""
    student, teacher, labels = _logits(8, classes=8)
    coefficients = [
        np.concatenate(pywt.wavedec(x.numpy(), "haar", level=2, axis=1)[1:], axis=1)
        for x in (student, teacher)
    ]
    gap = np.abs(coefficients[0] - coefficients[1])
    one, other = coefficients
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    expected = {
        "smooth_l1": np.where(gap < 1, gap**2 / 2, gap - 0.5).sum(1).mean(),
        "cosine": (1 - cosine).mean(),
    }
    for distance, value in expected.items():
        options: dict[str, Any] = {
            "level": 2,
            "temperature": 1.0,
            "band_decay": 1.0,
            "weight": 1.0,
            "batch_weight": 0.0,
            "ce_weight": 0.0,
        }
        loss = FiGKDLoss(8, distance=distance, **options)  # type: ignore[arg-type]
        assert float(loss(student, teacher, labels)) == pytest.approx(float(value), rel=1e-5), distance


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_correlation_over_the_batch_has_autograd_s_gradient(temperature: float) -> None:
    """Protects the closed form: DIST's term by autograd has the same value and gradient; small for constants."""
    student, teacher, _ = _logits(11, batch=16)
    for ours in (student, torch.zeros_like(student), student[:1]):
        points = [ours.clone().requires_grad_() for _ in range(2)]
        theirs = teacher[: len(ours)]
        values = (
            functional.batch_relation(points[0], theirs, temperature=temperature),
            functional.dist(points[1], theirs, beta=0.0, gamma=1.0, temperature=temperature),
        )
        assert values[0].item() == pytest.approx(values[1].item(), abs=1e-6 * temperature**2)
        for value in values:
            value.backward()
        if ours is student:
            torch.testing.assert_close(points[0].grad, points[1].grad)
        assert points[0].grad is not None and points[0].grad.abs().max() < temperature


@pytest.mark.parametrize("classes", [8, 24, 100, 240, 1000])
def test_the_correlation_keeps_its_share(classes: int) -> None:
    """Protects `batch_growth`: beside the cross entropy's, the gradient does not shrink with many classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (128,), generator=generator)
    right = functional.F.one_hot(labels, classes).float()
    student, teacher = torch.randn(2, 128, classes, generator=generator)
    student, teacher = (2 * student + 4 * right).requires_grad_(), 4 * teacher + 12 * right
    norms = []
    for options in ({}, {"batch_weight": 0.0}):
        parts = FiGKDLoss(classes, **options).parts(student, teacher, labels)
        value = parts.get("correlation", parts["task"])
        norms.append(torch.autograd.grad(value, student)[0].norm())
    assert 0.7 < norms[0] / norms[1] < 1.5


def test_kl_does_not_depend_on_the_class_count() -> None:
    """Protects against reduction="mean", which divides the KL divergence by the number of classes."""
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    padding = torch.full((1, 8), -1e4)
    small = functional.kd(student, teacher, temperature=1.0)
    large = functional.kd(torch.cat([student, padding], 1), torch.cat([teacher, padding], 1), temperature=1.0)
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


@pytest.mark.parametrize("distance", ["squared", "cosine"])
def test_figkd_ignores_what_the_transform_drops(distance: Any) -> None:
    """Protects the idea: the same value added to both classes of a Haar pair is invisible at level 1."""
    student, teacher, labels = _logits(2, classes=4)
    loss = FiGKDLoss(
        4, distance=distance, level=1, order=[2, 0, 3, 1], weight=1.0, batch_weight=0.0, ce_weight=0.0
    )
    same_pair = torch.tensor([5.0, 0.0, 5.0, 0.0])  # classes 0 and 2 are neighbours in this order
    other_pair = torch.tensor([5.0, 5.0, 0.0, 0.0])
    before = float(loss(student, teacher, labels))
    assert float(loss(student + same_pair, teacher, labels)) == pytest.approx(before, rel=1e-5)
    moved = other_pair * torch.tensor([1.0, -1.0, 1.0, 1.0])
    assert float(loss(student + moved, teacher, labels)) != pytest.approx(before, rel=1e-2)


def test_standardised_figkd_ignores_scale_and_shift() -> None:
    """Protects standardisation: logits may differ by a positive factor and a constant."""
    _, teacher, labels = _logits(3)
    loss = FiGKDLoss(CLASSES, distance="squared", domain="standardised", batch_weight=0.0, ce_weight=0.0)
    assert float(loss(teacher * 7 + 3, teacher, labels)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"domain": "standardised"},
        {"domain": "log_probabilities", "temperature": 2.0, "batch_weight": 1.0},
        {"distance": "smooth_l1"},
        {"distance": "cosine"},
        {"distance": "kl", "batch_weight": 2.0},
        {"distance": "kl", "mass_power": 0.0, "level": 2, "band_weights": {"a2": 0.5}},
    ],
)
def test_gradients_of_figkd(options: dict[str, Any]) -> None:
    """Protects the gradient of every form: gradcheck in double precision."""
    student, teacher, labels = _logits(4, classes=5, batch=3)
    loss = FiGKDLoss(5, order=[3, 1, 0, 2, 4], **options).double()
    point = student.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher.double(), labels), (point,))


@pytest.mark.parametrize("method", [name for name in METHODS if name != "figkd"])
def test_gradients(method: str) -> None:
    """Protects the gradient: gradcheck in double precision."""
    student, teacher, labels = _logits(4, classes=5, batch=3)
    loss = build_loss(method, 5).double()
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


@pytest.mark.parametrize("method", list(METHODS))
def test_compiles_without_graph_breaks(method: str) -> None:
    """Protects torch.compile(fullgraph=True) of every loss and its gradient; eager backend: no compiler needed."""
    student, teacher, labels = _logits(6)
    loss = build_loss(method, CLASSES, order=random_order(CLASSES, 0))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    points = [student.clone().requires_grad_() for _ in range(2)]
    values = [run(point, teacher, labels) for run, point in zip((loss, compiled), points, strict=True)]
    assert values[1].item() == pytest.approx(values[0].item(), rel=1e-6)
    for value in values:
        value.backward()
    first, second = (point.grad for point in points)
    assert first is not None and second is not None
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("method", list(METHODS))
def test_logits_that_are_not_finite_are_not_hidden(method: str) -> None:
    """Protects: NaN or infinite logits give a loss that is not finite, never a plausible number."""
    for bad in (torch.nan, torch.inf):
        student, teacher, labels = _logits(7)
        student[0, int(labels[0])] = bad
        assert not torch.isfinite(build_loss(method, CLASSES)(student, teacher, labels)), bad


@pytest.mark.parametrize("classes", [2, 3, 1025, 100_000])
@pytest.mark.parametrize("distance", ["kl", "squared", "smooth_l1"])
def test_any_number_of_classes(classes: int, distance: Any) -> None:
    """Protects the range 2 to 100,000 classes: finite loss and gradient, memory far from C x C."""
    student, teacher, labels = _logits(9, classes=classes, batch=2)
    student.requires_grad_()
    value = FiGKDLoss(classes, distance=distance)(student, teacher, labels)
    value.backward()
    assert torch.isfinite(value) and student.grad is not None and torch.isfinite(student.grad).all()


def test_random_order_each_step_is_a_new_one() -> None:
    """Protects the control: two calls differ, and it follows torch's generator."""
    student, teacher, labels = _logits(10)
    loss = build_loss("figkd", CLASSES, order="random")
    torch.manual_seed(3)
    values = [float(loss(student, teacher, labels)) for _ in range(2)]
    torch.manual_seed(3)
    assert float(loss(student, teacher, labels)) == values[0] != values[1]


@pytest.mark.parametrize("method", list(METHODS))
def test_declared_defaults_are_those_of_the_loss(method: str) -> None:
    """Protects one home for a method's options: each that is declared is read, and its default is what is taken."""
    student, teacher, labels = _logits(12)
    facts = METHODS[method]
    plain = build_loss(method, CLASSES)
    assert float(build_loss(method, CLASSES, **facts.defaults)(student, teacher, labels)) == float(
        plain(student, teacher, labels)
    )
    for name, default in facts.defaults.items():
        if not isinstance(default, float):
            continue
        # The one that only another distance has.
        form = {"distance": "kl"} if name == "mass_power" else {}
        losses = [build_loss(method, CLASSES, **{**form, name: v}) for v in (default, default / 2)]
        one, other = (float(loss(student, teacher, labels)) for loss in losses)
        assert one != other, f"{name} changes nothing"


def test_what_methods_need() -> None:
    """Protects what the pipeline plans by: only cross entropy does without a teacher, only FiGKD has an order."""
    assert [name for name in METHODS if not needs_teacher(name)] == ["ce"]
    assert [name for name, facts in METHODS.items() if facts.uses_order] == ["figkd"]
    assert set(METHODS) - set(BASELINES) == {"figkd"}


@pytest.mark.parametrize("method", list(METHODS))
def test_a_loss_is_the_sum_of_its_parts(method: str) -> None:
    """Protects the parts that training logs: in order, weights included, and together the loss to the last bit."""
    student, teacher, labels = _logits(13)
    loss = build_loss(method, CLASSES)
    assert isinstance(loss, InParts)
    parts = loss.parts(student, teacher, labels)
    names = {"ce": ["task"], "figkd": ["task", "detail", "correlation"]}
    assert list(parts) == names.get(method, ["task", "distillation"])
    assert sum(part.item() for part in parts.values()) == pytest.approx(float(loss(student, teacher, labels)))
    assert float(total(parts)) == float(loss(student, teacher, labels))


def test_parts_of_weight_0_are_left_out() -> None:
    """Protects: what is switched off costs nothing and is not shown; labels are checked all the same."""
    student, teacher, labels = _logits(14)
    loss = FiGKDLoss(CLASSES, batch_weight=0.0, ce_weight=0.0)
    assert list(loss.parts(student, teacher, labels)) == ["detail"]
    assert list(FiGKDLoss(CLASSES, weight=0.0).parts(student, teacher, labels)) == ["task", "correlation"]
    with pytest.raises(FigkdError, match="0 <= label < classes"):
        loss(student, teacher, labels + CLASSES)


RANGED = [
    (method, name)
    for method, facts in METHODS.items()
    for name, default in facts.defaults.items()
    if isinstance(default, float)
]


@pytest.mark.parametrize(("method", "name"), RANGED)
@pytest.mark.parametrize("value", [-1.0, float("nan"), 1e9])
def test_numbers_out_of_range_are_named(method: str, name: str, value: float) -> None:
    """Protects every number of every method: its declared range is checked where the loss is built."""
    with pytest.raises(FigkdError, match=f"{name} is"):
        build_loss(method, CLASSES, **{name: value})


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
        ({"distance": "kl", "wavelet": "db2"}, "'kl' is defined for 'haar'"),
        ({"distance": "kl", "mass_power": 1.5}, "mass_power"),
        ({"band_weights": {"d9": 1.0}}, "unknown wavelet band 'd9'"),
        ({"band_decay": -1.0}, "band_decay"),
        ({"distance": "nosuch"}, "unknown distance"),
        ({"domain": "nosuch"}, "unknown domain"),
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
    for wrong in (labels - CLASSES, labels + CLASSES):
        with pytest.raises(FigkdError, match="0 <= label < classes"):
            loss(student, teacher, wrong)
    with pytest.raises(FigkdError, match="labels int64"):
        loss(student, teacher, labels.float())
    with pytest.raises(FigkdError, match="unknown distillation method 'nosuch'"):
        build_loss("nosuch", CLASSES)
    with pytest.raises(FigkdError, match="1 classes"):
        build_loss("ce", 1)
