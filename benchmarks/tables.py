"""Write the tables of the documentation again from benchmarks/results/*.json.

    python benchmarks/tables.py

A table stands between `<!-- table NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "study")]

import search_tables  # noqa: E402
import show  # noqa: E402
from stored import read, span, table, where  # noqa: E402

PAGES = (
    "docs/measurement.md", "docs/method.md", "docs/datasets.md", "docs/serving.md", "docs/scouting.md",
    "README.md",
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


def study(name: str) -> str:
    """The methods of a study, best first."""
    result = read(f"study_{name}.json")
    teacher = result["teacher"]
    return (
        f"{show.table([row for row in result['rows'] if not row['control']])}\n\n"
        f"Teacher {teacher['model']}, {teacher['parameters']:,} parameters, {teacher['test_top1']:.1f} %; "
        f"student {result['student']}. `{result['command']}`"
    )


def controls(name: str, batch_weight: float) -> str:
    """What one change does: its students against those of the recipe that it changes, of the same seeds."""
    rows = read(f"study_{name}.json")["rows"]
    own = {"distill.lr", "distill.method", "distill.figkd.batch_weight"}

    def weight(row: Any) -> float:
        return float(row["settings"].get("distill.figkd.batch_weight", -1))

    base = next(
        row
        for row in rows
        if row["method"] in show.OURS and row["settings"].keys() == own and weight(row) == batch_weight
    )
    found = []
    for row in sorted((row for row in rows if row["control"]), key=lambda row: -row["mean"]):
        if weight(row) != batch_weight:
            continue
        gaps = [a - b for a, b in zip(row["test_top1"], base["test_top1"], strict=False)]
        error = statistics.stdev(gaps) / len(gaps) ** 0.5
        found.append([
            row["method"].split(", ", 1)[1], str(row["n"]), f"{row['mean']:.1f} ± {row['std']:.1f}",
            f"{statistics.mean(gaps):+.1f} ± {error:.1f}",
        ])  # fmt: skip
    return table(["changed", "n", "test top-1, mean ± std", "minus the unchanged ± SE"], found)


def headline() -> str:
    """The README's: two tasks side by side, in the order of the first."""
    by_task = []
    for name in ("fonts_cpu", "fonts100"):
        rows = {row["method"]: row for row in read(f"study_{name}.json")["rows"] if not row["control"]}
        by_task.append(rows)
    first, second = by_task
    lines = []
    for method in sorted(first, key=lambda name: -first[name]["mean"]):
        if method not in TITLES or method not in second:
            continue
        cells = []
        for rows in by_task:
            row = rows[method]
            cells.append(f"{row['mean']:.1f} ± {row['std']:.1f}")
            gap = f"{row['figkd_minus']:+.1f} ± {row['figkd_minus_standard_error']:.1f}"
            cells.append("–" if method == "figkd" else gap)
        lines.append([TITLES[method], *cells])
    n, m = (rows["figkd"]["n"] for rows in by_task)
    head = ["method", f"21 faces (n = {n})", "FiGKD minus it", f"100 faces (n = {m})", "FiGKD minus it"]
    return table(head, lines)


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
        for name in ("figkd (detail)", "figkd (detail, correlation)"):
            low, high = terms[name]["over_kl_quartiles"]
            cells.append(f"{terms[name]['over_kl']:.2f} ({low:.2f} to {high:.2f})")
        cells.append(f"{terms['figkd (whole loss)']['over_whole_kd']:.2f}")
        cells += [f"{terms[name]['over_kl']:.2f}" for name in ("figkd (all levels)", "figkd (kl)")]
        pywavelets = terms["pywavelets"]["microseconds"] / detail["microseconds"]
        rows.append([*cells, f"{detail['ptwt_over_it']:.1f}", f"{pywavelets:.1f}"])
    head = [
        "classes, batch", "KL of KD, µs", "detail / KL", "detail and correlation / KL", "whole loss / KD's",
        "all levels / KL", "class tree / KL", "ptwt / detail", "PyWavelets / detail",
    ]  # fmt: skip
    packages = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    n = {row["n"] for row in result["rows"]}
    return (
        f"{table(head, rows)}\n\nMedians of ratios and quartiles, n = {max(n)} interleaved rounds; {result['device']}, "
        f"{result['threads']} thread{'s'[: result['threads'] > 1]}; {packages}."
    )


def updated(name: str) -> str:
    """Orders that are made again while the student learns."""
    rows = [
        [row["order"], str(row["n"])]
        + [f"{row[f'{split}_mean']:.1f} ± {row[f'{split}_std']:.1f}" for split in ("val", "test")]
        + [f"{row['test_minus_teacher']:+.1f} ± {row['test_minus_teacher_standard_error']:.1f}"]
        for row in read(f"updated_order_{name}.json")["rows"]
    ]
    return table(["order from", "n", "validation top-1", "test top-1", "test, minus the first ± SE"], rows)


TASKS = {
    "fonts_cpu": "21 faces", "fonts": "21 faces, few images", "characters": "240 characters", "emoji": "66 emoji faces",
    "radicals": "24 radicals", "emoji_families": "8 emoji families",
}  # fmt: skip


def recipes() -> str:
    """Untuned recipes by task: mean top-1, and the default minus it."""
    tasks = read("default_recipe.json")["tasks"]
    by_recipe: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        for row in tasks[task]["rows"]:
            by_recipe.setdefault(row["recipe"], {})[task] = row

    def cell(row: Any) -> str:
        if row is None:
            return "not run"
        few = "" if row["n"] == 5 else f", n = {row['n']}"
        if "figkd_minus_it" not in row:
            return f"**{row['mean']:.1f}**{few}"
        return f"{row['mean']:.1f} ({row['figkd_minus_it']:+.1f} ± {row['standard_error']:.1f}{few})"

    rows = [
        [name, *(cell(found.get(task)) for task in TASKS)]
        for name, found in sorted(by_recipe.items(), key=lambda item: item[0] != "figkd")
    ]
    teachers = ["teacher", *(f"{tasks[task]['teacher']['test']:.1f}" for task in TASKS)]
    return table(["recipe", *TASKS.values()], [*rows, teachers])


TITLES = {
    "figkd": "**FiGKD**", "dist": "DIST", "centred_logit_mse": "centred logit MSE", "dkd_ls": "DKD, standardised",
    "ce": "CE, no teacher", "kd_ls": "KD, standardised", "dkd": "DKD", "kd": "KD",
}  # fmt: skip
STUDIES = ("fonts_cpu", "fonts100", "cells", "digits")
FONTS = ("fonts_cpu", "fonts100")


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


TABLES: dict[str, Callable[[], str]] = {
    "decode": decode, "recipes": recipes,
    "agreement": agreement, "int8": int8, "tuning": tuning, "loss": loss, "headline": headline,
    "serving": serving, "overload": overload, **search_tables.TABLES,
    **{f"study {name}": partial(study, name) for name in STUDIES},
    **{f"detail {name}": partial(controls, name, 0.0) for name in FONTS},
    **{f"recipe {name}": partial(controls, name, 1.0) for name in FONTS},
    **{f"updated {name}": partial(updated, name) for name in FONTS},
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
