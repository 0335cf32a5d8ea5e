"""The tables of docs/scouting.md and docs/search.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from stored import read, span, table, where


def scout() -> str:
    """Trained against untrained networks."""
    result = read("scout.json")
    rows = [
        [
            f"`{network}`, {precision}", *(f"{row['median_ms'][kind]:.3f}" for kind in ("trained", "untrained")),
            span(row["ratio"], 3), f"{min(row['n'].values()):,}",
        ]
        for network, each in result["trained_over_untrained"].items()
        for precision, row in sorted(each.items())
    ]  # fmt: skip
    ratios = [
        r["ratio"]["ratio"] for each in result["trained_over_untrained"].values() for r in each.values()
    ]
    rounds = next(iter(next(iter(result["trained_over_untrained"].values())).values()))["ratio"]["n"]
    head = ["network, engine", "trained, ms", "untrained, ms", "trained / untrained (95 %)", "n, at least"]
    return (
        f"{table(head, rows)}\n\nThe {len(ratios)} ratios lie between {min(ratios):.3f} and {max(ratios):.3f}: "
        f"{rounds} rounds in turns, one thread. {where(result)}"
    )


def estimate() -> str:
    """What `plan --estimate` says against what a run takes."""
    result = read("estimate.json")
    rows = [
        [
            f"{row['config']} (`{row['file']}`)", f"{row['estimated_s']:.0f}", f"{row['took_s']:.0f}",
            f"{row['took_s'] / row['estimated_s']:.2f}",
            f"{row['estimated_bytes'] / 1e6:.1f} / {row['took_bytes'] / 1e6:.1f}",
            f"{row['estimated_memory'] / 1e9:.2f} / {row['took_memory'] / 1e9:.2f}",
            f"{row['load_1min']:.0f}",
        ]
        for row in result["rows"]
    ]  # fmt: skip
    head = ["config", "estimated, s", "taken, s", "taken / estimated", "disk, MB", "memory, GB", "load"]
    ratios = [row["took_s"] / row["estimated_s"] for row in result["rows"]]
    return (
        f"{table(head, rows)}\n\nDisk and memory: estimated / taken. Load: of the machine at "
        f"the end. One run each; median ratio {statistics.median(ratios):.2f}. {where(result)}"
    )


def search_killed() -> str:
    """A search that was killed."""
    result = read("search_killed.json")
    kills = _kills(result)
    counts = ", ".join(f"{count} {state}" for state, count in result["states"].items())
    return (
        f"{result['trials']} trials drawn by `tpe` ({counts}), {result['points']} points: killed by "
        f"`kill -9` at {len(kills)} random instants {_spread(kills)}, trials, points and front {_same(result)}."
    )


def saved() -> str:
    """Training that a search saves."""
    result = read("search_saved.json")
    everything = result["epochs"]["everything"]
    full_s = result["seconds"]["everything"]
    rows = []
    for name, epochs in result["epochs"].items():
        seconds = result["seconds"].get(name)
        if seconds is None:
            seconds = full_s - result["of_the_excluded_s"]
        rows.append([
            name, f"{epochs}", f"{everything / epochs:.1f}", f"{seconds:.0f}", f"{full_s / seconds:.1f}",
        ])  # fmt: skip
    head = ["trained", "epochs", "everything / this", "seconds of trials", "everything / this"]
    trials = len(result["trials"]["everything"])
    return (
        f"{table(head, rows)}\n\n{trials} trials, {result['excluded']} of them excluded untrained. Scouting alone: "
        f"the search in full without the trials that scouting excludes. {where(result)}"
    )


def _kills(result: Any) -> list[float]:
    return [kill["done"] for each in result["rounds"] for kill in each["kills"]]


def _spread(done: list[float]) -> str:
    return f"({100 * min(done):.0f} to {100 * max(done):.0f} % of the work done)"


def _same(result: Any) -> str:
    rounds = len(result["rounds"])
    equal = sum(each["equal"] for each in result["rounds"])
    return f"came out as undisturbed in {equal} of {rounds} rounds"


TABLES: dict[str, Callable[[], str]] = {
    "scout": scout, "estimate": estimate, "search killed": search_killed, "saved": saved,
}  # fmt: skip
