"""What the schema makes of the table of distillation methods."""

from __future__ import annotations

import dataclasses

import pytest

from figkd.loss.build import build_loss
from figkd.loss.methods import METHODS
from pipeline.config.schema import Distill, method_section

CLASSES = 7


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_can_be_configured(method: str) -> None:
    """A user's `distill.<method>` and `from figkd import build_loss` train with the same recipe: the section has every
    option of the table with its default and its text, and what it holds builds the loss."""
    facts = METHODS[method]
    section = method_section(Distill.model_validate({"method": method}))
    fields = dataclasses.fields(facts.options)
    if not fields:
        assert section is None
        return
    assert section is not None and isinstance(section, facts.options)
    assert section.model_dump() == {field.name: field.default for field in fields}
    described = {name: field.description for name, field in type(section).model_fields.items()}
    assert described == {field.name: field.metadata["meaning"] for field in fields}
    build_loss(method, CLASSES, **section.model_dump(include=set(facts.defaults)))


def test_no_section_is_without_a_method() -> None:
    """Nothing can be configured that no method reads."""
    used = {facts.section for facts in METHODS.values() if dataclasses.fields(facts.options)}
    given = {
        name for name, field in Distill.model_fields.items() if dataclasses.is_dataclass(field.annotation)
    }
    assert given == used


def test_numbers_have_the_range_of_the_table() -> None:
    """Every number of every method's section is bounded, so that a config cannot hold what the loss refuses."""
    for facts in METHODS.values():
        for name, default in facts.defaults.items():
            if isinstance(default, float):
                given = {"method": facts.name, facts.section: {name: -1.0}}
                with pytest.raises(ValueError, match=rf"{facts.section}\.{name}"):
                    Distill.model_validate(given)
