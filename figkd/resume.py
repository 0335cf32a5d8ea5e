"""The state file of a training: what a killed run goes on from.

Only what cannot be computed again is in it: weights, their average, the optimizer's moments, and the history, whose
length is the position in the data, the schedule and the generators.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from figkd import checkpoint
from figkd.distributed import ALONE, World
from figkd.errors import CheckpointError
from figkd.files import write_bytes
from figkd.records import Record

_FORMAT = 2


class Part(Protocol):
    """Something with a state: a module, an optimizer, an average."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Take a state over."""
        ...


def save(
    path: Path, run_signature: Mapping[str, Any], parts: Mapping[str, Part], history: list[Record]
) -> None:
    """Write the state of `parts` and the history, whole or not at all; `run_signature` says whose it is."""
    states = {name: part.state_dict() for name, part in parts.items()}
    body = checkpoint.to_bytes({"format": _FORMAT, "told": dict(run_signature), "history": history, **states})
    # torch's format does not notice every flipped byte; the digest does.
    write_bytes(path, hashlib.sha256(body).digest() + body)


def load(
    path: Path | None, run_signature: Mapping[str, Any], parts: Mapping[str, Part], world: World = ALONE
) -> list[Record]:
    """Bring `parts` to a saved state and return the history; empty if there is no file.

    Rank 0 reads, and the others get what it read. A damaged file is reported as a warning and counts as none.

    Raises:
        CheckpointError: the file belongs to a run with other arguments.
    """
    data = path.read_bytes() if path is not None and world.first and path.is_file() else None
    data = world.broadcast(data)
    if data is None:
        return []
    state = _checked(data, parts)
    if state is None:
        warnings.warn(f"the training state {path} is damaged: starting again", stacklevel=3)
        return []
    if state["format"] != _FORMAT or state["told"] != run_signature:
        other = [name for name in run_signature if state["told"].get(name) != run_signature[name]]
        raise CheckpointError(
            f"the training state {path} belongs to another run (differs in: {', '.join(other) or 'format'})",
            "give the same arguments, or another place for the state",
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    history: list[Record] = state["history"]
    return history


def _checked(data: bytes, parts: Mapping[str, Part]) -> dict[str, Any] | None:
    """The saved state, if it is whole: what a save of these parts writes, with the digest of its bytes before it."""
    digest, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != digest:
        return None
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception:  # the loader raises anything on bytes that it did not write
        return None
    kinds = {"format": int, "told": dict, "history": list, **dict.fromkeys(parts, dict)}
    whole = isinstance(state, dict) and all(isinstance(state.get(name), kind) for name, kind in kinds.items())
    return state if whole else None


def start_digest(*modules: nn.Module) -> str:
    """sha256 (hex) of names, shapes and values: the start of a run is part of what it is."""
    digest = hashlib.sha256()
    for index, module in enumerate(modules):
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            digest.update(f"{index}.{name}{tuple(tensor.shape)}".encode())
            digest.update(checkpoint.tensor_bytes(tensor))
    return digest.hexdigest()
