"""One distillation epoch against the usual loop, and against the limits of the device.

    python benchmarks/bench_training.py [--pair fonts cifar] [--device cuda] [--batch 64] [--rounds 7] [--steps 20]
        [--replicas 2]

(b) The usual loop (`usual_loop.py`) and ours take turns: one round of the one after one epoch of the other, over as
many images, with the same networks, loss and batch size. A ratio is the median over rounds of one round's ratio, given
with quartiles and n. Ours is measured with the logit cache and with the teacher online. Making the cache is timed too,
to show what remains of the gain if 1, 5 or 20 students share it. The ratio of CPU seconds (workers included) is what to
look at on a CPU that others use as well: it says the same as the ratio of times where all cores are busy.

(c) The limit: counted floating-point operations over the measured rate of a matrix product in the dtype used, and
counted memory traffic (bytes that operators read and write, one by one) over the measured rate of a copy. The share is
that time over the time that was taken. It is eager mode's limit: fused kernels move fewer bytes.

Networks have random weights and images are random: neither speed depends on what is in them. The first epoch (with
compilation, on CUDA) is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from device import (  # isort: skip
    PAD, PAIRS, SIDE, Run, copy_rate, facts, make_pair, matmul_rate, spread, take_turns,
)  # fmt: skip
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from usual_loop import UsualLoop

from figkd.data.logits import cache_logits, open_logits
from figkd.data.views import Views, make_views
from figkd.files import write_json
from figkd.loss.build import build_loss
from figkd.meter import training_flops
from figkd.models import ImageClassifier, build_model
from figkd.train import train

OUT = Path(__file__).parent / "results"
STUDENTS = (1, 5, 20)
MAKINGS = 5
# The protocol of the literature on CIFAR-100, and its views: 9 x 9 shifts and mirror images.
EPOCHS, ALL_VIEWS = 240, 162


def compare(
    pair: str,
    *,
    device: str,
    batch: int,
    replicas: int = 1,
    rounds: int,
    steps: int,
    method: str,
    compile: str,
    amp: str,
) -> dict[str, Any]:
    """Benchmark (b) of a pair, with the facts that (c) needs."""
    size = steps * batch
    teacher, student, split = make_pair(pair, size)
    epochs = rounds + 1
    views = make_views("shift_flip", image_size=SIDE, store_size=SIDE, pad=PAD, count=epochs)
    classes = PAIRS[pair][2]
    usual = UsualLoop(
        student, teacher, build_loss(method, classes), split.images, split.labels,
        batch_size=batch, steps=(2 * epochs + MAKINGS + 1) * steps, device=device, pad=PAD,
    )  # fmt: skip
    usual.run(min(steps, 3))

    def a_round() -> dict[str, float]:
        seconds, cpu = usual.run(steps)
        return {"usual": size / seconds, "usual_cpu_seconds": cpu}

    def ours(**source: Any) -> Run:
        torch.manual_seed(1)
        model = build_model(PAIRS[pair][1], classes, image_size=SIDE)
        return lambda progress: train(
            model, split, loss=build_loss(method, classes), views=views, epochs=epochs, batch_size=batch,
            replicas=replicas, lr=0.05, schedule="cosine", device=device, amp=amp, compile=compile,
            progress=progress, **source,
        )  # type: ignore[arg-type]  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        few = make_views("shift_flip", image_size=SIDE, store_size=SIDE, pad=PAD, count=min(2, epochs))
        making = []
        for _ in range(MAKINGS):
            began = time.perf_counter()
            cache_logits(teacher, split.images, few, Path(folder) / "timed.npy", device=device, resume=False)
            rate = size * len(few) / (time.perf_counter() - began)
            making.append({"ours": rate, "usual": size / usual.run(steps)[0]})
        path = cache_logits(teacher, split.images, views, Path(folder) / "logits.npy", device=device)
        cached = take_turns(ours(teacher_logits=open_logits(path)), a_round)
        online = take_turns(ours(teacher=teacher), a_round)
    found = {"cached": cached, "online": online, "making": making}
    ratios = {name: spread([row["ours"] / row["usual"] for row in rows]) for name, rows in found.items()}
    return {
        "images_per_s": {
            "usual": statistics.median([row["usual"] for row in cached + online]),
            "ours_cached": statistics.median([row["ours"] for row in cached]),
            "ours_online": statistics.median([row["ours"] for row in online]),
            "making_the_cache": statistics.median([row["ours"] for row in making]),
        },
        # A machine that others use is not equally fast all the time; seconds of its CPU are more alike.
        "images_per_cpu_s": {
            "usual": size / statistics.median([row["usual_cpu_seconds"] for row in cached + online]),
            "ours_cached": size / statistics.median([row["cpu_seconds"] for row in cached]),
            "ours_online": size / statistics.median([row["cpu_seconds"] for row in online]),
        },
        "speedup_cached": ratios["cached"],
        "speedup_online": ratios["online"],
        "making_the_cache_over_usual": ratios["making"],
        **{
            f"cpu_time_saved_{name}": spread([row["usual_cpu_seconds"] / row["cpu_seconds"] for row in rows])
            for name, rows in (("cached", cached), ("online", online))
        },
        "speedup_with_the_cost_of_the_cache": amortised(
            ratios["cached"]["median"], ratios["making"]["median"]
        ),
        "rounds": found,
    }


def amortised(cached: float, making: float) -> dict[str, Any]:
    """Speed against the usual loop if some students share a cache, whose making counts.

    Both arguments are ratios of images/s to the usual loop's. "each_view_once": as many epochs as views. "literature":
    240 epochs over 162 views.
    """
    found = {}
    for name, views_per_epoch in (("each_view_once", 1.0), ("literature", ALL_VIEWS / EPOCHS)):
        found[name] = {
            f"{count}_students": 1 / (1 / cached + views_per_epoch / making / count) for count in STUDENTS
        }
    return found


class Traffic(TorchDispatchMode):
    """Counts the bytes that operators read and write; those that only look at a tensor differently are free."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        known = {tensor.untyped_storage().data_ptr() for tensor in given}
        in_place = func._schema.is_mutable
        if in_place or any(tensor.untyped_storage().data_ptr() not in known for tensor in made):
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in given + made)
        return result


def step_traffic(
    student: ImageClassifier,
    teacher: nn.Module | None,
    loss: nn.Module,
    batch: int,
    views: Views,
    classes: int,
) -> int:
    """Bytes moved in one training step on the CPU in fp32."""
    images = torch.zeros(batch, SIDE, SIDE, 3, dtype=torch.uint8)
    labels, ids = torch.zeros(batch, dtype=torch.int64), torch.arange(batch)
    student.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, fused=True)
    for counted in (False, True):  # momentum exists from the second step on
        with Traffic() if counted else torch.enable_grad() as counter:
            seen = views.apply(images, torch.zeros_like(ids), ids)
            soft = torch.zeros(batch, classes)
            if teacher is not None:
                with torch.no_grad():
                    soft = teacher(seen)
            loss(student(seen), soft, labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return int(counter.bytes)  # type: ignore[union-attr]


def limits(pair: str, *, device: str, batch: int, method: str, amp: str, rates: dict[str, float]) -> Any:
    """Benchmark (c): how near each loop is to what the device could do; rates per second or, on a CPU, CPU second."""
    teacher, student, _ = make_pair(pair, 2)
    classes = PAIRS[pair][2]
    views = make_views("shift_flip", image_size=SIDE, store_size=SIDE, pad=PAD, count=2)
    flops = {
        "student": training_flops(student, SIDE),
        "teacher": training_flops(teacher, SIDE, backward=False),
    }
    assert flops["student"] is not None and flops["teacher"] is not None
    loss = build_loss(method, classes)
    moved = {
        "cached": step_traffic(student, None, loss, batch, views, classes) / batch,
        "online": step_traffic(student, teacher, loss, batch, views, classes) / batch,
    }
    matmul, copying = matmul_rate(device, amp), copy_rate(device)
    found: dict[str, Any] = {
        "flops_per_image": flops,
        "traffic_bytes_per_image_fp32": moved,
        "matmul_flop_per_s": matmul,
        "copy_bytes_per_s": copying,
    }
    for name, counted, traffic in (
        ("usual", flops["student"] + flops["teacher"], moved["online"]),
        ("ours_cached", flops["student"], moved["cached"]),
        ("ours_online", flops["student"] + flops["teacher"], moved["online"]),
    ):
        found[name] = {
            "share_of_matmul_rate": counted * rates[name] / matmul,
            "share_of_copy_rate_fp32": traffic * rates[name] / copying,
        }
    return found


def run_pair(pair: str, **settings: Any) -> dict[str, Any]:
    """Both benchmarks of a pair, with everything needed to judge them."""
    teacher, student, classes = PAIRS[pair]
    before, on_cpu = facts(settings["device"]), settings["device"] == "cpu"
    found = compare(pair, **settings)
    kept = {key: settings[key] for key in ("device", "batch", "method", "amp")}
    return {
        "what": "training throughput against the usual loop (ratios: ours over usual, median over rounds)",
        "teacher": teacher,
        "student": student,
        "classes": classes,
        "settings": settings,
        "machine": before,
        **found,
        "limits": limits(pair, **kept, rates=found["images_per_cpu_s" if on_cpu else "images_per_s"]),
    }


def show(result: dict[str, Any]) -> str:
    """A few lines of a result."""
    rates, limit = result["images_per_s"], result["limits"]
    lines = [f"{result['teacher']} -> {result['student']}, batch {result['settings']['batch']}, "
             f"{result['machine']['device']}, {result['machine']['threads']} thread(s)"]  # fmt: skip
    for name, key in (("cached", "speedup_cached"), ("online", "speedup_online")):
        ratio = result[key]
        lines.append(
            f"  ours, {name}: {rates[f'ours_{name}']:9,.0f} images/s, {ratio['median']:.2f} x the usual loop "
            f"(quartiles {ratio['q1']:.2f} to {ratio['q3']:.2f}, n = {ratio['n']}; "
            f"of CPU time {result[f'cpu_time_saved_{name}']['median']:.2f} x); "
            f"{100 * limit[f'ours_{name}']['share_of_matmul_rate']:.0f} % of the matmul rate, "
            f"{100 * limit[f'ours_{name}']['share_of_copy_rate_fp32']:.0f} % of the copy rate"
        )
    lines.append(
        f"  usual loop:   {rates['usual']:9,.0f} images/s, "
        f"{100 * limit['usual']['share_of_matmul_rate']:.0f} % of the matmul rate"
    )
    for name, shares in result["speedup_with_the_cost_of_the_cache"].items():
        text = ", ".join(f"{key.replace('_', ' ')} {value:.2f} x" for key, value in shares.items())
        lines.append(f"  with the cache's cost, {name.replace('_', ' ')}: {text}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pair", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--replicas", type=int, default=1, help="parts of a step that ours trains on side by side"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--steps", type=int, help="steps in a round; default: 60 (fonts), 4 (cifar) on a CPU, 400"
    )
    parser.add_argument("--method", default="kd", help="the loss of both loops")
    parser.add_argument("--compile", default="auto")
    parser.add_argument("--amp", choices=("none", "bf16"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    on_cpu = arguments.device == "cpu"
    for pair in arguments.pair:
        usual_steps = (60 if pair == "fonts" else 4) if on_cpu else 400
        result = run_pair(
            pair,
            device=arguments.device,
            batch=arguments.batch,
            replicas=arguments.replicas,
            rounds=arguments.rounds,
            steps=arguments.steps or usual_steps,
            method=arguments.method,
            compile=arguments.compile,
            amp=arguments.amp or ("none" if on_cpu else "bf16"),
        )
        print(show(result), flush=True)
        parts = "" if arguments.replicas == 1 else f"_r{arguments.replicas}"
        write_json(
            arguments.out / f"training_{arguments.device}_{pair}_b{arguments.batch}{parts}.json", result
        )


if __name__ == "__main__":
    main()
