"""Weights on disk: written whole or not at all, the same bytes for the same weights, loaded as data only."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from figkd import labels, saved_tensors
from figkd.errors import CheckpointError, LabelError
from figkd.files import open_regular, parse_json, write_bytes

FORMAT = 1
_LFS = b"version https://git-lfs"
_FIX = "give a file of named tensors: torch.save(model.state_dict(), path), or one that figkd.checkpoint.save wrote"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds: `state` (name to tensor, on the CPU) and `meta` (plain values)."""

    state: dict[str, Tensor]
    meta: dict[str, Any]


def save(path: Path, model_state: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None) -> None:
    """Write a model's state dict and plain values to `path`, atomically.

    Equal states and values give equal bytes, whatever the device and memory layout of the tensors.
    """
    state = {
        # A fresh tensor: contiguous() keeps odd strides of axes of length 1, which would reach the file.
        name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
        for name, tensor in model_state.items()
    }
    # As one text: pickle writes equal values in different ways, by which of them are the same object.
    said = json.dumps(dict(meta or {}), sort_keys=True)
    write_bytes(path, to_bytes({"format": FORMAT, "meta": said, "state": state}))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint as data: nothing of the file is run, and memory stays in proportion to it.

    Every value of the state is a dense, contiguous tensor on the CPU, and its name is text.

    Raises:
        CheckpointError: the file is missing, damaged, or something else than a checkpoint of this library.
    """
    return parsed(read_saved(path), path)


def read_saved(path: Path) -> dict[Any, Any]:
    """What a file of weights holds: of torch.save as `figkd.saved_tensors.read` gives it, of safetensors its tensors.

    Raises:
        CheckpointError: the file is missing, damaged, or neither.
    """
    try:
        with open_regular(path) as file:
            start = file.read(len(_LFS))
            if start == _LFS:
                raise CheckpointError(
                    f"{path} is a Git LFS pointer, not the file itself", "fetch it with `git lfs pull`"
                )
            if not start:
                raise CheckpointError(f"{path} is empty", "copy it again")
            if start[8:9] == b"{" and start[:2] != b"PK":
                return _read_safetensors(path)
            value = saved_tensors.read(file)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except saved_tensors.Refused as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {error}", _FIX) from error
    assert isinstance(value, dict)  # the reader refuses everything else
    return value


def is_ours(value: Mapping[Any, Any]) -> bool:
    """Whether `save` wrote what `read_saved` gave."""
    return {"format", "meta", "state"} <= set(value)


def parsed(value: Mapping[Any, Any], path: Path) -> Checkpoint:
    """The checkpoint of what `read_saved` gave.

    Raises:
        CheckpointError: it is none of this library.
    """
    if not is_ours(value):
        raise CheckpointError(f"{path} is not a checkpoint of figkd", _FIX)
    format_, said, state = value["format"], value["meta"], value["state"]
    if type(format_) is not int or not isinstance(said, str) or not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a checkpoint of figkd", _FIX)
    if format_ != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {format_}, this version reads {FORMAT}",
            "write it again with this version",
        )
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path} holds {str(name)[:80]!r}, which is no named tensor", _FIX)
    try:
        meta = parse_json(said)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: its plain values: {error}", _FIX) from error
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path} is damaged: its plain values are no mapping", _FIX)
    return Checkpoint(state, meta)


def load_into(model: nn.Module, path: Path, classes: Sequence[str] | None = None) -> dict[str, Any]:
    """Load a checkpoint's weights into `model` and return its meta values.

    Args:
        model: of the same kind as the one whose state was saved.
        path: of the file.
        classes: names by output that the checkpoint must have been made for; None does not look.

    Raises:
        CheckpointError: as `load`; or the weights belong to another model, with the keys that differ; or to
            another number of classes; or they are of another type, or not finite where the model's own are.
        LabelError: the checkpoint is of other classes, or of the same in another order.
    """
    checkpoint = load(path)
    expected = model.state_dict()
    missing = [name for name in expected if name not in checkpoint.state]
    unexpected = [name for name in checkpoint.state if name not in expected]
    if missing or unexpected:
        raise CheckpointError(
            f"{path} does not fit the model: "
            f"{_names('missing', missing)}; {_names('unexpected', unexpected)}",
            "build the model that the checkpoint was made from",
        )
    differing = [name for name in expected if expected[name].shape != checkpoint.state[name].shape]
    if differing:
        name = differing[-1]
        have, want = tuple(checkpoint.state[name].shape), tuple(expected[name].shape)
        # A head is the only place where the class count shows: a matrix and its bias, first dimension.
        head = (
            all(checkpoint.state[other].shape[1:] == expected[other].shape[1:] for other in differing)
            and len(differing) <= 2
        )
        reason = (
            f"it has {have[0]} classes and the model {want[0]}"
            if head
            else f"{len(differing)} shapes differ, e.g. {name}: {have} in the file, {want} in the model"
        )
        raise CheckpointError(
            f"{path} does not fit the model: {reason}", "use the data set it was trained on"
        )
    if classes is not None and checkpoint.meta.get("classes") != list(classes):
        in_file = checkpoint.meta.get("classes")
        theirs = [name for name in in_file if isinstance(name, str)] if isinstance(in_file, list) else []
        labels.mapping(theirs, classes, what=path.name)
        raise LabelError(f"{path} has the classes of the data in another order", "make it again")
    check_values(checkpoint.state, expected, path)
    model.load_state_dict(checkpoint.state)
    return checkpoint.meta


def check_values(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights of the right names and shapes that a model cannot take.

    Raises:
        CheckpointError: they are of another type than in `expected`, or not finite where that is.
    """
    if problem := _worse(state, expected):
        raise CheckpointError(
            f"{path} cannot be used: {problem}", "use another checkpoint, or train it again"
        )


def _read_safetensors(path: Path) -> dict[Any, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is damaged or no safetensors file: {' '.join(str(error).split())[:200]}", "copy it again"
        ) from error


def tensor_bytes(tensor: Tensor) -> bytes:
    """A tensor's values as bytes, whatever its device and memory layout, for hashing."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def to_bytes(value: Any) -> bytes:
    """Serialise with torch.save; saving to memory keeps the file's name out of the bytes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _worse(file: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> str:
    """What keeps weights of the right shapes from being used; empty if nothing does."""
    for name, ours in model.items():
        theirs = file[name]
        floats = theirs.is_floating_point() and ours.is_floating_point()
        if theirs.dtype != ours.dtype and not floats:
            return f"{name} is {_dtype(theirs)} in the file and {_dtype(ours)} in the model"
        # A mask may hold infinities, but then the model's own does, too.
        if floats and not theirs.to(ours.dtype).isfinite().all() and ours.isfinite().all():
            return f"{name} holds values that are not finite"
    return ""


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _names(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    shown = ", ".join(name[:80] for name in names[:5])
    return f"{len(names)} {kind} key(s)" + (f" ({shown}{more})" if names else "")
