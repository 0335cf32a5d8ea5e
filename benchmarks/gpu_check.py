"""One script for a machine with a GPU: does everything hold on CUDA, and how fast is it?

    python benchmarks/gpu_check.py --out DIR [--parts losses cache ...] [--minutes 10] [--total 8] [--device cpu --tiny]

Every part runs in a process of its own, for at most `--minutes`, and its result is written to DIR/<part>.json as soon
as it is there: a run that is cut keeps what is done. With `--total` all parts together end after so many minutes; the
most valuable ones come first, and those that were not reached are named. The exit code is 1 if a part failed, 4 if one
was not run: the time was over, or there is no GPU. Needs
torch, torchvision, numpy and PyWavelets; the part `study` needs the whole package and the 100 faces. `--device cpu
--tiny` runs the same code anywhere, on little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a plain checkout

try:
    import numpy as np
    import torch
    from bench_training import PAD, PAIRS, SIDE, facts, make_pair, run_pair, show

    from figkd.data.logits import cache_logits, open_logits
    from figkd.data.split import Split
    from figkd.data.views import Views, make_views
    from figkd.files import write_json
    from figkd.loss.build import build_loss
    from figkd.loss.methods import METHODS
    from figkd.models import ImageClassifier, build_model
    from figkd.train import train
except ImportError as missing:
    sys.exit(f"error: {missing}\n  fix: pip install torch torchvision numpy PyWavelets")

Found = dict[str, Any]


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
    def amp(self) -> str:
        return "bf16"

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
        self, split: Split, *, epochs: int = 3, method: str = "figkd", **more: Any
    ) -> tuple[Any, list[Any]]:
        model = self.student()
        options: dict[str, Any] = {
            "loss": build_loss(method, self.classes), "views": self.views(epochs), "epochs": epochs,
            "batch_size": 16 if self.tiny else 64, "lr": 0.02, "schedule": "cosine", "device": self.device,
        }  # fmt: skip
        history = train(model, split, **options | more)
        return model.cpu(), history


def losses(setting: Setting) -> Found:
    """Value and gradient of every method on the device against the CPU; half-precision input."""
    batch, classes = (8, 11) if setting.tiny else (64, 100)
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(batch, classes, generator=generator) for _ in range(2))
    labels = torch.randint(0, classes, (batch,), generator=generator)
    order = np.random.default_rng(0).permutation(classes)
    rows: Found = {}
    for method in METHODS:
        loss = build_loss(method, classes, order=order)
        values, gradients = [], []
        for device in ("cpu", setting.device):
            logits = student.to(device, copy=True).requires_grad_(True)
            value = loss.to(device)(logits, teacher.to(device), labels.to(device))
            value.backward()
            values.append(float(value.detach()))
            assert logits.grad is not None
            gradients.append(logits.grad.cpu())
        half = [
            float(
                loss(
                    student.to(setting.device, kind),
                    teacher.to(setting.device, kind),
                    labels.to(setting.device),
                )
            )
            for kind in (torch.float16, torch.bfloat16)
        ]
        error = abs(values[1] - values[0]) / max(abs(values[0]), 1e-6)
        slope = float((gradients[1] - gradients[0]).abs().max() / gradients[0].abs().max())
        rows[method] = {
            "cpu": values[0], "device": values[1], "relative_error": error, "gradient_relative_error": slope,
            "fp16_input": half[0], "bf16_input": half[1],
            "passed": error < 1e-4 and slope < 1e-4 and all(abs(h - values[0]) < 0.1 * abs(values[0]) for h in half),
        }  # fmt: skip
    return {"passed": all(row["passed"] for row in rows.values()), "methods": rows}


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
    return {
        # A GPU's convolutions use TF32, with 10 bits of mantissa, so the caches of the two differ by about 1e-3.
        "passed": gaps["shifts"]["largest_grey_level"] == 0 and gaps["crops"]["largest_grey_level"] <= 1
        and error < 1e-2 and same > 0.99 and apart < 1e-2,
        "views": gaps, "logits_relative_error": error, "logits_same_top1": same, "seconds": seconds,
        "cached_against_online": {"epoch_loss_relative": apart, "weights_relative": weights},
    }  # fmt: skip


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
    return {"passed": apart < 0.05, "epoch_loss_relative": apart, **runs}


def compile(setting: Setting) -> Found:
    """Compiled training (CUDA graphs on a GPU) against eager, and the compiled loss in one graph."""
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
    order = np.random.default_rng(0).permutation(setting.classes)
    loss = build_loss("figkd", setting.classes, order=order).to(setting.device)
    student, teacher = (torch.randn(32, setting.classes, device=setting.device) for _ in range(2))
    labels = torch.zeros(32, dtype=torch.int64, device=setting.device)
    eager = float(loss(student, teacher, labels))
    graph = float(torch.compile(loss, fullgraph=True)(student, teacher, labels))
    error = abs(graph - eager) / abs(eager)
    return {
        "passed": apart < 0.02 and error < 1e-4, "epoch_loss_relative": apart,
        "loss_in_one_graph_relative_error": error, "runs": runs,
    }  # fmt: skip


def resume(setting: Setting) -> Found:
    """A training that was stopped and taken up again ends with the same bits."""

    class Stop(Exception):
        pass

    _, split = setting.data()
    options: dict[str, Any] = {"epochs": 4, "method": "ce", "amp": setting.amp, "ema_decay": 0.9}
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
    return {
        "passed": not differing and all(same_loss), "differing_tensors": differing, "same_epoch_losses": same_loss
    }  # fmt: skip


def history_steps(count: int, setting: Setting) -> int:
    """Steps in an epoch of `Setting.train`."""
    return -(-count // (16 if setting.tiny else 64))


def speed(batch: int) -> Callable[[Setting], Found]:
    def part(setting: Setting) -> Found:
        """Benchmarks (b) and (c) at one batch size (see bench_training.py)."""
        found = run_pair(
            setting.pair,
            device=setting.device,
            batch=16 if setting.tiny else batch,
            rounds=2 if setting.tiny else 7,
            steps=2 if setting.tiny else 25_600 // batch,
            method="kd",
            compile="auto",
            amp="none" if setting.device == "cpu" else "bf16",
        )
        print(show(found))
        return {"passed": True, **found}

    return part


def study(setting: Setting) -> Found:
    """The study of methods (study/study.py) with networks of the ResNet family on the 100 faces; resumes in runs/study.

    Needs the whole package (pip install -e .) and data/fonts100 (study/fetch_faces.py).
    """
    folder = Path(__file__).parent / "study"
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        command = [
            sys.executable,
            str(folder / "study.py"),
            "--out",
            str(out),
            "--jobs",
            "1" if setting.tiny else "4",
        ]
        if setting.tiny:
            sizes = "data.options={train_per_class: 8, val_per_class: 4, test_per_class: 4}"
            command += [
                str(folder.parents[1] / "deploy_configs" / "fonts_cpu.yaml"),
                "--seeds",
                "2",
            ]
            command += ["--methods", str(folder / "tiny.yaml"), "--finalists", "1"]
            changes = [sizes, "teacher.epochs=1", "teacher.allow_chance_level=true"]
            changes += ["distill.epochs=1", "distill.views.count=1"]
            changes += [f"store={out / 'store'}", "name=study_tiny"]
        else:
            command += [str(folder / "fonts100.yaml"), "--seeds", "5", "--control-seeds", "3"]
            changes = [
                "teacher.model=figkd/resnet32x4",
                "student.model=figkd/resnet8x4",
                "distill.compile=none",
            ]
        for change in changes:
            command += ["--set", change]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parents[1])
        print(done.stdout[-2000:])
        if done.returncode:
            return {"passed": False, "error": done.stderr[-4000:]}
        (result,) = out.glob("study_*.json")
        return {"passed": True, **json.loads(result.read_text(encoding="utf-8"))}


PARTS: dict[str, Callable[[Setting], Found]] = {
    "losses": losses,
    "amp": amp,
    "compile": compile,
    "cache": cache,
    "resume": resume,
    "speed_64": speed(64),
    "speed_512": speed(512),
    "study": study,
}


def run_part(name: str, setting: Setting, out: Path) -> bool:
    """Run a part in this process and write its result."""
    began = time.perf_counter()
    found = PARTS[name](setting)
    seconds = time.perf_counter() - began
    about = {"part": name, "seconds": seconds, "tiny": setting.tiny, "machine": facts(setting.device)}
    write_json(out / f"{name}.json", about | found)
    return bool(found["passed"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=10.0, help="time limit of a part")
    parser.add_argument("--total", type=float, default=math.inf, help="time limit of all parts, minutes")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--here", action="store_true", help="run the parts in this process, without a limit")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(
            "no GPU: these checks were not run\n  fix: --device cpu --tiny, or a machine with a GPU",
            file=sys.stderr,
        )
        sys.exit(4)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.here:
        setting = Setting(arguments.device, arguments.tiny)
        sys.exit(0 if all([run_part(name, setting, arguments.out) for name in arguments.parts]) else 1)
    failed: list[str] = []
    missed: list[str] = []
    end = time.perf_counter() + 60 * arguments.total
    for name in arguments.parts:
        minutes = min(arguments.minutes, (end - time.perf_counter()) / 60)
        target = arguments.out / f"{name}.json"
        target.unlink(missing_ok=True)
        if minutes <= 0:
            missed.append(name)
            print(f"not run {name}: the {arguments.total:g} minutes are over", flush=True)
            continue
        command = [sys.executable, __file__, "--here", "--parts", name, "--out", str(arguments.out)]
        command += ["--device", arguments.device] + (["--tiny"] if arguments.tiny else [])
        began = time.perf_counter()
        try:
            done = subprocess.run(command, timeout=60 * minutes, capture_output=True, text=True, check=False)
            code, said, wrong = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            code, said, wrong = -1, "", f"not done within {minutes:.3g} minutes"
        seconds = time.perf_counter() - began
        if not target.is_file():
            write_json(target, {"part": name, "passed": False, "seconds": seconds, "error": wrong[-4000:]})
        passed = code == 0 and json.loads(target.read_text())["passed"]
        failed += [] if passed else [name]
        print(f"{'ok    ' if passed else 'FAILED'} {name:<10} {seconds:7.1f} s", flush=True)
        if said.strip():
            print(said.rstrip(), flush=True)
        if not passed:
            print("\n".join(f"       {line}" for line in wrong.strip().splitlines()[-12:]), flush=True)
    sys.exit(1 if failed else 4 if missed else 0)


if __name__ == "__main__":
    main()
