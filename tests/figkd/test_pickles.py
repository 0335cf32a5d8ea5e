"""Pickles as data: plain values come back, and programs do not run."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from figkd import pickles
from tests.memory import growth

PLAIN = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats(allow_nan=False)
    | some.text()
    | some.binary(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner) | some.tuples(inner, inner),
)


@given(value=PLAIN, protocol=some.sampled_from([3, 4, 5]))
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    """The law of the reader: what is only values is read as them."""
    assert pickles.load(pickle.dumps(value, protocol), {}) == value


class _Shape:
    """A stand-in that keeps a state."""

    state: object = None

    def keep(self, state: object) -> None:
        self.state = state


NAMES = {("m", "shape"): _Shape, ("m", "many"): lambda: b"x" * 1000, ("m", "first"): lambda first: first}
MARK = "/tmp/figkd-pickles-ran"
HOSTILE = {
    "a call": pickle.dumps(os.system),
    "a call by its old name": b"cposix\nsystem\n(S'touch /tmp/figkd-pickles-ran'\ntR.",
    "a table of 2^28 entries": b"\x80\x02]r\x00\x00\x00\x10s.",
    "a deep key": b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s.",
    "a deep member": b"\x80\x04\x8f()" + b"\x85" * 300_000 + b"\x90.",
    "a changed class": b"\x80\x02cm\nshape\n}X\x05\x00\x00\x00statesK\x01b.",
    "a changed function": b"\x80\x02cm\nfirst\nN}X\x0c\x00\x00\x00__defaults__s\x86b.",
    "bytes from nothing": b"\x80\x02" + b"cm\nmany\n)R0" * 100 + b"N.",
    "a million arguments": b"\x80\x02cm\nfirst\n(" + b"N" * 100 + b"tR.",
    "an item of a list": b"\x80\x02]K\x00K\x01s.",
    "a buffer": b"\x80\x05\x97.",
    "an extension": b"\x80\x02\x82\x01.",
    "more than there is": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",
    "a negative length": b"\x80\x02T\xff\xff\xff\xffx.",
    "nothing": b"",
    "no stop": b"\x80\x02N",
    "an empty stack": b"\x80\x02.",
    "an id": b"\x80\x02NQ.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_programs_are_refused(name: str) -> None:
    """One error; nothing runs, nothing of ours is changed, and no memory is taken."""
    with growth() as taken, pytest.raises(pickles.Refused):
        pickles.load(HOSTILE[name], NAMES)
    assert taken.bytes < 64 << 20
    assert not os.path.exists(MARK) and _Shape.state is None


def test_stand_ins_are_called_and_keep_a_state() -> None:
    """What the readers of published pickles rely on."""
    made = pickles.load(b"\x80\x02cm\nshape\n)R(K\x01K\x02tb.", NAMES)
    assert isinstance(made, _Shape) and made.state == (1, 2)
