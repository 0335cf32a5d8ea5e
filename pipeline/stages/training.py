"""What `teacher` and `distill` have in common: the keys of a training run, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figkd.data.view_kinds import view_count
from figkd.records import Record
from pipeline.config.schema import Training
from pipeline.core.files import write_json
from pipeline.stages.base import Arguments, Work

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from figkd.data import SplitName
    from figkd.data.views import Views
    from figkd.models import ImageClassifier

# Timing differs from run to run; the rest of a training's record does not.
VOLATILE = frozenset({"timing.json", "log.jsonl", "events/events.out.tfevents.figkd"})
TRAINING_KEYS = (
    "epochs", "batch_size", "accumulate", "replicas", "threads", "optimizer", "lr", "momentum", "nesterov",
    "weight_decay", "decay_norms", "schedule", "step_at", "step_factor", "warmup_epochs", "grad_clip", "ema_decay",
    "label_smoothing", "mixup", "cutmix", "amp", "compile", "tensorboard",
)  # fmt: skip


def training_arguments(section: Training) -> Arguments:
    """The plain training keys of a section."""
    return {key: getattr(section, key) for key in TRAINING_KEYS} | {"views": views_arguments(section)}


def views_arguments(section: Training) -> Arguments:
    """The view set of a section: as many views as it has epochs, if it does not say."""
    views = section.views
    count = view_count(views.kind, views.pad, views.count, section.epochs)
    return {"kind": views.kind, "pad": views.pad, "count": count}


def split_timing(history: list[Record], out: Path) -> None:
    """Write a training's history without its timing, and the timing beside it."""
    write_json(
        out / "history.json", [{k: v for k, v in record.items() if k != "timing"} for record in history]
    )
    write_json(out / "timing.json", [record.get("timing", {}) for record in history])


def pick_device() -> str:
    """`cuda` if there is a usable GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def pick_amp(amp: str, device: str) -> str:
    """Resolve `auto`: bf16 where the GPU computes in it. Before Ampere torch emulates it, which is slower than fp32."""
    import torch

    if amp != "auto":
        return amp
    native = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "none"


def train_options(arguments: Mapping[str, Any], work: Work) -> Arguments:
    """The keyword arguments of `figkd.train.train` that teacher and student take from their sections alike."""
    from figkd.events import EVENTS

    device = pick_device()
    elsewhere = {"label_smoothing", "amp", "tensorboard"}
    return {key: arguments[key] for key in TRAINING_KEYS if key not in elsewhere} | {
        "seed": arguments["seed"],
        "amp": pick_amp(arguments["amp"], device),
        "device": device,
        "state_path": work.scratch / "state.pt",
        "log_path": work.out / "log.jsonl",
        "events_path": work.out / "events" / EVENTS if arguments["tensorboard"] else None,
        "progress": work.progress,
        "world": work.world,
    }


def views_of(arguments: Mapping[str, Any], store_size: int, seed: int) -> Views:
    """The view set that `views_arguments` describes."""
    from figkd.data.views import make_views

    views = arguments["views"]
    return make_views(
        views["kind"],
        image_size=arguments["image_size"],
        store_size=store_size,
        pad=views["pad"],
        count=views["count"],
        seed=seed,
    )


def keep_network(
    work: Work, model: ImageClassifier, history: list[Record], said: Mapping[str, Any]
) -> npt.NDArray[np.float32]:
    """Write a network's checkpoint, history and scores (with `said` added); return its test logits [N, C].

    Raises:
        TrainingError: its outputs are not finite.
    """
    from dataclasses import asdict

    import numpy as np

    from export.accuracy import accuracy
    from figkd import checkpoint
    from figkd.data import class_names, open_split
    from figkd.errors import TrainingError
    from figkd.evaluate import predict
    from figkd.models import parameter_count

    name, data = work.arguments["model"], work.inputs["data"]
    names = class_names(data)
    facts: dict[str, Any] = {"model": name, "parameters": parameter_count(model), **said}
    parts: tuple[SplitName, ...] = ("val", "test")
    for part in parts:
        split = open_split(data, part)
        logits = predict(model, split.images, image_size=work.arguments["image_size"], device=pick_device())
        if lost := int((~np.isfinite(logits).all(axis=1)).sum()):
            raise TrainingError(
                f"{name} gives outputs that are not finite on {lost} of {len(logits)} {part} images",
                "lower the learning rate, or clip the gradient" if history else "take other weights",
            )
        facts[part] = asdict(accuracy(logits, split.labels, names))
    checkpoint.save(work.out / "model.pt", model.state_dict(), {"model": name, "classes": names})
    split_timing(history, work.out)
    write_json(work.out / "metrics.json", facts)
    return logits
