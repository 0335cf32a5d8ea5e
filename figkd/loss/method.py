"""What a distillation method declares: its options with default, range and meaning, what it needs, how it is built.

Readable without torch: the config's sections, the docs and the messages are derived from it.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from figkd.errors import FigkdError

if TYPE_CHECKING:
    from torch import nn

    from figkd.loss.parts import Term

T = TypeVar("T")
ClassOrder = npt.ArrayLike | Literal["random"] | None
"""Class order [C] (see `figkd.loss.order`); "random" is another one at every call, None the classes as given."""

Weight = Annotated[float, Ge(0), Le(1_000_000)]
Temperature = Annotated[float, Gt(0), Le(1_000)]

_SIDES = (("ge", ">=", operator.ge), ("gt", ">", operator.gt), ("le", "<=", operator.le))


@runtime_checkable
class Weighted(Protocol):
    """Options of a method that adds one term to the cross entropy."""

    @property
    def weight(self) -> float:
        """Weight of the term."""
        ...

    @property
    def ce_weight(self) -> float:
        """Weight of the labels' cross entropy."""
        ...


class Build(Protocol):
    """Makes the loss of a method."""

    def __call__(
        self, num_classes: int, options: Any, *, label_smoothing: float, order: ClassOrder
    ) -> nn.Module:
        """A module called as loss(student_logits, teacher_logits or None, labels), see `figkd.loss.parts`."""
        ...


@dataclass(frozen=True)
class Method:
    """Facts about a method.

    Attributes:
        name: what `distill.method` says.
        summary: one line.
        paper: who published it; empty if nobody in particular.
        options: a dataclass whose fields are made by `option`; its docstring heads the config's section.
        build: makes the loss; may import torch, which this module and the method's may not.
        section: the config's section of the options, `name` by default; several methods may share one.
        needs_teacher: whether the loss uses the teacher's logits.
        uses_order: whether the class order changes the loss.
    """

    name: str
    summary: str
    paper: str
    options: type[Any]
    build: Build
    section: str = ""
    needs_teacher: bool = True
    uses_order: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "section", self.section or self.name)

    @property
    def defaults(self) -> dict[str, Any]:
        """The loss's options by name, with their defaults."""
        return defaults_of(self.options)

    def choose(self, given: Mapping[str, Any]) -> Any:
        """The options with some of them given.

        Raises:
            FigkdError: unknown option, or a value out of range.
        """
        return choose(self.options, given, f"method {self.name!r}")


def option(default: T, meaning: str, *, of_loss: bool = True) -> T:
    """A field of a method's options; the annotation has its type and range.

    Args:
        default: a value that cannot be changed in place.
        meaning: what the docs say.
        of_loss: False for what is read to make the loss's class order.
    """
    metadata = {"meaning": meaning, "of_loss": of_loss}
    field: T = dataclasses.field(default=default, metadata=metadata)
    return field


def one_term(term: Callable[[Any], Term]) -> Build:
    """The build of a method that adds one term, made from its options, to the cross entropy."""

    def build(num_classes: int, options: Weighted, *, label_smoothing: float, order: ClassOrder) -> nn.Module:
        from figkd.loss.parts import DistillationLoss

        return DistillationLoss(
            num_classes,
            term(options),
            weight=options.weight,
            ce_weight=options.ce_weight,
            label_smoothing=label_smoothing,
        )

    return build


def of_standardised(term: Callable[[Any], Term]) -> Callable[[Any], Term]:
    """The same term, of standardised logits (arXiv 2403.01427)."""

    def standardised(options: Any) -> Term:
        from figkd.loss.functional import standardise

        plain = term(options)
        return lambda student, teacher, labels: plain(standardise(student), standardise(teacher), labels)

    return standardised


def defaults_of(options: type[Any]) -> dict[str, Any]:
    """Names and defaults of the options that the loss takes."""
    return {field.name: field.default for field in dataclasses.fields(options) if field.metadata["of_loss"]}


def choose(options: type[T], given: Mapping[str, Any], owner: str) -> T:
    """Options with some of them given; `owner` is what errors call their owner.

    Raises:
        FigkdError: an unknown option, a number outside of its range, or a text not among the choices.
    """
    known = defaults_of(options)
    if unknown := sorted(set(given) - set(known)):
        raise FigkdError(
            f"{owner} has no option {', '.join(map(repr, unknown))}",
            f"its options are {', '.join(known)}" if known else "it has none of its own",
        )
    hints = get_type_hints(options, include_extras=True)
    for name, value in given.items():
        hint = hints[name]
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise FigkdError(f"unknown {name} {value!r}", f"one of {', '.join(get_args(hint))}")
        sides = [
            (sign, holds, getattr(bound, key))
            for bound in getattr(hint, "__metadata__", ())
            for key, sign, holds in _SIDES
            if hasattr(bound, key)
        ]
        if isinstance(value, Real) and not all(holds(value, limit) for _, holds, limit in sides):
            raise FigkdError(
                f"{name} is {value}", " and ".join(f"{name} {sign} {limit:,}" for sign, _, limit in sides)
            )
    return options(**given)
