"""Protects: an engine is declared once, and nothing that belongs to it can be forgotten."""

from __future__ import annotations

from typing import get_args

import pytest

from export.engine_kinds import ENGINE_KINDS, PRECISIONS, kinds_with, special_keys
from export.engines import BACKENDS
from export.engines.options import TensorRTOptions
from pipeline.config.targets import EngineName, Target


def test_every_kind_has_its_back_end() -> None:
    """And every back end its entry; the config takes these and no others."""
    assert list(ENGINE_KINDS) == list(BACKENDS) == list(get_args(EngineName))


@pytest.mark.parametrize("name", ENGINE_KINDS)
def test_what_an_entry_names_exists(name: str) -> None:
    """Keys of a target, precisions, the builder's options."""
    kind = ENGINE_KINDS[name]
    assert kind.name == name and kind.label and kind.suffix and kind.distributions
    assert {*kind.builder, *kind.options, *kind.alone} <= set(Target.model_fields)
    assert set(kind.alone) <= set(kind.builder)
    assert set(kind.lacks) < set(PRECISIONS) and set(kind.precisions) | set(kind.lacks) == set(PRECISIONS)
    if kind.builder:
        TensorRTOptions(**{key: Target.model_fields[key].default for key in kind.builder})


def test_keys_know_their_kinds() -> None:
    """What `config check` says of a key that is not for an engine."""
    assert kinds_with("threads") == ("onnxruntime",) and kinds_with("required") == ()
    assert kinds_with("strip_weights") == ("tensorrt", "tensorrt_rtx")
    assert len(set(special_keys())) == len(special_keys()) and all(kinds_with(key) for key in special_keys())
