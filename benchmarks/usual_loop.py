"""The usual distillation loop, re-created: what the public code bases do for every batch.

Modelled on megvii-research/mdistiller (`engine/trainer.py`, `dataset/cifar100.py`, `distillers/KD.py`), rewritten:
samples become PIL images, torchvision augments, converts and normalises them one by one in two DataLoader workers; the
teacher runs on every batch in eval mode without gradients; fp32, NCHW, plain SGD; loss and accuracies are read back
after every step. Its networks are those of the loop that it is compared with, without their normalisation layer.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from figkd.models import ImageClassifier

WORKERS = 2


class Samples(Dataset[tuple[Tensor, int, int]]):
    def __init__(
        self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], model: ImageClassifier, pad: int
    ) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=pad),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(model.mean.tolist(), model.std.tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index]), index


class Average:
    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, value: float, count: int) -> None:
        self.total += value * count
        self.count += count

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)


def accuracies(logits: Tensor, labels: Tensor, ranks: tuple[int, ...]) -> list[Tensor]:
    """Top-k accuracies in percent, each a tensor on the device."""
    best = logits.topk(min(max(ranks), logits.shape[1]), dim=1).indices.t()
    hits = best.eq(labels.view(1, -1).expand_as(best))
    return [hits[:rank].reshape(-1).float().sum() * (100.0 / len(labels)) for rank in ranks]


class UsualLoop:
    """Runs steps of the loop; keeps its workers and its state between calls.

    Args:
        student: copied.
        teacher: copied.
        loss: of student logits, teacher logits and labels.
        images: uint8 [N, S, S, 3].
        labels: int64 [N].
        batch_size: images in a step.
        steps: steps that will be run in all.
        device: "cpu" or "cuda".
        pad: of the random crop, pixels.
    """

    def __init__(
        self,
        student: ImageClassifier,
        teacher: ImageClassifier,
        loss: nn.Module,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        *,
        batch_size: int,
        steps: int,
        device: str,
        pad: int = 4,
    ) -> None:
        self.student = (
            copy.deepcopy(student.backbone).to(device, memory_format=torch.contiguous_format).train()
        )
        self.teacher = (
            copy.deepcopy(teacher.backbone).to(device, memory_format=torch.contiguous_format).eval()
        )
        self.loss, self.device = copy.deepcopy(loss).to(device), device
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        samples = Samples(images, labels, student, pad)
        # One long epoch, so that starting the workers is paid once, before anything is timed.
        sampler = RandomSampler(samples, replacement=True, num_samples=steps * batch_size)
        # Workers are forked, as in the usual script, whichever way this process was started.
        self.loader = DataLoader(
            samples, batch_size, sampler=sampler, num_workers=WORKERS, multiprocessing_context="fork"
        )
        self.batches: Iterator[list[Tensor]] = iter(self.loader)
        self.meters = {name: Average() for name in ("loss", "top1", "top5")}
        self.message = ""

    def run(self, steps: int) -> tuple[float, float]:
        """Run some steps; the seconds that they took, and the CPU seconds of this process and its workers."""
        # What the usual scripts set; a caller may have asked for repeatable kernels around this call.
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False),
            torch.enable_grad(),
        ):
            self._wait()
            began, began_cpu = time.perf_counter(), self._cpu_seconds()
            for _ in range(steps):
                self._step()
            self._wait()
            return time.perf_counter() - began, self._cpu_seconds() - began_cpu

    def _step(self) -> None:
        images, labels, _ = next(self.batches)
        self.optimizer.zero_grad()
        images = images.float().to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        logits = self.student(images)
        with torch.no_grad():
            soft = self.teacher(images)
        loss = self.loss(logits, soft, labels)
        loss.backward()
        self.optimizer.step()
        top1, top5 = accuracies(logits, labels, (1, 5))
        self.meters["loss"].update(loss.item(), len(labels))
        self.meters["top1"].update(top1.item(), len(labels))
        self.meters["top5"].update(top5.item(), len(labels))
        self.message = " ".join(f"{name} {meter.mean:.3f}" for name, meter in self.meters.items())

    def _cpu_seconds(self) -> float:
        workers = [Path(f"/proc/{child.pid}/stat") for child in multiprocessing.active_children()]
        fields = [path.read_text().rpartition(")")[2].split() for path in workers if path.is_file()]
        ticks = sum(int(field[11]) + int(field[12]) for field in fields)  # user and system, see proc(5)
        return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()
