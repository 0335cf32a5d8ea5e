"""One search by each engine: the trials, points and front of `local` must come out of submitit and of Ray, too.

    pip install 'figkd-pipeline[search,slurm,ray]'
    python benchmarks/search_engines.py [--engines submitit ray]

The 24 trials of `search_killed.py`, each time in a store of its own: here one after the other, then two at a time as
jobs of submitit's local executor and as tasks of a Ray cluster that is started for it. Writes
benchmarks/results/search_engines.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a plain checkout

from search_killed import ended, outcome, prepared

from pipeline.core.files import write_json
from pipeline.places.environment import cores, cpu_model, versions

RESULT = Path(__file__).parent / "results" / "search_engines.json"
ENGINES = {
    "local": (),
    "submitit": ("jobs=2", "engine=submitit", "slurm={cluster: local, cpus: 1}"),
    "ray": ("jobs=2", "engine=ray"),
}


def main() -> None:
    """Search by each engine, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES)[1:], default=list(ENGINES)[1:])
    given = parser.parse_args()
    outcomes, seconds = {}, {}
    with tempfile.TemporaryDirectory(prefix="figkd-engines-") as place:
        for engine in ("local", *given.engines):
            folder, words = prepared(Path(place) / engine)
            sets = [word for each in ENGINES[engine] for word in ("--set", f"search.{each}")]
            seconds[engine] = ended([*words, *sets], folder)
            outcomes[engine] = outcome(folder)
            equal = outcomes[engine] == outcomes["local"]
            print(f"{engine}: {seconds[engine]:.0f} s, equal: {equal}", flush=True)
    whole = outcomes["local"]
    result = {
        "machine": {"cpu": cpu_model(), "cores": cores()},
        "packages": versions(("torch", "onnxruntime", "optuna", "submitit", "ray")), "seconds": seconds,
        "equal": {engine: found == whole for engine, found in outcomes.items() if engine != "local"},
        "trials": len(whole["trials"]), "points": len(whole["points"]), "effort": whole["effort"],
        "front": [point["id"] for point in whole["points"] if point["front"]],
    }  # fmt: skip
    write_json(RESULT, result)
    sys.exit(0 if all(result["equal"].values()) else 1)


if __name__ == "__main__":
    main()
