"""Write the tables of the documentation again from benchmarks/results/*.json.

    python benchmarks/tables.py

A table stands between `<!-- table NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "study")]

import compared  # noqa: E402
import search_tables  # noqa: E402
from stored import RESULTS, read, span, table, where  # noqa: E402

from figkd.loss.methods import METHODS  # noqa: E402

PAGES = (
    "docs/measurement.md", "docs/method.md", "docs/comparison.md", "docs/datasets.md", "docs/serving.md",
    "docs/scouting.md", "docs/search.md", "docs/shipping.md", "docs/precision.md", "docs/training.md", "README.md",
)  # fmt: skip
FASTER = 1.5
LOOPS = {
    "ours": "**ours**", "pillow": "Pillow, all pixels", "torchvision": "torchvision, tensors",
    "simplejpeg": "simplejpeg, all pixels", "simplejpeg, reduced": "simplejpeg, our scale",
    "smallest scale": "libjpeg-turbo at 1/8, nothing else",
}  # fmt: skip
SLICE_MS = 3.0
# Operators of image networks that ONNX Runtime's CPU has no INT8 kernel for.
FLOAT = ("HardSigmoid", "HardSwish", "Mul", "Sigmoid", "Erf", "Gelu", "Softmax", "LayerNormalization")


def disturbed(result: Any, ms: float) -> bool:
    """More load than cores, and a time that a scheduler interrupts: not to be shown as a fact."""
    machine = result["machine"]
    return bool(machine.get("load_1min", 0.0) > machine["cores"] and ms > SLICE_MS)


def left_out(names: list[str]) -> str:
    if not names:
        return ""
    return f" Left out, because the machine was loaded and they take longer than {SLICE_MS:g} ms: {', '.join(names)}."


def agreement() -> str:
    result = read("agreement.json")
    rows = []
    for row in result["rows"]:
        ratio, gap = row["ratio"], row["difference_us"]["median"]
        low, high = ratio["quartiles"]
        undisturbed = row["ratio_of_lowest_deciles"]["median"]
        rows.append([
            f"{row['network']}, `{row['boundary']}`", f"{row['other_ms']['median']:.3f}", f"{ratio['median']:.3f}",
            f"{low:.3f} to {high:.3f}", f"{undisturbed:.3f}", f"{gap:+.1f}",
            f"{row['rounds']} × {row['samples_a_round']}",
        ])  # fmt: skip
    head = [
        "network, boundary",
        "other tool, ms",
        "ours / other",
        "quartiles",
        "of lowest deciles",
        "gap, µs",
        "n",
    ]
    loop = result["loop_us"]
    return (
        f"{table(head, rows)}\n\nOur loop itself takes {loop['in_all']:.2f} µs an inference, "
        f"{loop['inside_timed_region']:.2f} µs of it inside what is timed. {where(result)}"
    )


def decode() -> str:
    result = read("decode.json")
    sizes = result["sizes"]
    rows = []
    for name, meaning in LOOPS.items():
        cells = [f"{meaning}"]
        for found in sizes.values():
            row, ratio = found["cpu_ms_per_image"][name], found["over_ours"].get(name)
            times = (
                f", {ratio['median']:.2f} x ({ratio['q1']:.2f} to {ratio['q3']:.2f})"
                if ratio is not None
                else ""
            )
            cells.append(f"{row['median']:.1f}{times}")
        rows.append(cells)
    for name, meaning in (
        ("stage", "the whole stage"),
        ("pillow, threads", "Pillow, all pixels, in threads"),
    ):
        alone = [found["alone"][name] for found in sizes.values()]
        cells = [f"{row['cpu_ms_per_image']:.1f}; {row['peak_mb_above_its_start']:.0f} MB" for row in alone]
        rows.append([meaning, *cells])
    versions = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    counts = " and ".join(f"{found['files']} files" for found in sizes.values())
    rounds = next(iter(sizes.values()))["over_ours"]["pillow"]["n"]
    return (
        f"{table(['to a square of 256 px', *sizes], rows)}\n\nCPU time of one thread, ms an image; "
        f"how many times ours, median and quartiles of {rounds} rounds; peak memory above the start. {counts}, "
        f"{result['cpu']}; "
        f"libjpeg-turbo {result['libjpeg_turbo']}, {versions}."
    )


def int8() -> str:
    result = read("int8_cpu.json")
    rows, skipped = [], []
    for row in result["rows"]:
        share = row["share"]
        if any(disturbed(result, timed["lowest_ms"]["fp32"]) for timed in row["timed"]):
            skipped.append(row["network"])
            continue
        for timed in row["timed"]:
            low = timed["lowest_ms"]
            rows.append([
                f"{row['network']}, {timed['threads']} thread{'s'[: timed['threads'] > 1]}", f"{low['fp32']:.3f}",
                f"{low['int8']:.3f}", span(timed["speedup"]), f"{share['macs'] / 1e6:,.1f}",
                f"{100 * share['int8_macs'] / share['macs']:.0f}", str(conversions(row)),
                why(row) if timed["speedup"]["ratio"] < FASTER else "",
            ])  # fmt: skip
    head = [
        "network", "FP32, ms", "INT8, ms", "FP32 / INT8", "million MACs", "INT8, % of MACs", "Q/DQ left",
        "why below 1.5",
    ]  # fmt: skip
    return f"{table(head, rows)}\n\n{where(result)}{left_out(skipped)}"


def conversions(row: Any) -> int:
    return sum(row["operators"]["int8"].get(op, 0) for op in ("QuantizeLinear", "DequantizeLinear"))


def why(row: Any) -> str:
    share, operators = row["share"], row["operators"]["int8"]
    reasons = []
    if conversions(row) > 4:
        around = ", ".join(f"{operators[op]} {op}" for op in FLOAT if op in operators)
        reasons.append(f"conversions to and from floating point around {around}")
    if share["macs"] < 5e6:
        reasons.append("so small that starting operators takes the time")
    if share["depthwise_macs"] > 0.02 * share["macs"]:
        reasons.append(
            f"{100 * share['depthwise_macs'] / share['macs']:.0f} % of MACs are depthwise, bound by memory"
        )
    return "; ".join(reasons) or "the graph does not tell"


def tuning() -> str:
    result = read("ort_tuning.json")
    ours = {
        name: next(r for r in rows if r["variant"] == "ours") for name, rows in result["networks"].items()
    }
    networks = [name for name, row in ours.items() if not disturbed(result, row["lowest_ms"])]
    # Threads that wait for each other turn times below a slice into times above it.
    if result["machine"].get("load_1min", 0.0) > result["machine"]["cores"]:
        networks = networks[:1]
    skipped = [name for name in ours if name not in networks]
    names = [row["variant"] for row in result["networks"][networks[0]]]
    rows = []
    for name in names:
        cells = [next(r for r in result["networks"][n] if r["variant"] == name) for n in networks]
        if name == "ours":
            rows.append([f"{name}, ms", *(f"{cell['lowest_ms']:.3f}" for cell in cells)])
        else:
            rows.append([name, *(span(cell["against_ours"]) for cell in cells)])
    small = result["denormals"]
    return (
        f"{table(['times as long as ours', *networks], rows)}\n\n"
        f"`denormals_as_zero` on a network whose activations are denormal numbers: {small['on_ms']:.2f} ms with, "
        f"{small['off_ms']:.0f} ms without. {where(result)}{left_out(skipped)}"
    )


def by_task(kind: str, of: str = "") -> dict[str, Any]:
    """Results of a kind by the task's title, where there are some; `of`: the end of the file's name."""
    files = {title: f"{kind}_{name}{of}.json" for name, title in STUDIES.items()}
    return {title: read(file) for title, file in files.items() if (RESULTS / file).is_file()}


def studies(of: str = "") -> dict[str, Any]:
    """Studies of the default as it is now."""
    now = METHODS["figkd"].defaults
    return {title: result for title, result in by_task("study", of).items() if result.get("defaults") == now}


def tuned() -> str:
    """Methods by task, all tuned alike."""
    return table(*compared.methods(studies()))


def untuned() -> str:
    """Methods by task as they come."""
    return table(*compared.methods(studies("_untuned")))


def summary() -> str:
    """The default against the best baseline of each task, as they come and tuned."""
    return table(*compared.summary(studies("_untuned"), studies()))


def choice() -> str:
    """Candidates for the default against the best baseline of each task, by validation images."""
    return table(*compared.choice(by_task("default")))


def forms() -> str:
    """Other forms of the default's parts, by validation images."""
    return table(*compared.trials(by_task("forms")))


def units() -> str:
    """The teacher's logits multiplied, by test images."""
    return table(*compared.trials(by_task("units")))


def recipe() -> str:
    """What one change of the default recipe does, by task."""
    return table(*compared.changes(studies(), compared.OURS, 1.0))


def residual() -> str:
    """Methods as they come, a residual student, many epochs."""
    return table(*compared.methods(studies("_residual")))


def loss() -> str:
    """What the loss costs, forward and backward."""
    result = read("bench_loss.json")
    by_size: dict[tuple[int, int], dict[str, Any]] = {}
    for row in result["rows"]:
        by_size.setdefault((row["classes"], row["batch"]), {})[row["term"]] = row
    rows = []
    for (classes, batch), terms in by_size.items():
        detail = terms["figkd (detail)"]
        cells = [f"{classes:,}, {batch}", f"{terms['kd (kl divergence)']['microseconds']:,.0f}"]
        for name in ("figkd (detail)", "figkd (kl)"):
            low, high = terms[name]["over_kl_quartiles"]
            cells.append(f"{terms[name]['over_kl']:.2f} ({low:.2f} to {high:.2f})")
        cells += [f"{terms[f'figkd (whole loss{kind})']['over_whole_kd']:.2f}" for kind in ("", ", kl")]
        pywavelets = terms["pywavelets"]["microseconds"] / detail["microseconds"]
        rows.append([*cells, f"{detail['ptwt_over_it']:.1f}", f"{pywavelets:.1f}"])
    head = [
        "classes, batch", "KL of KD, µs", "detail / KL", "class tree / KL", "whole loss / KD's", "that of the KL form",
        "ptwt / detail", "PyWavelets / detail",
    ]  # fmt: skip
    packages = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    n = {row["n"] for row in result["rows"]}
    return (
        f"{table(head, rows)}\n\nMedians of ratios of CPU time and quartiles, n = {max(n)} interleaved rounds; "
        f"{result['device']}, {result['threads']} thread{'s'[: result['threads'] > 1]}; {packages}."
    )


STUDIES = {
    "fonts_cpu": "21 faces", "fonts100": "100 faces", "characters": "240 characters", "emoji": "66 emoji faces",
    "cells": "solar cells", "radicals": "24 radicals", "emoji_families": "8 emoji families", "digits": "digits",
}  # fmt: skip


def serving() -> str:
    """What HTTP costs."""
    result = read("serve.json")
    rows = [
        [
            row["what"],
            f"{row['engine_ms']:.2f}",
            f"{row['http_ms']:.2f}",
            f"{row['overhead_ms']:.2f} ({row['overhead_interval'][0]:.2f} to {row['overhead_interval'][1]:.2f})",
            f"{row['undisturbed_ms']:.2f}",
            str(row["n"]),
        ]
        for row in result["overheads"]
    ]
    head = ["request", "without HTTP, ms", "with it, ms", "difference (95 %)", "of the fastest", "n"]
    machine = result["machine"]
    note = (
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_1min']:.0f}; student {result['student']}. "
        f"Client and server run {result['scheduling']}. "
        "Medians over rounds, in turns; `of the fastest`: each round's fastest, which other work disturbs least."
    )
    return table(head, rows) + f"\n\n{note}\n"


def overload() -> str:
    """Twice as many requests as the engine can answer."""
    result = read("serve.json")
    rows = [
        [
            f"`--waiting {row['waiting']}`",
            f"{row['capacity_per_s']:.0f}",
            f"{row['offered_per_s']:.0f}",
            f"{100 * row['served']:.0f} %",
            f"{100 * row['refused']:.0f} %",
            *(f"{row[key][0]:.3g} / {row[key][1]:.3g}" for key in ("served_ms", "refused_ms")),
            str(row["lost"]),
            str(row["n"]),
        ]
        for row in result["overloads"]
    ]
    head = [
        "",
        "capacity/s",
        "offered/s",
        "200",
        "503",
        "200 after, ms: median / p99",
        "503 after",
        "lost",
        "n",
    ]
    return table(head, rows) + "\n"


def drift() -> str:
    """How often the alarm of `ship status` goes off."""
    result = read("drift.json")
    sizes = [rate["images"] for rate in result["rows"][0]["rates"]]
    head = ["windows", "top-1", *(f"alarms, {size:,} images" for size in sizes), "moved: confidence, classes"]
    rows = []
    for row in result["rows"]:
        rates = [
            f"{100 * rate['rate']:.1f} % ({100 * rate['low']:.1f} to {100 * rate['high']:.1f})"
            for rate in row["rates"]
        ]
        last = row["rates"][-1]
        moved = f"{last['moved_confidence']:.1f} %, {last['moved_classes']:.1f} %"
        rows.append([row["windows"], f"{row['top1']} %" if row["top1"] else "-", *rates, moved])
    n = result["rows"][0]["rates"][0]["windows"]
    note = (
        f"{n:,} windows a cell, each against {result['reference']:,} images of its own; in brackets the "
        f"95 % interval; stated: {100 * result['stated_false_alarms']:.1f} % false alarms a look. Student: that of the "
        f"demonstration, trained without {len(result['faces_left_out'])} of its 21 faces (`benchmarks/bench_drift.py`)."
    )
    return f"{table(head, rows)}\n\n{note}"


def entropy() -> str:
    ways = {
        "minmax": "minmax", "percentile": "percentile", "entropy": "entropy",
        "modelopt entropy": "published formula (modelopt's Torch calibrator)",
        "onnxruntime entropy, 128 bins": "ONNX Runtime's, 128 bins",
    }  # fmt: skip
    names = {
        "figkd/dsconv_nano": "`figkd/dsconv_nano`, fonts", "figkd/dsconv_nano, photographs": "the same, photographs",
        "figkd/mobilenetv2_half": "`figkd/mobilenetv2_half`, fonts",
    }  # fmt: skip
    rows = []
    for case, found in read("entropy.json")["cases"].items():
        for seed, fp32 in enumerate(found["fp32"]):
            scores = [
                f"{found['ways'][way]['onnxruntime'][seed]:.1f} / {found['ways'][way]['tensorrt'][seed]:.1f}"
                for way in ways
            ]
            rows.append([names[case] if seed == 0 else "", f"{fp32:.1f}", *scores])
    return table(["", "FP32", *ways.values()], rows)


def limit() -> str:
    """Shares of the rate of a matrix product, forward and in training."""
    head = ["network", "forward, images/s", "of the limit", "training, images/s", "of the limit", "n"]
    rows = []
    for name, found in read("limit_cpu.json")["networks"].items():
        cells = [f"`{name}`, {found['side']} px, batch {found['batch']}"]
        for way, share in found["share"].items():
            low, middle, high = (100 * share[key] for key in ("q1", "median", "q3"))
            cells += [
                f"{found['images_per_s'][way]['median']:,.0f}",
                f"{middle:.0f} % ({low:.0f} to {high:.0f})",
            ]
        rows.append([*cells, str(len(found["rounds"]))])
    return table(head, rows)


BUSY = {
    "auto": "**`threads: auto`, the default**", "all threads": "all threads, as the command has them",
    "default": "all threads, as OpenMP has it by default", "one thread": "one thread",
    "replicas": "a replica on each core",
}  # fmt: skip


def busy() -> str:
    """Shares of the fair share beside foreign processes."""
    rows = read("busy.json")["rows"]
    counts = sorted({row["foreign"] for row in rows})
    shares = {(row["way"], row["foreign"]): row["share"] for row in rows}
    idle = {row["way"]: row["over_default"] for row in rows if row["foreign"] == 0}

    def cell(found: Any) -> str:
        return f"{found['median']:.2f} ({found['q1']:.2f} to {found['q3']:.2f})"

    return table(
        ["training with", "idle, over OpenMP's default", *(f"beside {count}" for count in counts)],
        [
            [name, cell(idle[way]), *(cell(shares[way, count]) for count in counts)]
            for way, name in BUSY.items()
        ],
    )


def heap() -> str:
    """Freed memory that is kept, over that which is given back."""
    rows = []
    for found in read("heap.json")["networks"]:
        cells = [f"`{found['network']}`, {found['side']} px, batch {found['batch']}"]
        for key in ("training", "prediction", "peak_mb"):
            ratio = found["kept_over_given_back"][key]
            cells.append(f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})")
        faults = [found["ways"][way]["faults_per_step"]["median"] for way in ("given back", "kept")]
        rows.append([*cells, *(f"{count:,.0f}" for count in faults), str(len(found["rounds"]["kept"]))])
    head = [
        "network",
        "training, images/s",
        "prediction, images/s",
        "peak memory",
        "faults a step",
        "kept",
        "n",
    ]
    return table(head, rows)


def decoding() -> str:
    """The same of photographs that are decoded."""
    rows = []
    for form, found in read("heap.json")["formats"].items():
        ratios = [found["kept_over_given_back"][key] for key in ("decoding", "peak_mb")]
        cells = [f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})" for ratio in ratios]
        faults = [found["ways"][way]["faults_per_image"]["median"] for way in ("given back", "kept")]
        rows.append([form, *cells, *(f"{count:,.0f}" for count in faults), str(len(found["rounds"]["kept"]))])
    return table(["format", "images/s", "peak memory", "faults an image", "kept", "n"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "limit": limit, "busy": busy, "heap": heap, "decoding": decoding,
    "decode": decode,
    "agreement": agreement, "int8": int8, "tuning": tuning, "loss": loss,
    "tuned": tuned,
    "untuned": untuned, "summary": summary, "residual": residual, "choice": choice, "recipe": recipe,
    "forms": forms, "units": units,
    "serving": serving, "overload": overload, "drift": drift, "entropy": entropy, **search_tables.TABLES,
}  # fmt: skip


def filled(text: str) -> str:
    """A page with its tables made again."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}{TABLES[found[2]]()}\n{found[3]}"

    return re.sub(r"(<!-- table ([\w ]+) -->\n).*?(<!-- end -->)", made, text, flags=re.DOTALL)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name in PAGES:
        page = ROOT / name
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
