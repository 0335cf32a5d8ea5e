"""Share of the limit: how near the forward pass and training of five networks come to the device's matrix product.

    python benchmarks/bench_limit.py [--networks resnet8x4 ...] [--device cuda] [--rounds 7] [--compile default]

In every round one epoch of training, some forward passes and some products of square matrices take turns in one
process. The share is the counted FLOP/s of the network (matrix products and convolutions, a multiply-add as two) over
the rate of the product in the same round: the median over rounds, with quartiles. On a CPU all rates are of CPU
seconds, with one thread, so that other load disturbs little. Batch normalisation, activations, the optimizer and data
count as lost time, and so does a depthwise convolution, which no matrix product is as slow as.

Weights and images are random. The first epoch is not counted. Writes benchmarks/results/limit_<device>.json.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from device import best, facts, matmul_rate, random_images, spread, take_turns

from figkd.data.views import make_views
from figkd.files import write_json
from figkd.loss.build import build_loss
from figkd.meter import training_flops
from figkd.models import build_model, place
from figkd.objective import autocast
from figkd.train import train

OUT = Path(__file__).parent / "results"
NETWORKS: dict[str, tuple[str, int, int, int, int]] = {
    "resnet_tiny": ("figkd/resnet_tiny", 32, 21, 128, 12),
    "resnet8x4": ("figkd/resnet8x4", 32, 100, 64, 2),
    "resnet20": ("figkd/resnet20", 32, 100, 128, 3),
    "mobilenetv4_conv_small": ("timm/mobilenetv4_conv_small", 128, 100, 32, 3),
    "convnext_atto": ("timm/convnext_atto", 128, 100, 32, 2),
}
"""Model, image size, classes, batch, steps in a round on a CPU."""


def measure(
    network: str,
    *,
    side: int,
    classes: int,
    batch: int,
    steps: int,
    rounds: int,
    device: str,
    amp: str,
    compile: str,
) -> dict[str, Any]:
    """Shares of a network, with the rates that they come from, round by round."""
    torch.manual_seed(0)
    model = build_model(network, classes, image_size=side)
    flops = {
        "forward": training_flops(model, side, backward=False),
        "training": training_flops(model, side),
    }
    assert flops["forward"] is not None and flops["training"] is not None
    size = steps * batch
    split = random_images(size, side, classes)
    probe = place(copy.deepcopy(model), device).eval()
    shown = torch.from_numpy(split.images[:batch]).to(device)

    def forward() -> None:
        with torch.inference_mode(), autocast(device, amp):
            probe(shown)

    def between() -> dict[str, float]:
        return {"forward": batch / best(forward, device, 3), "matmul": matmul_rate(device, amp)}

    rows = take_turns(
        lambda progress: train(
            model, split, loss=build_loss("ce", classes),
            views=make_views("shift_flip", image_size=side, store_size=side, pad=4, count=rounds + 1),
            epochs=rounds + 1, batch_size=batch, lr=0.01, device=device, amp=amp, compile=compile, progress=progress,
        ),  # type: ignore[arg-type]
        between,
    )  # fmt: skip
    if device == "cpu":
        for row in rows:
            row["ours"] = size / row["cpu_seconds"]
    shares = {
        "forward": [flops["forward"] * row["forward"] / row["matmul"] for row in rows],
        "training": [flops["training"] * row["ours"] / row["matmul"] for row in rows],
    }
    rates = {"forward": "forward", "training": "ours", "matmul": "matmul"}
    return {
        "network": network, "side": side, "batch": batch, "amp": amp, "compile": compile, "flops_per_image": flops,
        "images_per_s": {name: spread([row[rates[name]] for row in rows]) for name in ("forward", "training")},
        "matmul_flop_per_s": spread([row["matmul"] for row in rows]),
        "share": {name: spread(values) for name, values in shares.items()},
        "rounds": rows,
    }  # fmt: skip


def show(found: dict[str, Any]) -> str:
    """One line of a network's shares."""
    parts = []
    for name, share in found["share"].items():
        low, middle, high = (100 * share[key] for key in ("q1", "median", "q3"))
        rate = found["images_per_s"][name]["median"]
        parts.append(f"{name} {rate:,.0f} images/s, {middle:.0f} % of the limit ({low:.0f} to {high:.0f})")
    about = f"{found['network']} at {found['side']} px, batch {found['batch']}"
    return f"{about}: {'; '.join(parts)}; n = {len(found['rounds'])}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, help="instead of each network's own")
    parser.add_argument("--compile", default="none")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    on_cpu = arguments.device == "cpu"
    if on_cpu:
        torch.set_num_threads(1)
    result: dict[str, Any] = {
        "what": "share of the rate of a matrix product that networks reach (on a CPU: of CPU seconds, one thread)",
        "command": f"python benchmarks/bench_limit.py --rounds {arguments.rounds} --compile {arguments.compile}",
        "machine": facts(arguments.device),
        "networks": {},
    }
    for name in arguments.networks:
        network, side, classes, batch, steps = NETWORKS[name]
        batch = arguments.batch or batch
        result["networks"][name] = found = measure(
            network, side=side, classes=classes, batch=batch, steps=steps if on_cpu else 25_600 // batch,
            rounds=arguments.rounds, device=arguments.device, amp="none" if on_cpu else "bf16",
            compile=arguments.compile,
        )  # fmt: skip
        print(show(found), flush=True)
        write_json(arguments.out / f"limit_{arguments.device}.json", result)


if __name__ == "__main__":
    main()
