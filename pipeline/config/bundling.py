"""The section `bundle`: how what ships is released."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.config.section import Section


class Bundle(Section):
    """The bundle of what ships for each target (docs/deploy.md)."""

    channel: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._+-]*$", max_length=100)] = "stable"
    """Releases of one channel replace each other on a device. A device may trust a signer for some channels only."""
    licence: Annotated[str, Field(pattern=r"^[A-Za-z0-9(][A-Za-z0-9.+:() -]*$", max_length=100)] = (
        "NOASSERTION"
    )
    """The model's licence as an SPDX expression, such as `Apache-2.0`. `NOASSERTION`: not stated."""
    allow_unshipped: bool = False
    """true: also pack what the verdict does not ship, such as the best engine of a run without a goal. The bundle
    records why it would not be shipped."""
    counts: bool = True
    """false: devices do not count their answers by class and confidence (`run.pyz serve --root`, `ship status`)."""
