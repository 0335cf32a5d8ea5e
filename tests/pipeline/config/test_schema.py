"""Defaults kept in the schema are those of the library that they are passed to."""

from __future__ import annotations

import pytest

from figkd.methods import METHODS
from pipeline.config.schema import KD, FiGKD, LogitMSE, Section


@pytest.mark.parametrize(
    ("section", "method"),
    [(FiGKD(), "figkd"), (KD(), "kd"), (LogitMSE(), "logit_mse"), (LogitMSE(), "centred_logit_mse")],
)
def test_method_defaults_are_the_librarys(section: Section, method: str) -> None:
    """`from figkd import FiGKDLoss` and the pipeline train with the same recipe."""
    values = section.model_dump()
    known = METHODS[method].options
    assert {key: value for key, value in values.items() if key in known} == {
        key: known[key] for key in values if key in known
    }


def test_rules_that_can_be_switched_off_exist() -> None:
    """The schema cannot import the table of rules, so a test holds the two together."""
    from typing import get_args

    from export.precision import RULES
    from pipeline.config.schema import PrecisionSection

    (names,) = get_args(PrecisionSection.model_fields["without_rules"].annotation)
    assert set(get_args(names)) == {rule.name for rule in RULES if rule.optional}
