"""Degenerate student logits: value and gradient of every loss stay finite and bounded, and rounding decides nothing."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from figkd.loss import functional
from figkd.loss.build import build_loss
from figkd.loss.figkd_options import GROWTH_FROM, FiGKD
from figkd.loss.methods import METHODS

Options = dict[str, Any]

_FIGKD: list[Options] = [
    {"distance": distance, "domain": domain, "batch_weight": batch_weight}
    for distance, domain, batch_weight in itertools.product(
        ("squared", "smooth_l1", "cosine"), ("logits", "standardised", "log_probabilities"), (0.0, 1.0)
    )
] + [
    {"distance": "kl"},
    {"distance": "kl", "batch_weight": 0.0, "temperature": 2.0, "level": "full"},
    {"distance": "kl", "mass_power": 0.0},
    {"wavelet": "db2", "level": 1},
    {"wavelet": "sym4", "level": 1, "distance": "cosine", "mode": "periodization"},
    {"level": "full", "band_decay": 1.0, "temperature": 4.0},
    {"order": "random"},
]
FORMS: list[tuple[str, Options]] = [
    *((method, {}) for method in METHODS),
    *(("figkd", options) for options in _FIGKD),
    ("kd", {"temperature": 1.0, "label_smoothing": 0.1}),
    ("dist", {"temperature": 4.0}),
]
"""Every method with its defaults, and FiGKD in every distance and domain, with and without the correlation."""

# Student logits [B, C] by name. All are values that a network can give, most of them what zeros in its head give.
STUDENTS: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "zero": lambda b, c, g: torch.zeros(b, c),
    "equal": lambda b, c, g: torch.full((b, c), 0.3),
    "equal, large": lambda b, c, g: torch.full((b, c), -1e4),
    "the same in every image": lambda b, c, g: torch.randn(1, c, generator=g).expand(b, c).contiguous(),
    "the same in every image, peaked": lambda b, c, g: 300.0 * torch.eye(c)[:1].expand(b, c).contiguous(),
    "the same in every class": lambda b, c, g: 3 * torch.randn(b, 1, generator=g).expand(b, c).contiguous(),
    "spread 1e-6": lambda b, c, g: 1e-6 * torch.randn(b, c, generator=g),
    "spread 1e-6 around 1": lambda b, c, g: 1 + 1e-6 * torch.randn(b, c, generator=g),
    "spread 1e-3": lambda b, c, g: 1e-3 * torch.randn(b, c, generator=g),
    "spread 1e-6 over the batch": lambda b, c, g: (
        torch.randn(1, c, generator=g) + 1e-6 * torch.randn(b, c, generator=g)
    ),
    "spread 1e-6 over the classes": lambda b, c, g: (
        torch.randn(b, 1, generator=g) + 1e-6 * torch.randn(b, c, generator=g)
    ),
    "one image differs": lambda b, c, g: torch.eye(b, c)[:, :1].expand(b, c) * torch.eye(c)[:1],
    "plus or minus 1e4": lambda b, c, g: 1e4 * torch.randn(b, c, generator=g).sign(),
    "up to 1e4": lambda b, c, g: 2e4 * torch.rand(b, c, generator=g) - 1e4,
}
TEACHERS: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "usual": lambda b, c, g: 3 * torch.randn(b, c, generator=g),
    "sharp": lambda b, c, g: 30 * torch.randn(b, c, generator=g),
    "zero": lambda b, c, g: torch.zeros(b, c),
    "the same in every image": lambda b, c, g: torch.randn(1, c, generator=g).expand(b, c).contiguous(),
    "plus or minus 1e4": lambda b, c, g: 1e4 * torch.randn(b, c, generator=g).sign(),
}
# Spread of logits below which a loss may no longer divide by it, in units of the softmax.
FLAT = 0.02


def _bound(method: str, options: Options, student: Tensor, teacher: Tensor) -> float:
    """An upper bound of the gradient's largest entry, from the loss's definition.

    Differences of probabilities are at most 1 and a division by a spread multiplies by 1 / FLAT at most, so that
    neither the student's scale nor rounding stands in it; but the squared distances' gradient is the difference itself.
    """
    batch, classes = student.shape
    gap = float((student - teacher).abs().max())
    correlation = 2 * (1 + 1 / FLAT)
    if method in ("logit_mse", "centred_logit_mse"):
        return 1 / batch + 4 * gap / (batch * classes)
    if method == "dist":
        temperature = options.get("temperature", 1.0)
        return 1 / batch + 4 * correlation * temperature
    if method != "figkd":
        # weight times temperature (times alpha + beta), and what standardising multiplies it by.
        known = {"ce": 0.0, "kd": 3.6, "kd_ls": 18 / FLAT, "dkd": 36.0, "dkd_ls": 162 / FLAT}
        strength = known.get(method, math.inf)  # a new method's gradient is at least finite
        return (2 + 2 * strength) / batch
    domain, distance = options.get("domain", "logits"), options.get("distance", "squared")
    slope = 2 / FLAT if domain == "standardised" else 2.0
    if distance == "kl":
        detail = 4.0 * classes
    elif distance == "cosine":
        detail = 2 * slope / FLAT
    elif distance == "smooth_l1":
        detail = slope * 8
    else:
        scale = gap if domain != "standardised" else 2 * classes**0.5
        detail = slope * scale * 8
    growth = FiGKD.batch_temperature * (classes / GROWTH_FROM) ** FiGKD.batch_growth
    return (1 + 0.02 * detail) / batch + correlation * options.get("batch_weight", 1.0) * growth


@functools.lru_cache(maxsize=256)
def _loss(place: int, classes: int) -> nn.Module:
    method, options = FORMS[place]
    return build_loss(method, classes, **options)


def _value_and_gradient(
    form: tuple[str, Options], student: Tensor, teacher: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)  # for the random order
    point = student.clone().requires_grad_()
    value = _loss(FORMS.index(form), student.shape[1])(point, teacher, labels)
    value.backward()
    assert point.grad is not None
    return value.detach(), point.grad


def _check(
    form: tuple[str, Options],
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Finite and below the bound, in float32 or in half precision under autocast."""
    method, options = form
    student, teacher = student.to(dtype), teacher.to(dtype)
    half = dtype != torch.float32
    with torch.autocast("cpu", dtype if half else torch.bfloat16, enabled=half):
        value, gradient = _value_and_gradient(form, student, teacher, labels)
    assert torch.isfinite(value), value
    assert torch.isfinite(gradient).all()
    bound = _bound(method, options, student.float(), teacher.float()) * 1.01
    assert float(gradient.abs().max()) <= bound, (float(gradient.abs().max()), bound)


def _labels(batch: int, classes: int, generator: torch.Generator) -> Tensor:
    return torch.randint(classes, (batch,), generator=generator)


def _name(form: object) -> str:
    if not isinstance(form, tuple):
        return str(form)
    method, options = form
    return "-".join([method, *(f"{key}={value}" for key, value in options.items())])


_SHAPES = [(2, 2), (64, 10), (8, 100)]
_MORE_SHAPES = [(2, 1000), (2, 3), (64, 5), (64, 18), (512, 3), (512, 40), (64, 1000)]


@pytest.mark.parametrize(
    ("shapes", "teachers"),
    [
        (_SHAPES, ["usual", "zero"]),
        pytest.param(_SHAPES + _MORE_SHAPES, list(TEACHERS), marks=pytest.mark.slow),
    ],
    ids=["few", "all"],
)
@pytest.mark.parametrize("form", FORMS, ids=_name)
def test_the_gradient_is_bounded_on_a_grid(
    form: tuple[str, Options], shapes: list[tuple[int, int]], teachers: list[str]
) -> None:
    """Protects training from a zero head on: every form of every loss, every degenerate student."""
    for (batch, classes), student, teacher in itertools.product(shapes, STUDENTS, teachers):
        generator = torch.Generator().manual_seed(batch * classes)
        s, t = (make(batch, classes, generator) for make in (STUDENTS[student], TEACHERS[teacher]))
        try:
            _check(form, s, t, _labels(batch, classes, generator))
        except AssertionError as error:
            raise AssertionError(f"{batch} x {classes}, student {student}, teacher {teacher}") from error


@pytest.mark.slow
@pytest.mark.parametrize("method", list(METHODS))
def test_the_gradient_is_bounded_for_every_class_count_and_batch(method: str) -> None:
    """Protects against a guard that rounding passes at some sizes only: all of 2 to 1,000 classes, 2 to 512 images."""
    for batch, classes in [*((64, c) for c in range(2, 1001)), *((b, 10) for b in range(2, 513))]:
        generator = torch.Generator().manual_seed(classes)
        teacher, labels = TEACHERS["usual"](batch, classes, generator), _labels(batch, classes, generator)
        for student in ("zero", "the same in every image"):
            _check((method, {}), STUDENTS[student](batch, classes, generator), teacher, labels)


@settings(max_examples=200, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    batch=st.integers(2, 512),
    classes=st.one_of(st.integers(2, 40), st.integers(2, 1000)),
    student=st.sampled_from(list(STUDENTS)),
    teacher=st.sampled_from(list(TEACHERS)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    offset=st.sampled_from([0.0, 0.0, 1.0, -100.0]),
    seed=st.integers(0, 1000),
)
def test_the_gradient_is_bounded_for_any_shape_and_type(
    form: tuple[str, Options],
    batch: int,
    classes: int,
    student: str,
    teacher: str,
    dtype: torch.dtype,
    offset: float,
    seed: int,
) -> None:
    """Protects the same under autocast, for every class count and batch, with an offset common to all logits."""
    generator = torch.Generator().manual_seed(seed)
    s = STUDENTS[student](batch, classes, generator) + offset
    _check(form, s, TEACHERS[teacher](batch, classes, generator), _labels(batch, classes, generator), dtype)


@settings(max_examples=200, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    batch=st.integers(2, 16),
    classes=st.integers(2, 33),
    centre=st.sampled_from([0.0, 1.0, -50.0, 1e4]),
    across_batch=st.sampled_from([0.0, 1e-6, 1e-4, 1e-2, 1.0, 100.0]),
    across_classes=st.sampled_from([0.0, 1e-6, 1e-4, 1e-2, 1.0, 100.0]),
    noise=st.sampled_from([0.0, 1e-6, 1e-3, 1.0]),
    seed=st.integers(0, 1000),
)
def test_the_gradient_is_bounded_for_composed_logits(
    form: tuple[str, Options],
    batch: int,
    classes: int,
    centre: float,
    across_batch: float,
    across_classes: float,
    noise: float,
    seed: int,
) -> None:
    """Protects what no list of cases names: an offset, a part for each image, one for each class, and the rest."""
    generator = torch.Generator().manual_seed(seed)
    student = (
        centre
        + across_batch * torch.randn(batch, 1, generator=generator)
        + across_classes * torch.randn(1, classes, generator=generator)
        + noise * torch.randn(batch, classes, generator=generator)
    )
    teacher = TEACHERS["usual"](batch, classes, generator)
    _check(form, student, teacher, _labels(batch, classes, generator))


# Not those at 1e4, where float32 itself holds three decimals, nor those whose probabilities underflow.
_EXACT = [name for name in STUDENTS if not any(word in name for word in ("1e4", "large", "peaked"))]


@pytest.mark.parametrize("student", _EXACT)
@pytest.mark.parametrize("form", FORMS, ids=_name)
def test_rounding_does_not_decide(form: tuple[str, Options], student: str) -> None:
    """Protects against a guard below rounding: float32 gives what float64 gives of the same logits."""
    for batch, classes in [(64, 10), (16, 101)]:
        generator = torch.Generator().manual_seed(classes)
        arguments = STUDENTS[student](batch, classes, generator), TEACHERS["usual"](batch, classes, generator)
        labels = _labels(batch, classes, generator)
        narrow = _value_and_gradient(form, *arguments, labels)
        exact = _value_and_gradient(form, *(x.double() for x in arguments), labels)
        torch.testing.assert_close(narrow[0].double(), exact[0], rtol=1e-4, atol=1e-5)
        scale = float(exact[1].abs().max())
        torch.testing.assert_close(narrow[1].double(), exact[1], rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize("classes", [5, 9, 10, 11, 18, 100])
def test_the_first_gradient_of_a_zero_head_is_comparable_with_the_cross_entropy_s(classes: int) -> None:
    """Protects the default recipe of students that start at zero: an entry of the gradient was up to 250,000."""
    generator = torch.Generator().manual_seed(classes)
    teacher, labels = TEACHERS["usual"](64, classes, generator), _labels(64, classes, generator)
    for student in ("zero", "equal", "the same in every image"):
        logits = STUDENTS[student](64, classes, generator)
        norms = [_value_and_gradient((m, {}), logits, teacher, labels)[1].norm() for m in ("figkd", "ce")]
        assert float(norms[0]) < 1 / FLAT * float(norms[1]), (student, norms)


def test_two_forms_of_the_correlation_agree_below_the_guard() -> None:
    """Protects one guard in two places: DIST's term by autograd has the closed form's value and gradient."""
    for name, (batch, classes) in itertools.product(_EXACT, [(64, 10), (8, 100), (2, 2)]):
        generator = torch.Generator().manual_seed(3)
        student = STUDENTS[name](batch, classes, generator)
        teacher = TEACHERS["usual"](batch, classes, generator)
        points = [student.clone().requires_grad_() for _ in range(2)]
        values = (
            functional.batch_relation(points[0], teacher),
            functional.dist(points[1], teacher, beta=0.0, gamma=1.0),
        )
        for value in values:
            value.backward()
        torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-6, msg=name)
        assert points[0].grad is not None and points[1].grad is not None
        torch.testing.assert_close(points[0].grad, points[1].grad, rtol=1e-3, atol=1e-6, msg=name)


def test_what_is_flat_is_divided_by_the_guard() -> None:
    """Protects the numbers: from a spread of 0.02 on the formulas hold as they are; below it everything is linear."""
    rows = torch.tensor([[0.03, -0.03], [0.002, -0.002], [0.0, 0.0], [1e4, 1e4]])
    expected = torch.tensor([[1.0, -1.0], [0.1, -0.1], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(functional.standardise(rows), expected, rtol=1e-4, atol=0)
    other = torch.tensor([[1.0, -1.0]])
    # At logits of +- x, the probabilities of two classes are (1 +- x) / 2, up to the third power of x.
    teacher = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    for spread, correlation in [(1.0, 1.0), (0.03, 1.0), (0.002, 0.1), (0.0, 0.0)]:
        cosine = functional.distance(other * spread, other, "cosine")
        assert float(cosine) == pytest.approx(1 - correlation, abs=1e-5), spread
        relation = functional.batch_relation(teacher * spread, teacher)
        assert float(relation) == pytest.approx(1 - correlation, abs=1e-5), spread


@pytest.mark.slow
def test_the_guard_compiles_for_changing_batches() -> None:
    """Protects torch.compile of an epoch whose last batch is smaller: the guard depends on the batch's size."""
    torch._dynamo.reset()
    compiled = torch.compile(functional.batch_relation, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (64, 7):
        generator = torch.Generator().manual_seed(batch)
        teacher = TEACHERS["usual"](batch, 10, generator)
        points = [torch.zeros(batch, 10).requires_grad_() for _ in range(2)]
        for run, point in zip((functional.batch_relation, compiled), points, strict=True):
            run(point, teacher).backward()
        assert points[0].grad is not None and points[1].grad is not None
        torch.testing.assert_close(points[0].grad, points[1].grad)
