"""Protects: what a device command says of a name leads on, not in a circle."""

from __future__ import annotations

import pytest

from pipeline.config import load_config
from pipeline.core.errors import ConfigError
from pipeline.devices.housekeeping import named_device
from tests.pipeline.conftest import FONTS


@pytest.mark.parametrize(
    ("name", "with_config", "what", "fix"),
    [
        ("cpu", True, "is this machine", "no target on an ssh:// device"),
        ("orin", True, "no such device", "write ssh://[user@]host[:port]"),
        ("cpu", False, "no such device", "or add -c CONFIG"),
    ],
)
def test_names_that_are_no_devices(name: str, with_config: bool, what: str, fix: str) -> None:
    """The config is only asked for where none was given."""
    with pytest.raises(ConfigError) as caught:
        named_device(name, load_config(FONTS, []) if with_config else None)
    assert what in caught.value.what and fix in caught.value.fix
    assert ("add -c" in caught.value.fix) is not with_config
