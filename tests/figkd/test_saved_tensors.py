"""Checkpoints that others wrote: every one is a CheckpointError or a valid load, within the memory of the file."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from figkd import checkpoint, saved_tensors
from figkd.errors import CheckpointError
from tests.memory import growth


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


GOOD = _model().state_dict()


def _whole(**changes: Any) -> dict[str, Any]:
    return {"format": 1, "meta": "{}", "state": dict(GOOD)} | changes


def _with(tensor: Any, name: str = "0.weight") -> dict[str, Any]:
    return _whole(state={**GOOD, name: tensor})


class _Calls:
    """Pickles as a call of a function that the loader of torch allows."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
                                   torch.int8, torch.uint8, torch.bool])  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 3), (2, 0, 3)])
def test_what_was_saved_is_read(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Protects: our reader understands what torch.save writes, for every type and shape of a dense tensor."""
    tensor = (torch.rand(shape) * 100).to(dtype)
    checkpoint.save(tmp_path / "c", {"a.b": tensor}, {"classes": ["ä", "b"], "top1": 3.5})
    found = checkpoint.load(tmp_path / "c")
    assert found.meta == {"classes": ["ä", "b"], "top1": 3.5}
    assert found.state["a.b"].dtype == dtype and torch.equal(found.state["a.b"], tensor)


FOREIGN = {
    "text for a tensor": _with("text"),
    "a list for a tensor": _with([1, 2]),
    "numbers as names": _whole(state={1: torch.ones(2)}),
    "a list for the state": _whole(state=[1]),
    "a tensor for the state": _whole(state=torch.ones(2)),
    "a mapping for the meta": _whole(meta={}),
    "a list in the meta": _whole(meta="[1]"),
    "a deep meta": _whole(meta='{"a":' * 900 + "1" + "}" * 900),
    "a very deep meta": _whole(meta="[" * 200_000),
    "a long number in the meta": _whole(meta='{"a":' + "9" * 10_000 + "}"),
    "half a character in the meta": _whole(meta='{"a": "\\ud800"}'),
    "a list for the format": _whole(format=[1]),
    "a tensor for the format": _whole(format=torch.ones(2)),
    "true for the format": _whole(format=True),
    "int64 for float32": _with(torch.ones(4, 3, dtype=torch.int64)),
    "bool for float32": _with(torch.ones(4, 3, dtype=torch.bool)),
    "float32 for int64": _with(torch.tensor(1.0), "1.num_batches_tracked"),
    "complex": _with(torch.ones(4, 3, dtype=torch.complex64)),
    "NaN": _with(torch.full((4, 3), torch.nan)),
    "infinity": _with(torch.full((4, 3), torch.inf)),
    "what overflows float32": _with(torch.full((4, 3), 1e300, dtype=torch.float64)),
    "sparse": _with(torch.zeros(4, 3).to_sparse()),
    "on no device": _with(torch.ones(4, 3, device="meta")),
    "four bytes as a terabyte": _with(torch.ones(1).expand(1 << 20, 1 << 20)),
    "one value as twelve": _with(torch.ones(1).expand(4, 3)),
    "part of a storage": _with(torch.ones(24)[12:].view(4, 3)),
    "a module": _model(),
    "nothing": None,
    "a gigabyte by a call": _with(_Calls(bytearray, 1 << 30)),
    "the same pairs, copied again and again": _whole(
        state={str(i): _Calls(OrderedDict, [(i, i) for i in range(1000)]) for i in range(100)}
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_checkpoint_of_this_model_is_refused(tmp_path: Path, name: str) -> None:
    """Protects training and export: one error, that names the file and never says to delete it."""
    path = tmp_path / "c.pt"
    torch.save(FOREIGN[name], path)
    with pytest.raises(CheckpointError, match=r"c\.pt") as error:
        checkpoint.load_into(_model(), path)
    assert "delete" not in str(error.value) and "\x1b" not in str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_under_several_names_are_read_once(tmp_path: Path, legacy: bool) -> None:
    """Tied weights, and averages that are the weights themselves; they take no more memory than they did."""
    state = {"a": torch.arange(1 << 20, dtype=torch.float32), "c": torch.ones(2, 3, 4, 5)}
    state |= {"tied": state["a"], "turned": state["c"].to(memory_format=torch.channels_last)}
    torch.save({"model": state, "ema": state}, tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy)
    with (tmp_path / "m.pt").open("rb") as file:
        read = saved_tensors.read(file)
    assert read["model"]["tied"] is read["model"]["a"] is read["ema"]["a"]
    for part in read.values():
        for name, tensor in state.items():
            assert torch.equal(part[name], tensor)


def _permuted(tensor: Tensor) -> dict[str, Tensor]:
    """Every order of its axes, of one storage."""
    return {str(axes): tensor.permute(axes) for axes in itertools.permutations(range(tensor.ndim))}


@pytest.mark.parametrize("legacy", [False, True])
def test_one_storage_under_several_shapes(tmp_path: Path, legacy: bool) -> None:
    """Weights that are tied transposed or reshaped; a reshaped one takes no more memory than the first."""
    weight = torch.arange(1 << 20, dtype=torch.float32).reshape(1024, 1024)
    state = {"w": weight, "flat": weight.view(-1), "t": weight.t(), "back": weight.view(2048, 512)}
    torch.save(state, tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy)
    with (tmp_path / "m.pt").open("rb") as file:
        read = saved_tensors.read(file)
    assert all(
        torch.equal(read[name], tensor) and read[name].is_contiguous() for name, tensor in state.items()
    )
    assert read["w"].data_ptr() == read["flat"].data_ptr() == read["back"].data_ptr() != read["t"].data_ptr()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"w": torch.ones(8, 3)[:4]}, r"'w' is a part of a larger tensor: save it with \.clone\(\)"),
        ({"w": torch.ones(8, 3)[4:]}, r"a part of a larger tensor: save it with \.clone\(\)"),
        (_permuted(torch.ones(64, 64, 64)), r"another view of memory .* save it with \.clone\(\)"),
    ],
)
def test_views_that_are_refused_say_what_they_are(
    tmp_path: Path, state: dict[str, Tensor], said: str
) -> None:
    """Not as damage: the way out is one call. Copies of one storage stay within twice the file."""
    torch.save(state, tmp_path / "m.pt")
    with (tmp_path / "m.pt").open("rb") as file, pytest.raises(saved_tensors.Refused, match=said):
        saved_tensors.read(file)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_others_save_is_read_or_passed_over(tmp_path: Path, legacy: bool) -> None:
    """Protects bring-your-own: both formats of torch, parameters, channels-last weights, and a training's other things
    beside them, of which nothing is made."""
    path, weight = tmp_path / "c.pt", torch.rand(4, 3, 2, 5).to(memory_format=torch.channels_last)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = OrderedDict(w=weight, p=nn.Parameter(torch.ones(3)), b=torch.rand(2, 1, 3).transpose(0, 2))
    whole = {
        "state_dict": state, "epoch": 3, "args": argparse.Namespace(lr=0.1), "optimizer": optimizer.state_dict(),
        "best": Path("x"), "groups": [[1, 2]], "names": {0: "a", 1: "b"},
    }  # fmt: skip
    torch.save(whole, path, _use_new_zipfile_serialization=not legacy)
    with path.open("rb") as file:
        found = saved_tensors.read(file)
    assert found["state_dict"].keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found["state_dict"][name], tensor) and found["state_dict"][name].is_contiguous()
    assert found["epoch"] == 3 and found["names"] == {0: "a", 1: "b"}
    assert isinstance(found["args"], saved_tensors.Unread) and found["args"].name == "argparse.Namespace"


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_network_is_told_as_what_it_is(tmp_path: Path, legacy: bool) -> None:
    """Protects: the message names the class and the way out; nothing of the file is made."""
    path = tmp_path / "c.pt"
    torch.save(_model(), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        CheckpointError, match=r"pickled object \(torch.nn.modules.container.Sequential\)"
    ) as error:
        checkpoint.load(path)
    assert "state_dict()" in error.value.fix and "delete" not in str(error.value)


def _rewritten(
    source: Path, target: Path, change: Callable[[str, bytes], bytes], compression: int = 0
) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def _bomb(path: Path) -> None:
    _rewritten(
        path, path.with_name("x"), lambda n, d: bytes(1 << 26) if "/data/" in n else d, zipfile.ZIP_DEFLATED
    )
    os.replace(path.with_name("x"), path)


def _deep_key(path: Path) -> None:
    """A tuple of 300,000 levels as a key: to hash it ends the process."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s.")


def _other_byte_order(path: Path) -> None:
    _rewritten(path, path.with_name("x"), lambda n, d: b"big" if n.endswith("/byteorder") else d)
    os.replace(path.with_name("x"), path)


def _twice(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        archive.writestr(name, archive.read(name))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARMS: dict[str, Callable[[Path], object]] = {
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "cut off": lambda p: p.write_bytes(p.read_bytes()[:-100]),
    "ten gigabytes of nothing": lambda p: os.truncate(p, 10 << 30),
    "a zip bomb": _bomb,
    "a deep key": _deep_key,
    "another byte order": _other_byte_order,
    "a member twice": _twice,
    "a FIFO": _fifo,
    "a folder": _folder,
}


@pytest.mark.parametrize("name", HARMS)
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    """Protects: no wait, no crash, no memory beyond the file's, whatever lies at the path."""
    path = tmp_path / "c.pt"
    checkpoint.save(path, GOOD)
    HARMS[name](path)
    with growth() as taken, pytest.raises(CheckpointError, match=r"c\.pt"):
        checkpoint.load(path)
    assert taken.bytes < 64 << 20


def test_an_altered_weight_is_noticed(tmp_path: Path) -> None:
    """Protects accuracy: a bit that flipped on the disk is not a weight."""
    path = tmp_path / "c.pt"
    checkpoint.save(path, GOOD)
    data = bytearray(path.read_bytes())
    data[data.index(struct.pack("<f", float(GOOD["0.weight"].flatten()[0])))] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="CRC"):
        checkpoint.load(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_mutants(tmp_path: Path, legacy: bool) -> None:
    """1,200 mutants: bytes of the file, and bytes of an archive's pickle with the checksum made right again."""
    path, mutant = tmp_path / "c.pt", tmp_path / "m.pt"
    checkpoint.save(path, GOOD, {"model": "m", "classes": ["a", "b"]})
    if legacy:
        torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    loads = 0
    for seed in range(600):
        chance = random.Random(seed)
        if legacy or seed % 2:
            mutant.write_bytes(_mutated(whole, chance))
        else:
            _rewritten(path, mutant, lambda n, d, c=chance: _mutated(d, c) if n.endswith("data.pkl") else d)  # type: ignore[misc]
        try:
            found = checkpoint.load(mutant)
        except CheckpointError:
            continue
        loads += 1
        assert isinstance(found.meta, dict)
        assert all(type(name) is str and type(tensor) is torch.Tensor for name, tensor in found.state.items())
        assert sum(t.numel() * t.element_size() for t in found.state.values()) <= mutant.stat().st_size
    assert 0 < loads < 400  # some mutants are harmless (names, padding, values of a stream), most are not


def _mutated(data: bytes, chance: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(len(made))
        kind = chance.randrange(4)
        if kind == 0:
            made[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            made[place] = chance.randrange(256)
        elif kind == 2:
            del made[place : place + chance.randrange(1, 5)]
        else:
            made[place:place] = made[place : place + chance.randrange(1, 30)]
    return bytes(made)
