"""The FiGKD term, forward and backward, against KD's KL divergence, against ptwt and against a PyWavelets round trip.

    python benchmarks/bench_loss.py [--device cuda] [--rounds 30] [--compile]

The variants take turns in every round, each timed after an untimed call of its own (otherwise one pays for what its
predecessor left in the caches); a ratio is the median over rounds of one round's ratio, given with its quartiles.
`figkd (detail)` is the default recipe's detail; `(detail, correlation)` the default recipe without the cross entropy;
`(whole loss)` with it, to be held against `kd (whole loss)`; `(all levels)` the squared detail down to one coefficient;
`(kl)` the divergence of the class tree, `(whole loss, kl)` with correlation and cross entropy. ptwt and PyWavelets
compute the value of the detail, which is checked: ptwt by autograd; PyWavelets outside of torch, its gradient by the
inverse transform (Haar is orthonormal). Ours also brings the classes into an order, theirs takes them as they come. On
a CPU the clock is the process's own, which other work disturbs less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pywt
import torch
from torch import Tensor

from figkd.loss import functional
from figkd.loss.build import build_loss
from figkd.loss.figkd_loss import FiGKDLoss
from figkd.loss.figkd_options import FiGKD
from figkd.loss.wavelet import FINE_LEVELS
from pipeline.core.files import write_json
from pipeline.places import environment

OUT = Path(__file__).parent / "results" / "bench_loss.json"
CLASSES = (10, 100, 1000, 10000)
BATCHES = (64, 512)
KL, DETAIL, WHOLE_KD = "kd (kl divergence)", "figkd (detail)", "kd (whole loss)"
DECAY = FiGKD.band_decay
Term = Callable[[Tensor, Tensor], Tensor]


class _PyWavelets(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, difference: Tensor, decay: float) -> Tensor:
        values = difference.detach().cpu().numpy()
        bands = pywt.wavedec(values, "haar", mode="periodization", level=FINE_LEVELS, axis=1)
        weights = [decay ** (FINE_LEVELS - place) for place in range(1, len(bands))]
        loss = sum(w * float((band**2).sum()) for w, band in zip(weights, bands[1:], strict=True))
        weighed = [np.zeros_like(bands[0]), *(w * band for w, band in zip(weights, bands[1:], strict=True))]
        back = pywt.waverec(weighed, "haar", mode="periodization", axis=1)[:, : values.shape[1]]
        gradient = torch.from_numpy((back * (2 / len(values))).astype(np.float32)).to(difference.device)
        ctx.save_for_backward(gradient)  # type: ignore[attr-defined]
        return difference.new_tensor(loss / len(values))

    @staticmethod
    def backward(ctx: object, upstream: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * upstream, None


def figkd_term(classes: int, device: str, *, shuffled: bool = True, **options: object) -> Term:
    order = np.random.default_rng(0).permutation(classes) if shuffled else None
    loss = FiGKDLoss(classes, order=order, **options).to(device)  # type: ignore[arg-type]
    return lambda student, teacher: loss.detail(student, teacher)


def whole(method: str, classes: int, labels: Tensor, **options: object) -> Term:
    order = np.random.default_rng(0).permutation(classes)
    loss = build_loss(method, classes, order=order, **options).to(labels.device)
    return lambda student, teacher: loss(student, teacher, labels)


def terms(classes: int, labels: Tensor) -> dict[str, Term]:
    tree: dict[str, Any] = {"distance": "kl", "level": "full", "band_decay": 0.7, "temperature": 2.0}
    device = str(labels.device)
    found: dict[str, Term] = {
        KL: lambda s, t: functional.kd(s, t, temperature=4.0),
        DETAIL: figkd_term(classes, device),
        "figkd (detail, correlation)": whole("figkd", classes, labels, ce_weight=0.0),
        "figkd (all levels)": figkd_term(classes, device, level="full"),
        "figkd (kl)": figkd_term(classes, device, **tree),
        WHOLE_KD: whole("kd", classes, labels),
        "figkd (whole loss)": whole("figkd", classes, labels),
        "figkd (whole loss, kl)": whole("figkd", classes, labels, **tree, weight=1.0, batch_weight=2.0),
        "pywavelets": lambda s, t: _PyWavelets.apply(s - t, DECAY),
    }
    try:
        import ptwt
    except ImportError:
        print("ptwt is not installed: left out (pip install ptwt)")
        return found

    def by_ptwt(student: Tensor, teacher: Tensor) -> Tensor:
        _, *details = ptwt.wavedec(student - teacher, "haar", mode="symmetric", level=FINE_LEVELS, axis=1)
        weights = [DECAY**place for place in reversed(range(FINE_LEVELS))]
        squares = [w * band.square().sum() for w, band in zip(weights, details, strict=True)]
        return torch.stack(squares).sum() / len(student)

    return found | {"ptwt": by_ptwt}


def check(compared: dict[str, Term], ours: Term, student: Tensor, teacher: Tensor) -> None:
    """Stop unless PyWavelets and ptwt give the value and gradient of `ours`, the default term in the given order."""
    expected, slope = value_and_gradient(ours, student, teacher)
    for name in {"pywavelets", "ptwt"} & compared.keys():
        value, gradient = value_and_gradient(compared[name], student, teacher)
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=0)
        torch.testing.assert_close(gradient, slope, rtol=1e-3, atol=1e-5)


def value_and_gradient(term: Term, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    point = student.detach().clone().requires_grad_()
    value = term(point, teacher)
    (gradient,) = torch.autograd.grad(value, point)
    return value.detach(), gradient


def once(term: Term, student: Tensor, teacher: Tensor) -> float:
    student.grad = None
    term(student, teacher).backward()
    student.grad = None
    if not student.is_cuda:
        began = time.process_time()
        term(student, teacher).backward()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    term(student, teacher).backward()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def quartiles(one: list[float], other: list[float]) -> list[float]:
    return statistics.quantiles([a / b for a, b in zip(one, other, strict=True)], n=4)


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
            labels = torch.randint(classes, (batch,), generator=generator).to(arguments.device)
            compared = terms(classes, labels)
            check(compared, figkd_term(classes, arguments.device, shuffled=False), student, teacher)
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
            for name, took in seconds.items():
                ratios = quartiles(took, seconds[KL])
                row = {
                    "classes": classes,
                    "batch": batch,
                    "term": name,
                    "microseconds": statistics.median(took) * 1e6,
                    "over_kl": ratios[1],
                    "over_kl_quartiles": [ratios[0], ratios[2]],
                    "over_whole_kd": quartiles(took, seconds[WHOLE_KD])[1],
                    "n": len(took),
                }
                if "ptwt" in seconds:
                    row["ptwt_over_it"] = quartiles(seconds["ptwt"], took)[1]
                rows.append(row)
                print(
                    f"C {classes:>6} B {batch:>4} {name:<28} {row['microseconds']:>10.0f} us  "
                    f"{ratios[1]:>7.2f} x KL  ptwt / it {row.get('ptwt_over_it', float('nan')):>7.1f}",
                    flush=True,
                )
    result = {
        "what": "forward and backward of one loss term; medians over interleaved rounds; on a CPU, the process's time",
        "device": torch.cuda.get_device_name() if arguments.device != "cpu" else environment.cpu_model(),
        "threads": arguments.threads,
        "compiled": arguments.compile,
        "packages": environment.versions(("torch", "ptwt", "PyWavelets", "numpy")),
        "rows": rows,
    }
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
