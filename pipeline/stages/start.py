"""How a network begins: at random, from published weights, or from somebody's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.schema import DeployConfig, Network
from pipeline.stages.base import Arguments, Source, Work
from pipeline.stages.networks import located, network_name, network_sources

if TYPE_CHECKING:
    from figkd.models import ImageClassifier

SAME = "same as data"


@dataclass(frozen=True)
class Start:
    """What a network starts from.

    `classes` are those of the weights, by output: names, a file of names, `same as data`, or None if nobody says.
    """

    model: str
    image_size: int
    seed: int
    trains: bool
    pretrained: bool
    checkpoint: Path | None
    classes: Sequence[str] | Path | None
    mean: Sequence[float] | None
    std: Sequence[float] | None


def start_arguments(network: Network) -> Arguments:
    """The keys that decide how a network begins; of files, what is read counts as a source."""
    if network.checkpoint is None and network.classes is None:
        return {"pretrained": network.pretrained}
    named = None if isinstance(network.classes, Path) else network.classes
    return {
        "pretrained": network.pretrained, "classes": named, "mean": network.mean, "std": network.std,
    }  # fmt: skip


def start_sources(network: Network) -> Mapping[str, Source]:
    """The files of the user's that a network begins from; among them its code, where that is the user's own."""
    files = {"checkpoint": network.checkpoint, "classes": network.classes}
    given = {name: _source(file) for name, file in files.items() if isinstance(file, Path)}
    return given | network_sources(network)


def _source(file: Path) -> Source:
    return Source(file, lambda: [file])


def start_of(work: Work, *, trains: bool) -> Start:
    """The start that a stage's arguments and sources describe."""
    arguments = work.arguments
    return Start(
        model=network_name(work, arguments["model"]), image_size=arguments["image_size"],
        seed=arguments["seed"], trains=trains,
        pretrained=arguments["pretrained"], checkpoint=work.sources.get("checkpoint"),
        classes=work.sources.get("classes") or arguments.get("classes"),
        mean=arguments.get("mean"), std=arguments.get("std"),
    )  # fmt: skip


def start_in(config: DeployConfig, network: Network, *, trains: bool) -> Start:
    """The start of a config's teacher or student."""
    return Start(
        model=located(network.model, network.code), image_size=config.data.image_size, seed=config.seed, trains=trains,
        pretrained=network.pretrained, checkpoint=network.checkpoint, classes=network.classes, mean=network.mean,
        std=network.std,
    )  # fmt: skip


def begin(start: Start, classes: Sequence[str]) -> tuple[ImageClassifier, str]:
    """A network for the data's `classes`, and what a user should know of its weights, in words.

    Random weights follow from the seed.

    Raises:
        FigkdError: the weights are of another network or of other classes, or cannot be had.
    """
    import torch

    from figkd import weights
    from figkd.errors import LabelError
    from figkd.models import build_model, published

    theirs = _named(start.classes, classes)
    torch.manual_seed(start.seed)
    as_published = start.pretrained and not start.trains
    if as_published and (facts := published(start.model)) and facts.classes != len(classes):
        raise LabelError(
            f"the published weights of {start.model} have {facts.classes} outputs, the data {len(classes)} classes",
            "train the network on your classes: epochs of 1 or more",
        )
    model = build_model(start.model, len(classes), image_size=start.image_size, pretrained=start.pretrained)
    if start.checkpoint is not None:
        wanted = weights.Wanted(classes, theirs, start.trains, start.mean, start.std)
        found = weights.fit(
            model, start.model, weights.read(start.checkpoint), wanted,
            path=start.checkpoint, image_size=start.image_size,
        )  # fmt: skip
        return model, found.said
    if as_published and theirs is not None:
        weights.reorder_head(model, start.model, theirs, classes, image_size=start.image_size)
    return model, ""


def _named(given: Sequence[str] | Path | None, ours: Sequence[str]) -> Sequence[str] | None:
    from figkd.labels import read_names

    if isinstance(given, Path):
        return read_names(given)
    return ours if given == SAME else given
