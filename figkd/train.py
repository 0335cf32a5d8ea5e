"""One training loop for teacher and student.

Every epoch starts from seeds that are functions of (seed, epoch): the order of the samples, their views, what is mixed
with what, and torch's generator (dropout, stochastic depth). So a state file needs no generator state, and a run that
was killed and taken up again ends with the same bits as an uninterrupted one on the same machine. Nothing in an epoch
waits for the device: metrics are summed on it and read once at the end.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from figkd import resume
from figkd.data.split import Split
from figkd.data.views import Views
from figkd.distributed import ALONE, World
from figkd.ema import Average
from figkd.errors import TrainingError, TrainingPaused
from figkd.evaluate import predict, topk_hits
from figkd.feed import Batch, Feed
from figkd.free_cores import Trial, threads_by_load
from figkd.hashing import derive
from figkd.heap import freed_memory_kept
from figkd.meter import Meter, peak_flops, training_flops
from figkd.mixing import Mixing
from figkd.models import place
from figkd.objective import Compile, Loss, Outcome, compilable, compile_mode
from figkd.optim import OptimizerName, Optimizers, make_optimizer, shares
from figkd.passes import Passes, make_passes
from figkd.progress import Progress, no_progress
from figkd.records import Record, Records
from figkd.replicas import AtOnce
from figkd.replicas import threads as use_threads
from figkd.schedule import STEP_AT, Schedule, ScheduleKind
from figkd.train_check import check
from figkd.trial import leaves_no_trace, step_of_a_copy

_DIVERGED = "lower the learning rate, or clip the gradient"
# Compiling, warming up and recording a CUDA graph: the first passes of each batch size are not timed.
_UNTIMED_PASSES = 3


def train(
    model: nn.Module,
    split: Split,
    *,
    loss: Loss,
    views: Views,
    epochs: int,
    batch_size: int,
    optimizer: OptimizerName = "sgd",
    lr: float,
    weight_decay: float = 5e-4,
    decay_norms: bool = False,
    momentum: float = 0.9,
    nesterov: bool = True,
    schedule: ScheduleKind = "one_cycle",
    warmup_epochs: float = 0.0,
    step_at: Sequence[float] = STEP_AT,
    step_factor: float = 0.1,
    accumulate: int = 1,
    replicas: int = 1,
    threads: int | Literal["auto", "all"] = "all",
    grad_clip: float | None = None,
    ema_decay: float | None = None,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
    amp: Literal["none", "bf16"] = "none",
    compile: Compile = "none",
    val: Split | None = None,
    teacher_logits: npt.NDArray[np.float16] | None = None,
    teacher: nn.Module | None = None,
    state_path: Path | None = None,
    log_path: Path | None = None,
    events_path: Path | None = None,
    pause_after: int | None = None,
    world: World = ALONE,
    progress: Progress = no_progress,
) -> list[Record]:
    """Train `model` in place; the last epoch's weights are what counts (their EMA if `ema_decay` is given).

    With a `world` of several processes, each calls this with the same arguments and takes its share of every step. The
    loss sees the logits of all of them, so the update is that of a single process up to rounding, if the network has no
    dropout and no batch norm (on CUDA batch norm is synchronised, on a CPU it sees its own process's share).

    Args:
        model: takes uint8 [B, H, W, 3], returns [B, C]. Ends on `device`, in eval mode.
        split: training images.
        loss: see `Loss`; an nn.Module is moved to `device`. Teacher logits are passed if there are any.
        views: augmentation; its store_size must be the images'.
        epochs: >= 1. An epoch goes through all samples once, in steps of nearly equal size.
        batch_size: largest number of images in a step, over all micro-batches and processes.
        optimizer: see `figkd.optim.make_optimizer`, as for the next five.
        lr: peak learning rate.
        weight_decay: of matrices.
        decay_norms: decay norms and biases too.
        momentum: of SGD and Muon.
        nesterov: for SGD and Muon.
        schedule: see `figkd.schedule.Schedule`, as for the next three.
        warmup_epochs: may be fractional.
        step_at: for "step": shares of the epochs.
        step_factor: for "step".
        accumulate: micro-batches in a step; batch norm, and a loss that compares images, see one at a time.
        replicas: of the network on a CPU, which take a part of each micro-batch at the same time. Batch norm sees one
            part, the loss all of them. The bits are the same on any number of threads up to `replicas`. On a GPU, and
            in each of several processes, there is one.
        threads: of a CPU. "all": torch's number. "auto": beside other processes fewer, if these are faster when the
            training begins (`figkd.free_cores`), but `replicas` at least. A resumed training keeps the number that it
            began with, up to torch's. Several processes, and networks with code or hooks that are not torch's, timm's,
            torchvision's or of this package, take torch's number.
        grad_clip: largest norm of the whole gradient.
        ema_decay: per step, with warm-up (see `figkd.ema.Average`); the average also becomes what is validated.
        mixup: alpha of mixup, 0 is off; not with `teacher_logits`, which are those of unmixed images.
        cutmix: the same for CutMix.
        seed: of the order, the views and the mixing.
        device: "cpu" or "cuda" (the current one).
        amp: "bf16" runs the model's forward pass under autocast; losses are fp32.
        compile: a mode of torch.compile for the forward and backward pass. "auto": "reduce-overhead" (CUDA graphs)
            on CUDA, "default" there with several processes or micro-batches, "none" on a CPU, or without gcc or clang
            and Python's headers.
        val: evaluated after each epoch (centre crop).
        teacher_logits: float16 [N, V, C] of `figkd.data.logits`, V = len(views).
        teacher: instead of a cache, run on every batch, in eval mode without gradients.
        state_path: written after every epoch; if it exists, training continues from it.
        log_path: JSON lines, one record an epoch, written whole after every epoch.
        events_path: a TensorBoard event file of the same records; needs the tensorboard package.
        pause_after: stop after so many epochs; `state_path` holds what is needed to go on, with the same bits.
        world: the processes that train together; only rank 0 writes and reports progress.
        progress: called with steps done.

    Returns:
        A record per epoch: "epoch" (from 1), "loss", "parts" (of a loss that has several: the mean of each, weights
        included, so that they add up to the loss), "train_top1" (percent, on the augmented views while
        training; of mixed images, their larger part), "val_top1" (percent, or None), "lr" (of its last step), and what
        varies from run to run under "timing" (of training only, without validation; see `figkd.meter.Meter.stop`;
        "threads": of a single process on a CPU, else None).

    Raises:
        TrainingError: arguments that do not fit each other, a loss that is not finite, a trained network whose weights
            or validation logits are not, or a lost process.
        CheckpointError: `state_path` belongs to a run with other arguments. A damaged state file is reported
            as a warning and training starts again.
        TrainingPaused: `pause_after` is reached, and there is more to do.
    """
    check(
        split, epochs=epochs, batch_size=batch_size, accumulate=accumulate, replicas=replicas, threads=threads,
        views=views, cache=teacher_logits, teacher=teacher, mixed=mixup > 0 or cutmix > 0, compile=compile,
        pause_after=pause_after, state_path=state_path, world=world,
    )  # fmt: skip
    run_signature = {
        "count": len(split), "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "lr": lr,
        "weight_decay": weight_decay, "decay_norms": decay_norms, "momentum": momentum, "nesterov": nesterov,
        "schedule": schedule, "warmup_epochs": warmup_epochs, "step_at": list(step_at), "step_factor": step_factor,
        "accumulate": accumulate, "replicas": replicas, "grad_clip": grad_clip, "ema_decay": ema_decay,
        "mixup": mixup, "cutmix": cutmix, "seed": seed, "amp": amp, "compile": compile, "views": views.name,
        "start": resume.start_digest(model, *([loss] if isinstance(loss, nn.Module) else [])),
    }  # fmt: skip
    steps = math.ceil(len(split) / batch_size)
    rates = Schedule(schedule, epochs, steps, warmup_epochs, tuple(step_at), step_factor)
    trained = _for_group(place(model, device), device, world)
    average = None if ema_decay is None else Average(trained, ema_decay)
    # By the arguments alone: the state may go on with another device, or other processes.
    each = shares(trained, optimizer, replicas)
    run_signature |= {"optimizers": len(each)} if len(each) > 1 else {}
    descent = Optimizers([
        make_optimizer(
            trained, optimizer, only=share, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov,
            decay_norms=decay_norms,
        )
        for share in each
    ])  # fmt: skip
    state: dict[str, resume.Part] = {"model": trained, "optimizer": descent}
    state |= {} if average is None else {"average": average}
    history = resume.load(state_path, run_signature, state, world)
    if isinstance(loss, nn.Module):
        loss.to(device)
    if teacher is not None:
        place(teacher, device).eval()
    mode = compile_mode(compile, device, world, accumulate)
    make = partial(
        make_passes, teacher=teacher, replicas=replicas, image_size=views.image_size, averaged=average is not None,
        device=device, amp=amp, world=world,
    )  # fmt: skip
    feed = Feed(
        split, views, teacher_logits, steps=steps, accumulate=accumulate, mixing=Mixing(mixup, cutmix, seed),
        seed=seed, device=device, world=world,
    )  # fmt: skip
    engine = _Engine(
        trained, make(trained, loss, mode=mode), descent, rates, average, feed,
        _meter(trained, teacher, views.image_size, device, amp, world),
        lr=lr, grad_clip=grad_clip, seed=seed, device=device, compiled=mode != "none", world=world,
    )  # fmt: skip
    on_cpu = torch.device(device).type == "cpu"
    alone = on_cpu and world.size == 1
    trial = partial(step_of_a_copy, partial(make, mode="none"), trained, feed)
    with (
        _reproducible(device), compilable(mode), world.watched(),
        freed_memory_kept() if on_cpu else contextlib.nullcontext(),
        Records(log_path, events_path, history, world) as records,
    ):  # fmt: skip
        if history:
            progress(len(history) * steps, rates.steps, f"goes on after epoch {len(history)}/{epochs}")
        plain = alone and leaves_no_trace(*(network for network in (trained, teacher) if network is not None))
        taken = _threads(threads if on_cpu else "all", history, replicas, trial if plain else None)
        for epoch in range(len(history), epochs if pause_after is None else min(pause_after, epochs)):
            with use_threads(taken):
                record = engine.run(epoch, progress)
            record["timing"]["threads"] = taken if alone else None
            record["val_top1"], lost = _validate(engine.best, val, views.image_size, device, world)
            if epoch + 1 == epochs:
                _require_finite(engine.best, lost, 0 if val is None else len(val))
            history.append(record)
            if state_path is not None and world.first:
                resume.save(state_path, run_signature, state, history)
            records.add(record)
            progress((epoch + 1) * steps, rates.steps, _note(record, epochs))
    if len(history) < epochs:
        raise TrainingPaused(history)
    if engine.best is not model:
        model.load_state_dict(engine.best.state_dict())
    model.eval()
    return history


class _Engine:
    """A network in training: runs epochs, and holds what changes from step to step."""

    def __init__(
        self,
        model: nn.Module,
        passes: Passes,
        optimizers: Optimizers,
        rates: Schedule,
        average: Average | None,
        feed: Feed,
        meter: Meter,
        *,
        lr: float,
        grad_clip: float | None,
        seed: int,
        device: str,
        compiled: bool,
        world: World,
    ) -> None:
        self._model, self._passes, self._optimizers = model, passes, optimizers
        self._rates, self._average, self._feed, self._meter = rates, average, feed, meter
        self._lr, self._grad_clip, self._seed, self._device = lr, grad_clip, seed, device
        self._compiled, self._world = compiled, world
        self._passed: Counter[int] = Counter()

    @property
    def best(self) -> nn.Module:
        """The network that counts: the average, if there is one."""
        return self._model if self._average is None else self._average.module

    def run(self, epoch: int, progress: Progress) -> Record:
        """Train for an epoch (from 0)."""
        rank = self._world.rank
        torch.manual_seed(derive(self._seed, epoch, 1, *([rank] if rank else [])))
        self._model.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        part_sums: dict[str, Tensor] = {}
        hits = torch.zeros((), dtype=torch.int64, device=self._device)
        rates = self._rates
        step = epoch * rates.steps_per_epoch
        self._meter.start(self._feed.waited)
        with self._passes.epoch() as (run, at_once):
            for batch in self._feed.epoch(epoch):
                value, logits, parts = self._timed(run, batch)
                loss_sum.add_(value.detach(), alpha=len(batch.labels))
                for name, part in parts.items():
                    part_sums.setdefault(name, torch.zeros_like(loss_sum)).add_(part, alpha=len(batch.labels))
                hits += (logits.detach().argmax(dim=1) == batch.labels).sum()
                if batch.slot.last:
                    self._step(step, at_once)
                    step += 1
                    note = f"epoch {epoch + 1}/{rates.epochs}{self._meter.note()}"
                    progress(step, rates.steps, note)
        mean_loss = float(self._world.add(loss_sum)) / self._feed.count
        mean_parts = {
            name: float(self._world.add(sum_)) / self._feed.count for name, sum_ in part_sums.items()
        }
        top1 = float(self._world.add(hits)) / self._feed.count * 100
        timing = self._meter.stop(self._feed.waited)
        if not math.isfinite(mean_loss):
            raise TrainingError(
                f"the loss is {mean_loss} in epoch {epoch + 1}",
                _DIVERGED,
            )
        rate = self._lr * rates.factor(step - 1)
        logged = {"parts": mean_parts} if len(mean_parts) > 1 else {}
        return {
            "epoch": epoch + 1, "loss": mean_loss, **logged, "train_top1": top1, "lr": rate, "timing": timing
        }  # fmt: skip

    def _timed(self, run: Callable[[Batch], Outcome], batch: Batch) -> Outcome:
        began = time.perf_counter()
        try:
            outcome = run(batch)
        except Exception as error:  # torch.compile has one of its own, with torch's words in it
            if "Expected more than 1 value per channel" not in str(error):  # torch has no type for it
                raise
            raise TrainingError(
                "batch norm sees a single value of each channel: a part of a step has one image",
                "raise batch_size, or lower accumulate, replicas or the number of processes",
            ) from None
        seconds = None
        if self._compiled and self._passed[len(batch.labels)] < _UNTIMED_PASSES:
            self._passed[len(batch.labels)] += 1
            seconds = time.perf_counter() - began
        self._meter.count(batch.slot.images, seconds)
        return outcome

    def _step(self, step: int, at_once: AtOnce) -> None:
        if self._grad_clip is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._grad_clip)
        self._optimizers.step(self._lr * self._rates.factor(step), at_once)
        if self._average is not None:
            self._average.update(step)


def _threads(
    asked: int | Literal["auto", "all"], history: Sequence[Record], replicas: int, trial: Trial | None
) -> int:
    """The number of threads of a training; see `train`."""
    most = torch.get_num_threads()
    if isinstance(asked, int):
        return asked
    if asked == "all":
        return most
    fewest = min(replicas, most)
    if history:  # without a number it had all
        began_with = history[0]["timing"].get("threads") or most
        return max(min(began_with, most), fewest)
    return most if trial is None else threads_by_load(trial, fewest)


def _for_group(model: nn.Module, device: str, world: World) -> nn.Module:
    """The network that a group of processes trains: batch norm sees the whole batch where it can (CUDA)."""
    if world.size == 1 or torch.device(device).type != "cuda":
        return model
    from timm.layers.norm_act import (
        convert_sync_batchnorm,
    )  # torch's own loses the activation in timm's norms

    return cast(nn.Module, convert_sync_batchnorm(copy.deepcopy(model)))  # type: ignore[no-untyped-call]


def _meter(
    model: nn.Module, teacher: nn.Module | None, image_size: int, device: str, amp: str, world: World
) -> Meter:
    parts = [training_flops(model, image_size)]
    parts += [] if teacher is None else [training_flops(teacher, image_size, backward=False)]
    known = [flops for flops in parts if flops is not None]
    peak = peak_flops(device, amp)
    return Meter(
        sum(known) if len(known) == len(parts) else None, None if peak is None else peak * world.size
    )


def _validate(
    model: nn.Module, val: Split | None, image_size: int, device: str, world: World
) -> tuple[float | None, int]:
    """Top-1 in percent, and how many images have logits that are not finite."""
    if val is None or not len(val):
        return None, 0
    start, stop = world.share(len(val))
    world.follow_first(model)  # without synchronisation every process has batch statistics of its own
    counts = torch.zeros(2, dtype=torch.int64, device=device)
    if start < stop:
        logits = predict(model, val.images[start:stop], image_size=image_size, device=device)
        counts[0] += int(topk_hits(logits, val.labels[start:stop]).sum())
        counts[1] += int((~np.isfinite(logits).all(axis=1)).sum())
    hits, lost = world.add(counts).tolist()
    return hits / len(val) * 100, int(lost)


def _require_finite(model: nn.Module, lost: int, images: int) -> None:
    """Refuse what a training ends with if it cannot predict, whatever its loss was."""
    if lost:
        raise TrainingError(
            f"training diverged: the outputs for {lost} of {images} validation images are not finite",
            _DIVERGED,
        )
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise TrainingError(f"training diverged: weights are not finite ({name})", _DIVERGED)


@contextlib.contextmanager
def _reproducible(device: str) -> Iterator[None]:
    """Keep the caller's generators as they are, and cuDNN to algorithms that repeat their results."""
    kind = torch.device(device).type
    gpus = [torch.cuda.current_device()] if kind == "cuda" else []
    cudnn = torch.backends.cudnn
    # Not `cudnn.flags`: that also sets TF32, and fails where the caller has set it for one kind of operator.
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


def _note(record: Record, epochs: int) -> str:
    note = f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.3f}, train {record['train_top1']:.1f} %"
    note += "" if record["val_top1"] is None else f", val {record['val_top1']:.1f} %"
    threads, most = record["timing"]["threads"], torch.get_num_threads()
    return note if threads is None or threads >= most else f"{note}, {threads} of {most} threads"
