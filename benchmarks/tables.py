"""Write the tables of docs/measurement.md again from benchmarks/results/*.json.

    python benchmarks/tables.py

A table stands between `<!-- table NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "measurement.md"
RESULTS = ROOT / "benchmarks" / "results"
FASTER = 1.5
SLICE_MS = 3.0
# Operators of image networks that ONNX Runtime's CPU has no INT8 kernel for.
FLOAT = ("HardSigmoid", "HardSwish", "Mul", "Sigmoid", "Erf", "Gelu", "Softmax", "LayerNormalization")


def read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def table(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def where(result: Any) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    load = result["machine"].get("load_1min")
    busy = f", load {load:.1f} at the end" if load is not None else ""
    return f"{result['machine']['cpu']}, {result['machine']['cores']} cores{busy}; {versions}."


def disturbed(result: Any, ms: float) -> bool:
    """More load than cores, and a time that a scheduler interrupts: not to be shown as a fact."""
    machine = result["machine"]
    return bool(machine.get("load_1min", 0.0) > machine["cores"] and ms > SLICE_MS)


def left_out(names: list[str]) -> str:
    if not names:
        return ""
    return f" Left out, because the machine was loaded and they take longer than {SLICE_MS:g} ms: {', '.join(names)}."


def span(found: Any, digits: int = 2) -> str:
    return f"{found['ratio']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"


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


TABLES = {"agreement": agreement, "int8": int8, "tuning": tuning}


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = pattern.sub(lambda found, make=make: f"{found[1]}{make()}\n{found[2]}", text)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
