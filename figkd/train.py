"""One training loop for teacher and student.

Every epoch starts from seeds that are functions of (seed, epoch): the order of the samples, their views, and
torch's generator (dropout, stochastic depth). So a state file needs no generator state, and a run that was
killed and taken up again ends with the same bits as an uninterrupted one on the same machine. Nothing in an
epoch waits for the device: metrics are summed on it and read once at the end.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from figkd import checkpoint
from figkd.data.store import Split
from figkd.data.views import Views
from figkd.errors import CheckpointError, TrainingError
from figkd.evaluate import predict, topk_accuracy
from figkd.files import write_bytes
from figkd.hashing import derive
from figkd.progress import Progress, no_progress

Record = dict[str, Any]

RESIDENT_BYTES = 4 * 2**30
"""Training images up to this size are kept on the GPU as a whole; larger sets are read batch by batch."""

_STATE_FORMAT = 1


class Loss(Protocol):
    """What `train` calls: a scalar of student logits [B, C], teacher logits [B, C] or None, labels [B]."""

    def __call__(self, student: Tensor, teacher: Tensor | None, labels: Tensor, /) -> Tensor:
        """Scalar loss."""
        ...


def train(
    model: nn.Module,
    split: Split,
    *,
    loss: Loss,
    views: Views,
    epochs: int,
    batch_size: int,
    optimizer: Literal["sgd", "adamw"] = "sgd",
    lr: float,
    weight_decay: float = 5e-4,
    momentum: float = 0.9,
    schedule: Literal["cosine", "one_cycle", "step"] = "one_cycle",
    warmup_epochs: float = 0.0,
    step_epochs: tuple[int, ...] = (),
    step_factor: float = 0.1,
    grad_clip: float | None = None,
    ema_decay: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    amp: Literal["none", "bf16"] = "none",
    val: Split | None = None,
    teacher_logits: npt.NDArray[np.float16] | None = None,
    teacher: nn.Module | None = None,
    state_path: Path | None = None,
    log_path: Path | None = None,
    progress: Progress = no_progress,
) -> list[Record]:
    """Train `model` in place; the last epoch's weights are what counts (their EMA if `ema_decay` is given).

    Args:
        model: takes uint8 [B, H, W, 3], returns [B, C]. Ends on `device`, in eval mode.
        split: training images.
        loss: see `Loss`; an nn.Module is moved to `device`. Teacher logits are passed if there are any.
        views: augmentation; its store_size must be the images'.
        epochs: >= 1. An epoch goes through all samples once, in batches of nearly equal size.
        batch_size: largest batch.
        optimizer: "sgd" (Nesterov momentum) or "adamw".
        lr: peak learning rate.
        weight_decay: for weights with two or more dimensions; norms and biases are not decayed.
        momentum: of SGD.
        schedule: "cosine": warm up linearly, then half a cosine to 0. "one_cycle": up linearly for 25 % of
            the steps (or `warmup_epochs`, if given), down linearly to 0. "step": warm up, then times
            `step_factor` at the start of each epoch of `step_epochs`.
        warmup_epochs: may be fractional.
        step_epochs: for "step", ascending, counted from 0.
        step_factor: for "step".
        grad_clip: largest norm of the whole gradient.
        ema_decay: per step; the average also becomes what is validated.
        seed: of the order and the views.
        device: "cpu" or "cuda".
        amp: "bf16" runs the model's forward pass under autocast.
        val: evaluated after each epoch (centre crop).
        teacher_logits: float16 [N, V, C] of `figkd.data.logits`, V = len(views).
        teacher: instead of a cache, run on every batch, in eval mode without gradients.
        state_path: written after every epoch; if it exists, training continues from it.
        log_path: JSON lines, one record an epoch, written whole after every epoch.
        progress: called with steps done.

    Returns:
        A record per epoch: "epoch" (from 1), "loss", "train_top1" (percent, on the augmented views while
        training), "val_top1" (percent, or None), "lr" (of its last step), and what varies from run to run
        under "timing": "seconds", "images_per_s" (training only, without validation).

    Raises:
        TrainingError: arguments that do not fit each other, or a loss that is not finite.
        CheckpointError: `state_path` belongs to a run with other arguments. A damaged state file is reported
            as a warning and training starts again.
    """
    count = len(split)
    _check(count, epochs, batch_size, views, split, teacher_logits, teacher, schedule, optimizer)
    steps_per_epoch = math.ceil(count / batch_size)
    total_steps = epochs * steps_per_epoch
    _place(model, device)
    if isinstance(loss, nn.Module):
        loss.to(device)
    if teacher is not None:
        _place(teacher, device).eval()
    average = None if ema_decay is None else _frozen_copy(model)
    descent = _optimizer(model, optimizer, lr, weight_decay, momentum)
    told = {
        "count": count, "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "lr": lr,
        "weight_decay": weight_decay, "momentum": momentum, "schedule": schedule,
        "warmup_epochs": warmup_epochs, "step_epochs": list(step_epochs), "step_factor": step_factor,
        "grad_clip": grad_clip, "ema_decay": ema_decay, "seed": seed, "amp": amp, "views": views.name,
        "start": _start_digest(model, loss),
    }  # fmt: skip
    history: list[Record] = []
    if state_path is not None and state_path.exists():
        history = _resume(state_path, told, model, average, descent)
        _write_log(log_path, history)
    batches = _Batches(split, device)
    with _reproducible(device):
        for epoch in range(len(history), epochs):
            began = time.perf_counter()
            torch.manual_seed(derive(seed, epoch, 1))
            model.train()
            order = torch.randperm(count, generator=torch.Generator().manual_seed(derive(seed, epoch, 2)))
            view_ids = views.schedule(epoch, count)
            # Once an epoch: a copy per step would make the host wait for the device.
            order_there, views_there = order.to(device), view_ids.to(device)
            chunks = zip(
                torch.tensor_split(order, steps_per_epoch),
                torch.tensor_split(order_there, steps_per_epoch),
                strict=True,
            )
            loss_sum = torch.zeros((), dtype=torch.float64, device=device)
            hits = torch.zeros((), dtype=torch.int64, device=device)
            rate = lr
            for index, (ids, there) in enumerate(chunks):
                step = epoch * steps_per_epoch + index
                rate = lr * _factor(
                    schedule, step, total_steps, steps_per_epoch, warmup_epochs, step_epochs, step_factor
                )
                for group in descent.param_groups:
                    group["lr"] = rate
                images, labels = batches.take(ids, there)
                seen = views.apply(images, views_there[there], there)
                soft = _teacher_logits(teacher_logits, teacher, ids, view_ids[ids], seen, device, amp)
                with _autocast(device, amp):
                    logits = model(seen)
                value = loss(logits, soft, labels)
                descent.zero_grad(set_to_none=True)
                value.backward()  # type: ignore[no-untyped-call]
                if grad_clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
                descent.step()
                if average is not None and ema_decay is not None:
                    _update_average(average, model, ema_decay)
                loss_sum += value.detach().double() * len(ids)
                hits += (logits.detach().argmax(dim=1) == labels).sum()
                progress(step + 1, total_steps, f"epoch {epoch + 1}/{epochs}")
            mean_loss, top1 = float(loss_sum) / count, float(hits) / count * 100
            seconds = time.perf_counter() - began
            if not math.isfinite(mean_loss):
                raise TrainingError(
                    f"the loss is {mean_loss} in epoch {epoch + 1}",
                    "lower the learning rate, or clip the gradient",
                )
            record: Record = {
                "epoch": epoch + 1,
                "loss": mean_loss,
                "train_top1": top1,
                "val_top1": _validate(average or model, val, views.image_size, device),
                "lr": rate,
                "timing": {"seconds": seconds, "images_per_s": count / seconds},
            }
            history.append(record)
            if state_path is not None:
                _save_state(state_path, told, model, average, descent, history)
            _write_log(log_path, history)
            progress(step + 1, total_steps, _note(record, epochs))
    if average is not None:
        model.load_state_dict(average.state_dict())
    model.eval()
    return history


def _place(model: nn.Module, device: str) -> nn.Module:
    if getattr(model, "channels_last", True):
        model.to(memory_format=torch.channels_last)
    return model.to(device)


class _Batches:
    """Images and labels by index: resident on the device when they are few, else read from the map."""

    def __init__(self, split: Split, device: str) -> None:
        self._images, self._device = split.images, device
        self._resident: Tensor | None = None
        if device != "cpu" and split.images.nbytes <= RESIDENT_BYTES:
            self._resident = torch.from_numpy(np.array(split.images)).to(device)
        self._labels = torch.from_numpy(np.array(split.labels)).to(device)

    def take(self, ids: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, S, S, 3] and labels [B] on the device; the ids come on the CPU and on the device."""
        if self._resident is not None:
            return self._resident[there], self._labels[there]
        return _send(torch.from_numpy(self._images[ids.numpy()]), self._device), self._labels[there]


def _send(tensor: Tensor, device: str) -> Tensor:
    if device == "cpu":
        return tensor
    # Only copies from pinned memory go without waiting.
    return tensor.pin_memory().to(device, non_blocking=True)


def _teacher_logits(
    cache: npt.NDArray[np.float16] | None,
    teacher: nn.Module | None,
    ids: Tensor,
    view_ids: Tensor,
    seen: Tensor,
    device: str,
    amp: str,
) -> Tensor | None:
    if cache is not None:
        return _send(torch.from_numpy(cache[ids.numpy(), view_ids.numpy()]).float(), device)
    if teacher is None:
        return None
    with torch.no_grad(), _autocast(device, amp):
        return cast(Tensor, teacher(seen)).float()


def _optimizer(
    model: nn.Module, name: str, lr: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise TrainingError("the model has no parameters to train")
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(groups, lr=lr)


def _factor(
    kind: str,
    step: int,
    total: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    step_epochs: tuple[int, ...],
    step_factor: float,
) -> float:
    """Learning rate at a step, in peaks: a function of the step alone, so there is nothing to store."""
    warmup = warmup_epochs * steps_per_epoch
    if kind == "one_cycle" and warmup_epochs == 0:
        warmup = 0.25 * total
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "step":
        return float(step_factor ** sum(step >= epoch * steps_per_epoch for epoch in step_epochs))
    # 1 at the end of the warm-up; 0 would be reached one step after the last.
    left = (total - step) / max(total - warmup, 1.0)
    return min(1.0, left) if kind == "one_cycle" else 0.5 - 0.5 * math.cos(math.pi * min(1.0, left))


def _frozen_copy(model: nn.Module) -> nn.Module:
    average = copy.deepcopy(model).eval()
    for parameter in average.parameters():
        parameter.requires_grad_(False)
    return average


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for kept, new in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(new)


def _validate(model: nn.Module, val: Split | None, image_size: int, device: str) -> float | None:
    if val is None or not len(val):
        return None
    logits = predict(model, val.images, image_size=image_size, device=device)
    return topk_accuracy(logits, val.labels)


def _autocast(device: str, amp: str) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=amp == "bf16")


@contextlib.contextmanager
def _reproducible(device: str) -> Iterator[None]:
    """Keep the caller's generators as they are, and cuDNN to algorithms that repeat their results."""
    kind = torch.device(device).type
    gpus = [torch.cuda.current_device()] if kind == "cuda" else []
    with (
        torch.random.fork_rng(devices=gpus),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        yield


def _start_digest(model: nn.Module, loss: Loss) -> str:
    """Digest of the initial weights and the loss's buffers: a state file must not continue another run."""
    digest = hashlib.sha256()
    modules = [("model", model)] + ([("loss", loss)] if isinstance(loss, nn.Module) else [])
    for part, module in modules:
        tensors = [*module.named_parameters(), *module.named_buffers()]
        for name, tensor in tensors:
            digest.update(f"{part}.{name}{tuple(tensor.shape)}".encode())
            flat = tensor.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _save_state(
    path: Path,
    told: dict[str, Any],
    model: nn.Module,
    average: nn.Module | None,
    descent: torch.optim.Optimizer,
    history: list[Record],
) -> None:
    state = {
        "format": _STATE_FORMAT,
        "told": told,
        "model": model.state_dict(),
        "average": None if average is None else average.state_dict(),
        "optimizer": descent.state_dict(),
        "history": history,
    }
    body = checkpoint.to_bytes(state)
    # torch's format does not notice every flipped byte; the digest does.
    write_bytes(path, hashlib.sha256(body).digest() + body)


def _resume(
    path: Path,
    told: dict[str, Any],
    model: nn.Module,
    average: nn.Module | None,
    descent: torch.optim.Optimizer,
) -> list[Record]:
    data = path.read_bytes()
    digest, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != digest:
        warnings.warn(f"the training state {path} is damaged: starting again", stacklevel=3)
        return []
    state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    if state.get("format") != _STATE_FORMAT or state["told"] != told:
        other = [name for name in told if state.get("told", {}).get(name) != told[name]]
        raise CheckpointError(
            f"the training state {path} belongs to another run (differs in: {', '.join(other) or 'format'})",
            "delete it, or give the same arguments",
        )
    model.load_state_dict(state["model"])
    if average is not None:
        average.load_state_dict(state["average"])
    descent.load_state_dict(state["optimizer"])
    return cast("list[Record]", state["history"])


def _write_log(path: Path | None, history: list[Record]) -> None:
    if path is not None:
        write_bytes(path, "".join(json.dumps(record) + "\n" for record in history).encode())


def _note(record: Record, epochs: int) -> str:
    note = f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.3f}, train {record['train_top1']:.1f} %"
    return note if record["val_top1"] is None else f"{note}, val {record['val_top1']:.1f} %"


def _check(
    count: int,
    epochs: int,
    batch_size: int,
    views: Views,
    split: Split,
    cache: npt.NDArray[np.float16] | None,
    teacher: nn.Module | None,
    schedule: str,
    optimizer: str,
) -> None:
    if count < 2 or epochs < 1 or batch_size < 2:
        raise TrainingError(
            f"{count} images, {epochs} epochs, batches of {batch_size}", "at least 2, 1 and 2 are needed"
        )
    if split.images.shape[1] != views.store_size:
        raise TrainingError(f"images of {split.images.shape[1]} px but views of {views.store_size} px")
    if schedule not in ("cosine", "one_cycle", "step"):
        raise TrainingError(f"unknown schedule {schedule!r}", "cosine, one_cycle or step")
    if optimizer not in ("sgd", "adamw"):
        raise TrainingError(f"unknown optimizer {optimizer!r}", "sgd or adamw")
    if cache is not None and teacher is not None:
        raise TrainingError("both cached and online teacher logits", "give one of them")
    if cache is not None and cache.shape[:2] != (count, len(views)):
        raise TrainingError(
            f"teacher logits {cache.shape} for {count} images with {len(views)} views", "make them again"
        )
