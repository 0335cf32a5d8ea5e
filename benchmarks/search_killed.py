"""A search and a scouting that are killed by SIGKILL at random instants, against ones that are not.

    python benchmarks/search_killed.py search --kills 20
    python benchmarks/search_killed.py scout --kills 8

`search`: 24 trials on the demonstration's fonts. All trials, points and the front must be those of a search
that was never killed; the objectives repeat from run to run. `scout`: 12 candidates on this machine and on a device (a
real sshd on the loopback). No measurement that was finished before a kill may be made again, and the table must have
every candidate, target and precision, timed. Neither depends on how busy the machine is. Writes
benchmarks/results/search_killed.json or scout_killed.json; `--more` adds rounds to those that are there.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a plain checkout

from pipeline.core.files import read_json, write_json
from pipeline.places.environment import cores, cpu_model, versions
from tests.pipeline.conftest import FONTS, command, environment
from tests.pipeline.devices.sshd import Sshd, running_sshd

RESULTS = Path(__file__).parent / "results"
# Twelve training images a class, and a benchmark that is short: figures are not what is shown here.
SMALL = """\
data: {options: {train_per_class: 12, val_per_class: 10, test_per_class: 4}}
teacher: {model: figkd/dsconv_nano, epochs: 1, allow_chance_level: true}
distill: {epochs: 3, views: {count: 2}}
precision: {modes: [fp32, int8], calibration_images: 32, mixed: never, qad: {when: never}}
targets: {rtx: null}
budgets: null
"""
SEARCH = """\
base: base.yaml
name: killed
space:
  data.image_size: [24, 32]
  distill.lr: {log: [0.01, 2]}
  distill.figkd.weight: {uniform: [0.005, 0.05]}
objectives: {val_top1: max, engine_mb@cpu: min}
sampler: tpe
trials: 24
halving: {min_epochs: 1, factor: 3}
confirm: false
"""
LIVES = (0.02, 0.4)
"""The shortest and the longest life of a process that is killed, as a share of an undisturbed one."""
MODELS, SIZES = ("figkd/dsconv_nano",), tuple(range(16, 64, 4))
SHORT = "{min_samples: 100, min_seconds: 0.1, max_seconds: 1, rounds: 2, warmup_ms: 10}"


def main() -> None:
    """Run the undisturbed one, the killed one, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("search", "scout"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="after them no new round begins")
    parser.add_argument(
        "--life",
        type=float,
        help="kills come within two fifths of it, in s; default: what an undisturbed search took, 100 of a scouting",
    )
    parser.add_argument("--more", action="store_true", help="keep the rounds of the result that is there")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory(prefix="figkd-killed-") as name, ExitStack() as servers:
        place, chance = Path(name), random.Random(given.seed)
        if given.what == "search":
            found = _search(place, chance, given.kills, until, given.life)
        else:
            (place / "sshd").mkdir()
            server = servers.enter_context(running_sshd(place / "sshd"))
            found = _scout(place, chance, given.kills, until, given.life or 100.0, server)
    for each in found["rounds"]:
        each |= {"seed": given.seed, "cpu": cpu_model()}
    machine = {"cpu": cpu_model(), "cores": cores(), "packages": versions(("torch", "onnxruntime", "optuna"))}
    path = RESULTS / f"{given.what}_killed.json"
    if given.more and path.is_file():
        found = _with_earlier(read_json(path), found)
    write_json(path, {"machine": machine, **found})
    sys.exit(0 if found["equal"] else 1)


def _with_earlier(earlier: Mapping[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What was found, with the rounds of an earlier result of the same kind before its own."""
    kinds = ("trials", "points", "effort", "states", "candidates", "targets", "rows")
    for key in (key for key in kinds if key in found and earlier[key] != found[key]):
        raise SystemExit(f"{key} were {earlier[key]}, and are {found[key]}: leave out --more")
    rounds = [*earlier["rounds"], *found["rounds"]]
    return {**found, "rounds": rounds, "equal": all(each["equal"] for each in rounds)}


def _search(
    place: Path, chance: random.Random, kills: int, until: float, life: float | None
) -> dict[str, Any]:
    def trials(folder: Path) -> list[dict[str, Any]]:
        files = sorted((folder / "store" / "searches").glob("*/trials/*.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in files]

    def epochs(folder: Path) -> int:
        return sum(max((rung["epochs"] for rung in each["rungs"]), default=0) for each in trials(folder))

    folder, words = prepared(place / "whole")
    undisturbed_s = ended(words, folder)
    whole = outcome(folder)
    print(f"undisturbed: {undisturbed_s:.0f} s, {whole['effort']['epochs']} epochs", flush=True)
    rounds: list[dict[str, Any]] = []
    while (left := kills - sum(len(each["kills"]) for each in rounds)) > 0 and time.monotonic() < until:
        folder, words = prepared(place / f"killed{len(rounds)}")
        share = partial(lambda folder: epochs(folder) / whole["effort"]["epochs"], folder)
        cuts = _killed(words, folder, chance, left, life or undisturbed_s, share)
        ended(words, folder)
        rounds.append({"kills": cuts, "equal": outcome(folder) == whole, "undisturbed_s": undisturbed_s})
        print(f"round {len(rounds)}: {len(cuts)} kills, equal: {rounds[-1]['equal']}", flush=True)
    states = [each["state"] for each in whole["trials"]]
    return {
        "equal": all(each["equal"] for each in rounds), "trials": len(states), "points": len(whole["points"]),
        "front": sorted(point["id"] for point in whole["points"] if point["front"]), "effort": whole["effort"],
        "states": {state: states.count(state) for state in sorted(set(states))}, "rounds": rounds,
    }  # fmt: skip


def _scout(
    place: Path, chance: random.Random, kills: int, until: float, life: float, sshd: Sshd
) -> dict[str, Any]:
    models = "".join(f"    - {model}\n" for model in MODELS)
    text = f"extends: {FONTS}\nname: scouted\n{SMALL.replace('rtx: null', f'rtx: null, edge: {edge(sshd)}')}"
    text += f"scout:\n  models:\n{models}  image_sizes: {list(SIZES)}\n"
    text += "".join(f"  {line.strip()}\n" for line in SHORT.strip("{}").split(","))

    def kept(folder: Path) -> dict[str, bytes]:
        rows = (folder / "store" / "artifacts").glob("scout@*/*/rows.json")
        return {str(path.relative_to(folder)): path.read_bytes() for path in rows}

    def table(folder: Path) -> list[tuple[str, int, str, str, str]]:
        document = json.loads((folder / "runs" / "scouted" / "scout.json").read_text(encoding="utf-8"))
        return [
            (row["candidate"]["model"], row["candidate"]["image_size"], row["target"], row["precision"], row["state"])
            for row in document["rows"]
        ]  # fmt: skip

    def prepared(name: str) -> tuple[Path, list[str]]:
        folder = place / name
        folder.mkdir()
        (folder / "scouted.yaml").write_text(text, encoding="utf-8")
        return folder, command("scout", "scouted.yaml", "--set", "store=store", "--set", "output=runs")

    whole = [
        (model, size, target, precision, "timed")
        for model in MODELS for size in SIZES for target in ("cpu", "edge") for precision in ("fp32", "int8")
    ]  # fmt: skip
    measurements = len(MODELS) * len(SIZES) * 2
    rounds: list[dict[str, Any]] = []
    while (left := kills - sum(len(each["kills"]) for each in rounds)) > 0 and time.monotonic() < until:
        folder, words = prepared(f"killed{len(rounds)}")
        seen: dict[str, bytes] = {}
        look = partial(lambda folder, seen: seen.update({**kept(folder), **seen}), folder, seen)
        share = partial(lambda folder: len(kept(folder)) / measurements, folder)
        cuts = _killed(words, folder, chance, left, life, share, look)
        ended(words, folder)
        again = [path for path, each in seen.items() if kept(folder).get(path) != each]
        equal = table(folder) == whole and len(kept(folder)) == measurements
        rounds.append({"kills": cuts, "equal": equal and not again, "measured_again": len(again)})
        print(f"round {len(rounds)}: {len(cuts)} kills, equal: {equal}, again: {len(again)}", flush=True)
        for row in sorted(set(table(folder)) ^ set(whole)):
            print(f"  {'not expected' if row not in whole else 'missing'}: {row}", flush=True)
    return {
        "equal": all(each["equal"] for each in rounds), "candidates": len(MODELS) * len(SIZES),
        "targets": ["cpu", "edge"], "rows": len(whole), "timed": len(whole), "rounds": rounds,
    }  # fmt: skip


def prepared(folder: Path) -> tuple[Path, list[str]]:
    """A folder that is made, with the files of the search, and the command that begins it or goes on with it."""
    folder.mkdir()
    (folder / "base.yaml").write_text(f"extends: {FONTS}\nname: base\n{SMALL}", encoding="utf-8")
    (folder / "search.yaml").write_text(SEARCH, encoding="utf-8")
    sets = ("store=store", "output=runs", f"scout={SHORT}")
    return folder, command("search", "search.yaml", *(word for each in sets for word in ("--set", each)))


def outcome(folder: Path) -> dict[str, Any]:
    """Of such a search that came to its end what must repeat."""
    document = json.loads((folder / "runs" / "killed" / "search.json").read_text(encoding="utf-8"))
    keys = ("number", "settings", "state", "reason", "epochs", "val_top1", "failures")
    return {
        "trials": [{key: each[key] for key in keys} for each in document["trials"]],
        "points": document["points"],
        "effort": {key: document["effort"][key] for key in ("epochs", "epochs_of_everything")},
    }


def edge(sshd: Sshd) -> str:
    """The section of a target that is a device."""
    remote = f"{{folder: {sshd.folder}, ssh_config: {sshd.config}, python: {sys.executable}}}"
    return f"{{engine: onnxruntime, device: {sshd.url}, remote: {remote}}}"


def _killed(
    words: list[str],
    folder: Path,
    chance: random.Random,
    kills: int,
    seconds: float,
    progress: Callable[[], float],
    look: Callable[[], object] = lambda: None,
) -> list[dict[str, float]]:
    """Start a command and kill it, over and over, until it ends before a kill; how far it was each time."""
    cuts: list[dict[str, float]] = []
    while len(cuts) < kills:
        after = chance.uniform(*LIVES) * seconds
        process = subprocess.Popen(
            words, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        else:
            break
        cuts.append({"after_s": round(after, 2), "done": round(progress(), 3)})
        look()
        print(f"kill {len(cuts)}: after {after:.1f} s, {cuts[-1]['done']:.0%} done", flush=True)
    return cuts


def ended(words: list[str], folder: Path) -> float:
    """Seconds of a run to its end."""
    began = time.monotonic()
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}\n{done.stderr}")
    return round(time.monotonic() - began, 1)


if __name__ == "__main__":
    main()
