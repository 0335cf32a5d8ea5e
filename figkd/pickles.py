"""Pickles read as data: plain values and what stands in for a few names, in memory in proportion to the file.

A pickle is a program. The readers of Python and of torch let it name functions, make a table of any length with ten
bytes, and end the process by hashing a tuple of a million levels. This machine has the instructions of text, numbers,
bytes, tuples, lists and dicts; a name stands for what its reader gives, and calls are of that only. What a reader has
no use for can be let pass as an `Unread`: nothing of it is made.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

_ARGUMENTS = 16


class Refused(Exception):
    """What the pickle holds that its reader does not need."""


class Unread:
    """Stands in for a name that the reader does not know, and for what is made with it; holds only the name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: Any) -> Unread:
        """What a call of the name would give."""
        return self

    def keep(self, state: Any) -> None:
        """Forget the state."""

    def append(self, item: Any) -> None:
        """Forget the item."""

    def extend(self, items: Any) -> None:
        """Forget the items."""


@runtime_checkable
class Keeper(Protocol):
    """A stand-in that takes the state of what it stands for."""

    def keep(self, state: Any) -> None:
        """Take the state."""


def load(
    data: bytes | io.BytesIO,
    names: Mapping[tuple[str, str], Any],
    persistent: Callable[[Any], Any] | None = None,
    encoding: str = "ASCII",
    *,
    pass_over: bool = False,
) -> Any:
    """The value of a pickle.

    Args:
        data: the pickle; of a stream, the next one.
        names: what stands for a module's name.
        persistent: gives what stands for a persistent id; None refuses them.
        encoding: of the text that Python 2 wrote; "bytes" leaves it.
        pass_over: every other name is an `Unread`, and numbers may be keys; otherwise both are refused.

    Raises:
        Refused: the pickle is damaged, or needs more than this.
    """
    try:
        stream = data if isinstance(data, io.BytesIO) else io.BytesIO(data)
        return _Machine(stream, names, persistent, encoding, pass_over).load()
    except Refused:
        raise
    except Exception as error:  # a machine that runs damaged programs raises anything
        raise Refused(f"it is damaged, or no pickle of plain values ({type(error).__name__})") from error


class _Machine(pickle._Unpickler):
    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        stream: io.BytesIO,
        names: Mapping[tuple[str, str], Any],
        persistent: Callable[[Any], Any] | None,
        encoding: str,
        pass_over: bool,
    ) -> None:
        super().__init__(stream, encoding=encoding)
        self._names, self._persistent = names, persistent
        self._pass_over = pass_over
        self._keys = (str, bytes, int) if pass_over else (str, bytes)
        self._left = len(stream.getbuffer())

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name."""
        if (module, name) not in self._names:
            if self._pass_over:
                return Unread(f"{module[:60]}.{name[:60]}")
            raise Refused(f"it asks for {module[:60]}.{name[:60]}")
        return self._names[module, name]

    def persistent_load(self, persistent_id: Any) -> Any:
        """The stand-in of a persistent id."""
        if self._persistent is None:
            raise Refused("it refers to something outside")
        return self._persistent(persistent_id)

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        # More of them could be copied again and again.
        if type(arguments) is not tuple or len(arguments) > _ARGUMENTS:
            raise Refused("it calls with other arguments")
        made = function(*arguments)
        self._left -= len(made) if isinstance(made, bytes) else 0
        if self._left < 0:
            raise Refused("it makes more than it holds")
        self.stack.append(made)

    def _keep(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, type) or not isinstance(target, Keeper):
            raise Refused("it changes what it must not")
        target.keep(state)

    def _set(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Unread):
            return
        if not isinstance(target, dict) or not all(type(key) in self._keys for key in pairs[::2]):
            raise Refused("it has keys that are not text")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def _new(self) -> None:
        self.stack.pop()
        if not isinstance(self.stack[-1], Unread):
            raise Refused("it makes what it must not")

    def _set_one(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _set_many(self) -> None:
        self._set(self.pop_mark())

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **{
            code[0]: pickle._Unpickler.dispatch[code[0]]
            for code in (
                pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.STACK_GLOBAL,
                pickle.BINPERSID,
                pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET,
                pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BINFLOAT,
                pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1,
                pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8, pickle.BINSTRING,
                pickle.SHORT_BINSTRING,
                pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8,
                pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
                pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT,
            )
        },
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _new,
        pickle.BUILD[0]: _keep,
        pickle.SETITEM[0]: _set_one,
        pickle.SETITEMS[0]: _set_many,
    }  # fmt: skip
