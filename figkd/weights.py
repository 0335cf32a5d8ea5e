"""Weights that somebody trained, from a file, as the start of a network or as the network: fitted by name, or refused.

A file is a checkpoint of ours, a plain or wrapped state dict that torch.save wrote, or `.safetensors`. Its names are
brought to the network's by rule (`figkd.weight_names`), the rows of its head to the data's classes by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from figkd import checkpoint, labels, weight_names
from figkd.errors import CheckpointError, LabelError
from figkd.models import ImageClassifier, head_names, published

# Averaged weights first: they are what such trainings evaluate.
_PARTS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model", "net", "weights",
)  # fmt: skip
_COUNTER = ".num_batches_tracked"  # older files have none; nothing of an evaluation depends on it
_TENSORFLOW_EPSILON = 1e-3

Head = Literal["kept", "reordered", "new"]


@dataclass(frozen=True)
class Weights:
    """What a file of weights holds.

    Attributes:
        state: name to tensor, dense, on the CPU.
        classes: names by output, where the file tells them.
        part: the entry of the file that was taken; empty if there is only one.
    """

    state: dict[str, Tensor]
    classes: list[str] | None
    part: str


@dataclass(frozen=True)
class Wanted:
    """How weights are to be used.

    Attributes:
        classes: of the data, by output.
        given: class names of the weights by output, from the user; None takes what the file says.
        trains: the network is trained afterwards, so a head for other classes may start from random weights.
        mean: normalisation of the images, where it is not what the library's own weights of this name have.
        std: the same.
    """

    classes: Sequence[str]
    given: Sequence[str] | None
    trains: bool
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


@dataclass(frozen=True)
class Fitted:
    """What became of the weights.

    Attributes:
        head: rows as they were, in another order, or random for other classes.
        said: what a user should know, in words; empty if nothing.
    """

    head: Head
    said: str


def read(path: Path) -> Weights:
    """Read a file of weights as data: nothing of it is run, and memory stays in proportion to it.

    Raises:
        CheckpointError: the file is missing, damaged, or holds no named tensors.
    """
    value = checkpoint.read_saved(path)
    if checkpoint.is_ours(value):
        ours = checkpoint.parsed(value, path)
        names = ours.meta.get("classes")
        named = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return Weights(ours.state, names if named else None, "")
    part = next((name for name in _PARTS if _tensors(value.get(name))), "")
    state = _tensors(value[part] if part else value)
    if not state:
        raise CheckpointError(
            f"{path} holds no named tensors", "save the network's state: torch.save(model.state_dict(), path)"
        )
    return Weights(state, None, part)


def fit(
    model: ImageClassifier, name: str, weights: Weights, wanted: Wanted, *, path: Path, image_size: int
) -> Fitted:
    """Load weights into a network that was built for the data's classes.

    Args:
        model: of `build_model`.
        name: of the network.
        weights: see `read`.
        wanted: see `Wanted`.
        path: of the file, for messages.
        image_size: that the network was built for.

    Raises:
        CheckpointError: the weights belong to another network, with the first names or shapes that differ.
        LabelError: the classes of the head are unknown, or others than the data's, and it is not trained.
    """
    expected = model.state_dict()
    names = weight_names.renamed(weights.state, expected)
    state = _named({new: weights.state[old] for old, new in names.items()}, expected, path, name)
    heads = head_names(model, name, len(wanted.classes), image_size=image_size)
    _check_shapes(state, expected, heads, path, name)
    _check_epsilon(model, weights, path, name)
    rows = int(state[heads[-1]].shape[0])
    head, order, said = _head(weights, rows, wanted, path)
    for key in heads:
        if order is None:
            state[key] = expected[key]
        else:
            state[key] = state[key][torch.tensor(order)]
    usual = None if {"mean", "std"} & set(names.values()) else published(name)
    if mean := wanted.mean or (usual and usual.mean):
        state["mean"] = torch.tensor(mean)
    if std := wanted.std or (usual and usual.std):
        state["std"] = torch.tensor(std)
    checkpoint.check_values(state, expected, path)
    model.load_state_dict(state)
    part = [f"took its {weights.part}"] if weights.part else []
    return Fitted(head, "; ".join([*part, *([said] if said else [])]))


def reorder_head(
    model: ImageClassifier, name: str, theirs: Sequence[str], ours: Sequence[str], *, image_size: int
) -> None:
    """Put the rows of a network's head, which stand for `theirs`, into the order of `ours`.

    Raises:
        LabelError: the lists hold other names.
    """
    order = labels.mapping(theirs, ours, what=f"the weights of {name}")
    state = model.state_dict()
    for key in head_names(model, name, len(ours), image_size=image_size):
        state[key] = state[key][torch.tensor(order)]
    model.load_state_dict(state)


def _named(
    state: dict[str, Tensor], expected: Mapping[str, Tensor], path: Path, name: str
) -> dict[str, Tensor]:
    """The state with every name of the network; the normalisation and counters may have been missing."""
    added = {key: t for key, t in expected.items() if key.endswith(_COUNTER) or key in ("mean", "std")}
    state = added | state
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        raise CheckpointError(
            f"{path} does not fit {name}: {_first('missing', missing)}; {_first('unexpected', unexpected)}",
            "name the network that the file is of, as timm/<name> or torchvision/<name>",
        )
    return state


def _check_shapes(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], heads: Collection[str], path: Path, name: str
) -> None:
    for key, tensor in expected.items():
        have, want = tuple(state[key].shape), tuple(tensor.shape)
        if have != want and not (key in heads and have[1:] == want[1:]):
            raise CheckpointError(
                f"{path} does not fit {name}: {key} has the shape {have} in the file and {want} in the network",
                "name the network that the file is of; networks whose weights depend on the image size "
                "need the data.image_size that they were trained with",
            )
    if len({int(state[key].shape[0]) for key in heads}) != 1:
        raise CheckpointError(f"{path} does not fit {name}: its heads have different class counts")


def _check_epsilon(model: ImageClassifier, weights: Weights, path: Path, name: str) -> None:
    # EfficientNet-PyTorch's weights come from TensorFlow: the same shapes as timm's own, another padding and epsilon.
    theirs = any(f".{key}".endswith("._conv_stem.weight") for key in weights.state)
    epsilon = getattr(getattr(model.backbone, "bn1", None), "eps", _TENSORFLOW_EPSILON)
    if theirs and epsilon != _TENSORFLOW_EPSILON:
        raise CheckpointError(
            f"{path} holds weights for TensorFlow's padding, which {name} does not have",
            f"name timm/tf_{name.partition('/')[2]}",
        )


def _head(weights: Weights, rows: int, wanted: Wanted, path: Path) -> tuple[Head, list[int] | None, str]:
    """What becomes of the head: the row of the file for each class of the data, None for a new head."""
    theirs = wanted.given if wanted.given is not None else weights.classes
    ours = list(wanted.classes)
    if theirs is not None and len(theirs) != rows:
        raise LabelError(
            f"{path} has {rows:,} outputs, and {len(theirs):,} class names were given",
            "name each output's class, in the order of the outputs",
        )
    try:
        if theirs is None:
            raise LabelError(
                f"{path} does not say which classes its {rows:,} outputs are",
                "give them in `classes`, a list or a file of names in the order of the outputs; "
                "`classes: same as data` asserts that they are the data's",
            )
        order = labels.mapping(theirs, ours, what=path.name)
    except LabelError as error:
        if wanted.trains:
            return (
                "new",
                None,
                f"its head is for {rows:,} outputs of other or unknown classes: a new one is trained",
            )
        fix = error.fix or (
            "set epochs above 0 to train a new head on your classes, or, where only names differ, give the data's "
            "names in `classes`, in the order of the outputs"
        )
        raise LabelError(error.what, fix) from error
    if order == list(range(rows)):
        return "kept", order, ""
    return "reordered", order, "its classes stand in another order: the head's rows were put into the data's"


def _tensors(value: Any) -> dict[str, Tensor]:
    """The named tensors of an entry; empty if it holds anything else."""
    if not isinstance(value, Mapping):
        return {}
    found = {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, Tensor)}
    return found if len(found) == len(value) else {}


def _first(kind: str, names: list[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:3])
    return f"{len(names)} {kind}" + (f" ({shown}{', ...' if len(names) > 3 else ''})" if names else "")
