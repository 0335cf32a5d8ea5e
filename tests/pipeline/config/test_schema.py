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
