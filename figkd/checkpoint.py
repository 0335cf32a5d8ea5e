"""Weights on disk: written whole or not at all, the same bytes for the same weights, loaded as data only."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from figkd.errors import CheckpointError
from figkd.files import write_bytes

FORMAT = 1


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
    """Read a checkpoint with weights_only=True: a file cannot run code.

    Raises:
        CheckpointError: the file is missing, damaged, or something else than a checkpoint of this library.
    """
    value = read(path)
    if not isinstance(value, dict) or not {"format", "meta", "state"} <= set(value):
        raise CheckpointError(f"{path} is not a checkpoint of figkd", "make it with figkd.checkpoint.save")
    if value["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {value['format']}, this version reads {FORMAT}",
            "write it again with this version",
        )
    try:
        meta = json.loads(value["meta"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}", "delete it and make it again") from error
    return Checkpoint(cast("dict[str, Tensor]", value["state"]), meta)


def load_into(model: nn.Module, path: Path) -> dict[str, Any]:
    """Load a checkpoint's weights into `model` and return its meta values.

    Raises:
        CheckpointError: as `load`; or the weights belong to another model, with the keys that differ; or to
            another number of classes.
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
    model.load_state_dict(checkpoint.state)
    return checkpoint.meta


def tensor_bytes(tensor: Tensor) -> bytes:
    """A tensor's values as bytes, whatever its device and memory layout, for hashing."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def to_bytes(value: Any) -> bytes:
    """Serialise with torch.save; saving to memory keeps the file's name out of the bytes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def read(path: Path) -> Any:
    """Read a file of `to_bytes` onto the CPU, tensors and plain values only.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint: {reason}", "delete it and make it again"
        ) from error


def _names(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} {kind} key(s)" + (f" ({', '.join(names[:5])}{more})" if names else "")
