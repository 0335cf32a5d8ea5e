"""Reading what torch.save wrote of named tensors, without the loader: nothing in the file decides what is run or made.

Such a file is a zip archive: `data.pkl` says which tensors there are, `data/<key>` holds their values. Before torch 1.6
it was one stream: a few pickles, then the values. The loader of torch runs no code of a file, but makes what the file
asks for: arrays of any size, other kinds of tensors, dicts by the million. Here the pickle is read as plain values and
descriptions of dense tensors (`figkd.pickles`), all else is passed over; sizes are compared with the file's; values are
checked by their CRC-32 (an archive has them) and copied.
"""

from __future__ import annotations

import io
import math
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from figkd import pickles
from figkd.pickles import Refused, Unread

__all__ = ["Refused", "Unread", "read"]

_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_PICKLE_BYTES = 1 << 23
_MEMBERS = 1 << 17
_DIMENSIONS = 32
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the stream


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str
    numel: int


@dataclass(frozen=True)
class _Dense:
    """A tensor as the pickle tells of it; its values lie in the order of `axes`, the slowest first."""

    storage: _Storage
    shape: tuple[int, ...]
    axes: tuple[int, ...]


class _Ordered(dict[Any, Any]):
    """Stands in for collections.OrderedDict: of tensors, or of the hooks of one, which has none."""

    def keep(self, state: Any) -> None:
        """Forget what torch notes beside the tensors of a module."""


def read(file: BinaryIO) -> Any:
    """The value that torch.save wrote: text, numbers, tuples and dicts, and dense tensors in a dict or in a dict in it.

    Takes memory in proportion to the file.

    Returns:
        The value; tensors are contiguous and on the CPU. Those that were one under several names are one. What is
        none of these is an `Unread`.

    Raises:
        Refused: it is damaged, or its tensors are of other kinds.
    """
    try:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if file.read(4) != b"PK\3\4":
            return _read_stream(file, size)
        with zipfile.ZipFile(file) as archive:
            return _read_archive(archive, size)
    except Refused:
        raise
    except KeyError as error:  # an instruction, or a member
        raise Refused("it holds other things than named tensors and plain values") from error
    except zipfile.BadZipFile as error:
        raise Refused(str(error) or "it is no zip archive") from error
    except (OSError, EOFError, MemoryError) as error:
        raise Refused(str(error) or type(error).__name__) from error
    except Exception as error:  # an unpickler raises anything on damaged bytes
        raise Refused(f"its list of tensors is damaged ({type(error).__name__})") from error


def _read_archive(archive: zipfile.ZipFile, size: int) -> Any:
    members = _members(archive, size)
    prefix = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
    if prefix is None:
        raise Refused("it was not written by torch.save")
    if members.get(f"{prefix}byteorder") and archive.read(f"{prefix}byteorder") != sys.byteorder.encode():
        raise Refused("it was written on a machine of another byte order")
    if members[f"{prefix}data.pkl"].file_size > _PICKLE_BYTES:
        raise Refused(f"its list of tensors has more than {_PICKLE_BYTES:,} bytes")
    value = pickles.load(archive.read(f"{prefix}data.pkl"), _NAMES, _storage, pass_over=True)
    return _filled(value, lambda key: archive.read(f"{prefix}data/{key}"), size)


def _read_stream(file: BinaryIO, size: int) -> Any:
    """What torch before 1.6 wrote: magic number, protocol, machine, value, keys; then each key's count and values."""
    file.seek(0)
    stream = io.BytesIO(file.read(_PICKLE_BYTES))
    try:
        known = pickles.load(stream, {}) == _MAGIC and pickles.load(stream, {}) == _PROTOCOL
    except Refused as error:
        raise Refused("it was not written by torch.save") from error
    if not known:
        raise Refused("it was not written by torch.save")
    if pickles.load(stream, {})["little_endian"] != (sys.byteorder == "little"):
        raise Refused("it was written on a machine of another byte order")
    storages: dict[str, _Storage] = {}

    def noted(given: Any) -> Any:
        if isinstance(given, tuple) and given[:1] == ("module",) and isinstance(given[1], Unread):
            return given[1]  # the class of a network, with its source
        storage = _storage(given)
        return storages.setdefault(storage.key, storage)

    value = pickles.load(stream, _NAMES, noted, pass_over=True)
    places: dict[str, tuple[int, int]] = {}
    place = 0
    keys = pickles.load(stream, {})
    for key in keys if isinstance(keys, list) else ():
        place = place or stream.tell()
        file.seek(place)
        count, length = int.from_bytes(file.read(8), sys.byteorder), storages[key].numel
        length *= storages[key].dtype.itemsize
        if count != storages[key].numel or place + 8 + length > size:
            raise Refused("it is cut off, or its parts are of other sizes than it says")
        places[key] = place + 8, length
        place += 8 + length

    def member(key: str) -> bytes:
        start, length = places[key]
        file.seek(start)
        return file.read(length)

    return _filled(value, member, size)


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by name; they are stored as they are, and are together no larger than the file."""
    infos = archive.infolist()
    members = {info.filename: info for info in infos}
    if len(members) != len(infos) or len(infos) > _MEMBERS:
        raise Refused("its members are not named once each")
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise Refused("its members are compressed, which torch.save does not do")
    if any(info.flag_bits & 1 for info in infos) or sum(info.file_size for info in infos) > size:
        raise Refused("its members are larger than the file")
    return members


def _filled(value: Any, member: Callable[[str], bytes], size: int) -> Any:
    """`value` with tensors in the place of their descriptions, in it and in the dicts that it holds."""
    if isinstance(value, Unread):
        raise Refused(f"it holds a pickled object ({value.name}), not its named tensors")
    if not isinstance(value, dict):
        raise Refused("it does not hold a dict")
    values = _Values(member, size)

    def filled(name: Any, found: Any) -> Any:
        return values.tensor(repr(name)[:80], found) if isinstance(found, _Dense) else found

    return {
        name: {inner: filled(inner, v) for inner, v in part.items()}
        if isinstance(part, dict)
        else filled(name, part)
        for name, part in value.items()
    }


class _Values:
    """The tensors of a file of `size` bytes: each view of a storage once, in at most twice the file's memory."""

    def __init__(self, member: Callable[[str], bytes], size: int) -> None:
        self._member = member
        self._left = 2 * size
        self._made: dict[_Dense, Tensor] = {}
        self._flat: dict[_Storage, Tensor] = {}

    def tensor(self, name: str, view: _Dense) -> Tensor:
        """The values of a view, contiguous; `name` is for messages."""
        if view not in self._made:  # else tied weights, or an average that is the weights themselves
            self._made[view] = self._new(name, view)
        return self._made[view]

    def _new(self, name: str, view: _Dense) -> Tensor:
        storage, count = view.storage, math.prod(view.shape)
        if count < storage.numel:
            raise Refused(f"{name} is a part of a larger tensor: save it with .clone()")
        if count > storage.numel:
            raise Refused(f"{name} is of another size than what the file holds of it")
        in_order = view.axes == tuple(range(len(view.axes)))
        if in_order and storage in self._flat:  # the same values in another shape
            return self._flat[storage].reshape(view.shape)
        length = count * storage.dtype.itemsize
        self._left -= length
        if self._left < 0:
            raise Refused(f"{name} is another view of memory that the file holds once: save it with .clone()")
        data = bytearray(self._member(storage.key))
        if len(data) != length:
            raise Refused(f"{name} has {len(data):,} bytes instead of {length:,}")
        made = _tensor(data, view)
        if in_order:
            self._flat[storage] = made.reshape(-1)
        return made


def _tensor(data: bytearray, view: _Dense) -> Tensor:
    if not data:
        return torch.empty(view.shape, dtype=view.storage.dtype)
    lying = torch.frombuffer(data, dtype=view.storage.dtype).reshape([view.shape[axis] for axis in view.axes])
    return lying.permute([view.axes.index(axis) for axis in range(len(view.axes))]).contiguous()


def _dense(
    storage: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> _Dense:
    """Stands in for torch._utils._rebuild_tensor_v2; strides of its own would let few bytes be many values."""
    if not isinstance(storage, _Storage) or type(offset) is not int or not isinstance(shape, tuple):
        raise Refused("it holds a tensor of another kind")
    if offset:
        raise Refused("it holds a part of a larger tensor: save it with .clone()")
    if len(shape) > _DIMENSIONS or not all(map(_whole, shape)):
        raise Refused("it holds a tensor with an invalid shape")
    if not isinstance(stride, tuple) or len(stride) != len(shape) or not all(map(_whole, stride)):
        raise Refused("it holds a tensor of another kind")
    # Channels-last weights lie in another order of their axes; axes of length 1 may have any stride.
    axes = tuple(sorted(range(len(shape)), key=lambda axis: (-stride[axis], shape[axis] != 1, axis)))
    step = 1
    for axis in reversed(axes):
        if shape[axis] > 1 and stride[axis] != step:
            raise Refused("it holds a tensor whose values do not lie side by side")
        step *= max(shape[axis], 1)
    return _Dense(storage, shape, axes)


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> Any:
    """Stands in for torch._utils._rebuild_parameter: the tensor in it."""
    return data


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _storage(given: Any) -> _Storage:
    """A storage: `("storage", type, key, device, elements)`, in a stream followed by the part of another that it is."""
    kind, dtype, key, _, numel, *view = given
    if view not in ([], [None]):
        raise Refused("it holds a part of a larger tensor: save it with .clone()")
    if kind != "storage" or not isinstance(key, str) or not _whole(numel) or not isinstance(dtype, str):
        raise Refused("it holds a storage of another kind")
    return _Storage(_DTYPES[dtype], key, numel)


_NAMES: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _dense,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): _Ordered,
    **{("torch", name): name for name in _DTYPES},
}
