"""Checks of training: losses, precision, compilation, cached logits and resuming on the device against the CPU."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.checks import Found, NotRun, Options, demand
from benchmarks.gpu.stand_in import annotations_at_least

annotations_at_least()
sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks find each other without a package

from device import PAD, PAIRS, SIDE, facts, make_pair  # noqa: E402

from figkd.data.logits import cache_logits, open_logits  # noqa: E402
from figkd.data.split import Split  # noqa: E402
from figkd.data.views import Views, make_views  # noqa: E402
from figkd.loss.build import build_loss  # noqa: E402
from figkd.loss.methods import METHODS  # noqa: E402
from figkd.models import ImageClassifier, build_model  # noqa: E402
from figkd.train import train  # noqa: E402


@dataclass(frozen=True)
class Setting:
    """Where and how much.

    Attributes:
        device: "cuda" or "cpu".
        tiny: little data and small networks.
    """

    device: str
    tiny: bool

    @property
    def pair(self) -> str:
        return "fonts" if self.tiny else "cifar"

    @property
    def classes(self) -> int:
        return PAIRS[self.pair][2]

    @property
    def compiles(self) -> bool:
        """A compiler takes minutes of a CPU; there it is tried by `compile` alone."""
        return self.device != "cpu"

    def data(self) -> tuple[ImageClassifier, Split]:
        """A teacher that learnt a little, so that its logits and statistics are those of a network in use."""
        teacher, _, split = make_pair(self.pair, 64 if self.tiny else 2048)
        train(
            teacher, split, loss=build_loss("ce", self.classes), views=self.views(1), epochs=1, batch_size=32,
            lr=0.05, device=self.device,
        )  # fmt: skip
        return teacher.cpu(), split

    def student(self) -> ImageClassifier:
        torch.manual_seed(1)
        return build_model(PAIRS[self.pair][1], self.classes, image_size=SIDE)

    def views(self, count: int) -> Views:
        return make_views("shift_flip", image_size=SIDE, store_size=SIDE, pad=PAD, count=count)

    def train(
        self, split: Split, *, epochs: int = 3, method: str = "kd", **more: Any
    ) -> tuple[Any, list[Any]]:
        model = self.student()
        options: dict[str, Any] = {
            "loss": build_loss(method, self.classes), "views": self.views(epochs), "epochs": epochs,
            "batch_size": 16 if self.tiny else 64, "lr": 0.02, "schedule": "cosine", "device": self.device,
        }  # fmt: skip
        history = train(model, split, **options | more)
        return model.cpu(), history


# Options of FiGKD whose loss is computed in another way, and their numbers of classes.
FIGKD: dict[str, tuple[int, dict[str, Any]]] = {
    "default": (100, {}),
    "one of many classes": (1003, {}),
    "class tree": (100, {"distance": "kl", "temperature": 2.0, "weight": 1.0, "level": "full"}),
    "class tree, many classes": (
        1003,
        {"distance": "kl", "temperature": 2.0, "weight": 1.0, "level": "full"},
    ),
    "smooth": (100, {"distance": "smooth_l1", "wavelet": "db2"}),
    "cosine, standardised": (100, {"distance": "cosine", "domain": "standardised"}),
    "detail alone": (100, {"batch_weight": 0.0}),
}


def _agrees(loss: torch.nn.Module, classes: int, setting: Setting) -> Found:
    """Value and gradient of a loss on the device against the CPU, and its value of half-precision logits."""
    batch = 8 if setting.tiny else 64
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(batch, classes, generator=generator) for _ in range(2))
    labels = torch.randint(0, classes, (batch,), generator=generator)
    values, gradients = [], []
    for device in ("cpu", setting.device):
        logits = student.to(device, copy=True).requires_grad_(True)
        value = loss.to(device)(logits, teacher.to(device), labels.to(device))
        value.backward()
        values.append(float(value.detach()))
        assert logits.grad is not None
        gradients.append(logits.grad.cpu())
    there = labels.to(setting.device)
    half = [
        float(loss(student.to(setting.device, kind), teacher.to(setting.device, kind), there))
        for kind in (torch.float16, torch.bfloat16)
    ]
    error = abs(values[1] - values[0]) / max(abs(values[0]), 1e-6)
    slope = float((gradients[1] - gradients[0]).abs().max() / gradients[0].abs().max())
    near = all(abs(value - values[0]) < 0.1 * abs(values[0]) for value in half)
    return {
        "cpu": values[0], "device": values[1], "relative_error": error, "gradient_relative_error": slope,
        "fp16_input": half[0], "bf16_input": half[1], "agrees": error < 1e-4 and slope < 1e-4 and near,
    }  # fmt: skip


def losses(setting: Setting) -> Found:
    """Value and gradient of every method but FiGKD on the device against the CPU; half-precision input."""
    rows = {
        name: _agrees(build_loss(name, setting.classes), setting.classes, setting)
        for name, method in METHODS.items()
        if not method.uses_order
    }
    return demand(all(row["agrees"] for row in rows.values()), "the device differs", {"methods": rows})


def figkd(setting: Setting) -> Found:
    """The same of FiGKD in every way that it is computed in, and its default compiled in one graph."""
    rows = {}
    for name, (classes, options) in FIGKD.items():
        order = np.random.default_rng(0).permutation(classes)
        rows[name] = _agrees(build_loss("figkd", classes, order=order, **options), classes, setting)
    loss = build_loss("figkd", 100, order=np.random.default_rng(0).permutation(100)).to(setting.device)
    student, teacher = (torch.randn(32, 100, device=setting.device) for _ in range(2))
    labels = torch.zeros(32, dtype=torch.int64, device=setting.device)
    eager = float(loss(student, teacher, labels))
    found: Found = {"ways": rows}
    if setting.compiles:
        graph = float(torch.compile(loss, fullgraph=True)(student, teacher, labels))
        found["in_one_graph_relative_error"] = abs(graph - eager) / abs(eager)
    return demand(
        all(row["agrees"] for row in rows.values()) and found.get("in_one_graph_relative_error", 0) < 1e-4,
        "the device differs",
        found,
    )


def cache(setting: Setting) -> Found:
    """Views and cached logits made on the device against those of the CPU; cached against online training."""
    teacher, split = setting.data()
    images, ids = torch.from_numpy(split.images[:64]), torch.arange(64)
    shifts = setting.views(3)
    crops = make_views("random_resized_crop", image_size=24, store_size=SIDE, count=3)
    gaps = {}
    for name, views in (("shifts", shifts), ("crops", crops)):
        here, there = (
            views.apply(images.to(d), (ids % 3).to(d), ids.to(d)).cpu().int() for d in ("cpu", setting.device)
        )
        gap = (here - there).abs()
        gaps[name] = {"largest_grey_level": int(gap.max()), "share": float((gap > 0).float().mean())}
    with tempfile.TemporaryDirectory() as folder:
        seconds, cached = {}, {}
        for device in dict.fromkeys(("cpu", setting.device)):
            began = time.perf_counter()
            path = cache_logits(teacher, split.images, shifts, Path(folder) / f"{device}.npy", device=device)
            seconds[device] = time.perf_counter() - began
            cached[device] = np.array(open_logits(path)).astype(np.float32)
        scale = float(np.abs(cached["cpu"]).max())
        error = float(np.abs(cached["cpu"] - cached[setting.device]).max()) / scale
        same = float((cached["cpu"].argmax(2) == cached[setting.device].argmax(2)).mean())
        from_cache, first = setting.train(split, teacher_logits=open_logits(path))
        online, second = setting.train(split, teacher=teacher)
    weights = max(
        float((a - b).detach().abs().max() / b.detach().abs().max().clamp(min=1e-6))
        for a, b in zip(from_cache.parameters(), online.parameters(), strict=True)
    )
    apart = max(abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(first, second, strict=True))
    found = {
        "views": gaps, "logits_relative_error": error, "logits_same_top1": same, "seconds": seconds,
        "cached_against_online": {"epoch_loss_relative": apart, "weights_relative": weights},
    }  # fmt: skip
    demand(
        gaps["shifts"]["largest_grey_level"] == 0 and gaps["crops"]["largest_grey_level"] <= 1,
        "views differ",
        found,
    )
    # A GPU's convolutions use TF32, with 10 bits of mantissa, so the caches of the two differ by about 1e-3.
    return demand(error < 1e-2 and same > 0.99 and apart < 1e-2, "cached logits differ", found)


def amp(setting: Setting) -> Found:
    """bf16 training against fp32: the same losses to a few percent, nothing that is not finite."""
    _, split = setting.data()
    runs = {}
    for name in ("none", "bf16"):
        _, history = setting.train(split, method="ce", amp=name)
        runs[name] = [record["loss"] for record in history]
        rate = [record["timing"]["images_per_s"] for record in history]
        runs[f"{name}_images_per_s"] = rate
    apart = max(abs(a - b) / b for a, b in zip(runs["bf16"], runs["none"], strict=True))
    return demand(apart < 0.05, "bf16 learns otherwise", {"epoch_loss_relative": apart, **runs})


def compile(setting: Setting) -> Found:
    """Compiled training (CUDA graphs on a GPU) against eager."""
    _, split = setting.data()
    mode = "default" if setting.device == "cpu" else "reduce-overhead"
    runs: Found = {}
    for name in ("none", mode):
        began = time.perf_counter()
        _, history = setting.train(split, method="ce", compile=name)
        runs[name] = {
            "loss": [record["loss"] for record in history],
            "images_per_s": [record["timing"]["images_per_s"] for record in history],
            "seconds": time.perf_counter() - began,
        }
    apart = max(abs(a - b) / b for a, b in zip(runs[mode]["loss"], runs["none"]["loss"], strict=True))
    return demand(
        apart < 0.02, "compiled training learns otherwise", {"epoch_loss_relative": apart, "runs": runs}
    )


def resume(setting: Setting) -> Found:
    """A training that was stopped and taken up again ends with the same bits."""

    class Stop(Exception):
        pass

    _, split = setting.data()
    options: dict[str, Any] = {"epochs": 4, "method": "ce", "amp": "bf16", "ema_decay": 0.9}
    whole, history = setting.train(split, **options)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.pt"
        half = 2 * history_steps(len(split), setting)
        said = []

        def stop(done: int, total: int, note: str) -> None:
            said.append(done)
            if said.count(half) == 2:  # the last step, then the epoch, whose state is on disk by now
                raise Stop

        with contextlib.suppress(Stop):
            setting.train(split, **options, state_path=state, progress=stop)
        again, second = setting.train(split, **options, state_path=state)
    pairs = zip(whole.state_dict().values(), again.state_dict().values(), strict=True)
    differing = sum(not torch.equal(a, b) for a, b in pairs)
    same_loss = [a["loss"] == b["loss"] for a, b in zip(history, second, strict=True)]
    found = {"differing_tensors": differing, "same_epoch_losses": same_loss}
    return demand(not differing and all(same_loss), "not the same bits", found)


def history_steps(count: int, setting: Setting) -> int:
    """Steps in an epoch of `Setting.train`."""
    return -(-count // (16 if setting.tiny else 64))


CHECKS: dict[str, Callable[[Setting], Found]] = {
    check.__name__: check for check in (losses, figkd, amp, compile, cache, resume)
}


def prepare(group: str, options: Options) -> tuple[Setting, Found]:
    """What the checks of this module and of `speed` take, and facts about the device."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise NotRun("no GPU")
    return Setting(options.device, options.tiny), facts(options.device)
