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


def scout_killed() -> str:
    """A scouting that was killed."""
    result = read("scout_killed.json")
    kills, rounds = _kills(result), result["rounds"]
    again = sum(each["measured_again"] for each in rounds)
    targets = len(result["targets"])
    return (
        f"{result['candidates']} candidates on {targets} targets, {result['rows']} engines: killed by `kill -9` at "
        f"{len(kills)} random instants {_spread(kills)} in {len(rounds)} {_plural(rounds, 'round')}, the table came "
        f"out whole in {sum(each['equal'] for each in rounds)} of {len(rounds)}, and {again} finished measurements "
        "were made again."
    )


def networks() -> str:
    """A front of several networks."""
    result = read("search_networks.json")
    head = [
        "point", "network", "image size", "precision", "validation top-1, %", "p50 on `edge`, ms", "MB",
        "test top-1, %",
    ]  # fmt: skip
    rows = []
    for point in result["front"]:
        values, settings = point["values"], point["settings"]
        top1, latency = values["val_top1"], values["latency_p50_ms@edge"]
        tested = point["confirmed"]["engines"][0]
        rows.append([
            f"{point['front']}", f"`{settings['student.model']}`", f"{settings['data.image_size']}", point["precision"],
            f"{top1['value']:.1f} ({top1['low']:.1f} to {top1['high']:.1f})",
            f"{latency['value']:.3f} ({latency['low']:.3f} to {latency['high']:.3f})",
            f"{values['engine_mb@cpu']['value']:.3f}", f"{tested['test_top1']:.1f}",
        ])  # fmt: skip
    states = ", ".join(f"{count} {state}" for state, count in result["states"].items())
    chosen = result["chosen"]
    return (
        f"{table(head, rows)}\n\n{result['trials']} trials ({states}), {result['points']} points, "
        f"{result['effort']['epochs']} epochs of {result['effort']['epochs_of_everything']}; "
        f"{result['validation_images']} validation images. Of the {chosen['steps']} steps of point 1's config, "
        f"{chosen['cached']} were cached. {where(result)}"
    )


def engines() -> str:
    """The same search by each engine."""
    result = read("search_engines.json")
    same = ", ".join(f"`{engine}`: {'yes' if equal else 'no'}" for engine, equal in result["equal"].items())
    return (
        f"{result['trials']} trials, {result['points']} points: the same settings, promotions, accuracies and front as "
        f"with `local`? {same}. {where(result)}"
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


def _plural(each: list[Any], word: str) -> str:
    return word if len(each) == 1 else f"{word}s"


def _spread(done: list[float]) -> str:
    return f"({100 * min(done):.0f} to {100 * max(done):.0f} % of the work done)"


def _same(result: Any) -> str:
    rounds = len(result["rounds"])
    equal = sum(each["equal"] for each in result["rounds"])
    return f"came out as undisturbed in {equal} of {rounds} rounds"


TABLES: dict[str, Callable[[], str]] = {
    "scout": scout, "estimate": estimate, "search killed": search_killed, "scout killed": scout_killed,
    "networks": networks, "engines": engines, "saved": saved,
}  # fmt: skip
