"""The names of weights in files of others, brought to those of a network by rule; none is guessed.

A wrapper (DataParallel, torch.compile, Lightning, a moving average) puts a prefix before every name, which is taken
off. EfficientNet-PyTorch numbers its blocks through and names their layers otherwise than timm: one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

OURS = "backbone."
"""Prefix of the wrapped network's names in the state of an `ImageClassifier`."""

_COUNTERS = ("n_averaged", "num_averaged")  # of torch's and others' averaged models
_TRAINING_ONLY = ("AuxLogits.", "aux1.", "aux2.")  # heads that `build_model` leaves out
_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_EXPANDING = _SQUEEZE | {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_PLAIN = _SQUEEZE | {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def renamed(names: Iterable[str], expected: Iterable[str]) -> dict[str, str]:
    """For each name of a file, the network's: as far as a rule gives one, not necessarily one that is expected.

    Args:
        names: of the file.
        expected: of an `ImageClassifier`; those of its backbone begin with `backbone.`.

    Returns:
        By the file's name; what only training needs is absent.
    """
    wanted = set(expected)
    inner = {name.removeprefix(OURS) for name in wanted if name.startswith(OURS)}
    found = {name: name for name in names if name not in _COUNTERS}
    for known, prefix in ((wanted, ""), (inner, OURS)):
        short = _stripped(found, known)
        if not known.isdisjoint(short.values()):
            return {
                name: prefix + new
                for name, new in short.items()
                if not new.startswith(_TRAINING_ONLY) or new in known
            }
    short = _stripped(found, set())
    if "_conv_stem.weight" in short.values() and "conv_stem.weight" in inner:
        return {name: OURS + new for name, new in _from_efficientnet_pytorch(short, inner).items()}
    return found


def _stripped(names: Mapping[str, str], known: set[str]) -> dict[str, str]:
    """Names without the first parts that all of them share, until one of them is known."""
    found = dict(names)
    while found and known.isdisjoint(found.values()):
        first = {new.partition(".")[0] for new in found.values()}
        if len(first) > 1 or not all("." in new for new in found.values()):
            break
        found = {name: new.partition(".")[2] for name, new in found.items()}
    return found


def _from_efficientnet_pytorch(names: Mapping[str, str], inner: Iterable[str]) -> dict[str, str]:
    """`_blocks.4._bn0.weight` as `blocks.2.1.bn1.weight`: timm counts within stages, norms from 1."""
    order = sorted({tuple(map(int, n.split(".")[1:3])) for n in inner if n.startswith("blocks.")})
    given = set(names.values())
    found = {}
    for name, old in names.items():
        parts = old.split(".")
        if parts[0] != "_blocks":
            found[name] = ".".join([_OUTER.get(parts[0], parts[0]), *parts[1:]])
            continue
        number = int(parts[1]) if parts[1].isdecimal() else len(order)
        layers = _EXPANDING if f"_blocks.{number}._expand_conv.weight" in given else _PLAIN
        if number >= len(order) or len(parts) < 4:
            found[name] = old
            continue
        stage, block = order[number]
        found[name] = ".".join(["blocks", str(stage), str(block), layers.get(parts[2], parts[2]), *parts[3:]])
    return found
