"""The FiGKD term, forward and backward, against KD's KL divergence, against ptwt and against a PyWavelets round trip.

    python benchmarks/bench_loss.py [--device cuda] [--rounds 30] [--compile]

Without the cross entropy that all share. The variants take turns in every round; a ratio is the median over rounds of
one round's ratio, given with its quartiles. `figkd (kl)` is the default recipe without its batch correlation, `figkd
(mse, ...)` the linear detail. ptwt and PyWavelets compute the same loss as `figkd (mse, all levels)`: ptwt by autograd;
PyWavelets outside of torch, its gradient by the inverse transform (Haar is orthonormal).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pywt
import torch
from torch import Tensor

from figkd import functional
from figkd.losses import FiGKDLoss
from figkd.wavelet import max_level
from pipeline import environment
from pipeline.files import write_json

OUT = Path(__file__).parent / "results" / "bench_loss.json"
CLASSES = (10, 100, 120, 200, 1000, 10000)
BATCHES = (64, 512)
Term = Callable[[Tensor, Tensor], Tensor]


class _PyWavelets(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, difference: Tensor, level: int) -> Tensor:
        values = difference.detach().cpu().numpy()
        bands = pywt.wavedec(values, "haar", mode="periodization", level=level, axis=1)
        count = sum(band.size for band in bands[1:])
        loss = sum(float((band**2).sum()) for band in bands[1:]) / count
        bands[0] = np.zeros_like(bands[0])
        back = pywt.waverec(bands, "haar", mode="periodization", axis=1)[:, : values.shape[1]]
        gradient = torch.from_numpy((back * (2 / count)).astype(np.float32)).to(difference.device)
        ctx.save_for_backward(gradient)  # type: ignore[attr-defined]
        return difference.new_tensor(loss)

    @staticmethod
    def backward(ctx: object, upstream: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * upstream, None


def figkd_term(classes: int, device: str, **options: object) -> Term:
    loss = FiGKDLoss(classes, order=np.random.default_rng(0).permutation(classes), **options).to(device)  # type: ignore[arg-type]
    return lambda student, teacher: loss._term(student, teacher, student)


def terms(classes: int, device: str) -> dict[str, Term]:
    level = max_level(classes)
    found: dict[str, Term] = {
        "kd (kl divergence)": lambda s, t: functional.kd(s, t, temperature=4.0),
        "figkd (kl)": figkd_term(classes, device),
        "figkd (mse, level 1)": figkd_term(classes, device, distance="mse", level=1),
        "figkd (mse, all levels)": figkd_term(classes, device, distance="mse", level="max"),
        "pywavelets": lambda s, t: _PyWavelets.apply(s - t, level),
    }
    try:
        import ptwt
    except ImportError:
        print("ptwt is not installed: left out (pip install ptwt)")
        return found

    def by_ptwt(student: Tensor, teacher: Tensor) -> Tensor:
        bands = ptwt.wavedec(student - teacher, "haar", mode="symmetric", level=level, axis=1)
        return torch.cat(bands[1:], dim=1).square().mean()

    return found | {"ptwt": by_ptwt}


def once(term: Term, student: Tensor, teacher: Tensor) -> float:
    student.grad = None
    if student.is_cuda:
        torch.cuda.synchronize()
    began = time.perf_counter()
    term(student, teacher).backward()
    if student.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--compile", action="store_true", help="time torch.compile'd terms (not those of libraries)"
    )
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for classes in arguments.classes:
        for batch in BATCHES:
            generator = torch.Generator().manual_seed(0)
            student, teacher = (torch.randn(2, batch, classes, generator=generator) * 3).to(arguments.device)
            student = student.detach().requires_grad_()
            compared = terms(classes, arguments.device)
            if arguments.compile:
                compared = {
                    name: term if name in ("ptwt", "pywavelets") else torch.compile(term)
                    for name, term in compared.items()
                }
            seconds: dict[str, list[float]] = {name: [] for name in compared}
            for turn in range(arguments.rounds + 3):
                for name, term in compared.items():
                    took = once(term, student, teacher)
                    if turn >= 3:
                        seconds[name].append(took)
            reference = seconds["kd (kl divergence)"]
            for name, took in seconds.items():
                ratios = [a / b for a, b in zip(took, reference, strict=True)]
                low, middle, high = statistics.quantiles(ratios, n=4)
                row = {
                    "classes": classes,
                    "batch": batch,
                    "term": name,
                    "microseconds": statistics.median(took) * 1e6,
                    "over_kl": middle,
                    "over_kl_quartiles": [low, high],
                    "n": len(took),
                }
                if "ptwt" in seconds:
                    row["ptwt_over_it"] = statistics.median(
                        a / b for a, b in zip(seconds["ptwt"], took, strict=True)
                    )
                rows.append(row)
                print(
                    f"C {classes:>6} B {batch:>4} {name:<24} {row['microseconds']:>10.0f} us  "
                    f"{middle:>7.2f} x KL  ptwt / it {row.get('ptwt_over_it', float('nan')):>7.1f}",
                    flush=True,
                )
    result = {
        "what": "forward and backward of one loss term; medians over interleaved rounds",
        "device": torch.cuda.get_device_name() if arguments.device != "cpu" else environment.cpu_model(),
        "threads": arguments.threads,
        "compiled": arguments.compile,
        "packages": environment.versions(("torch", "ptwt", "PyWavelets", "numpy")),
        "rows": rows,
    }
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
