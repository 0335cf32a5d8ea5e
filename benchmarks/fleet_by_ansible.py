"""Twenty devices by Ansible, with faults, and a controller that is killed at random instants.

Devices are network namespaces with real sshds: two have no link, one a full disk, one fails its self-test, one is slow.
A first rollout runs undisturbed. In each round after it a new release is rolled out by a controller that is killed
several times, and then once to its end; the devices must end as after the first one.

    python benchmarks/fleet_by_ansible.py --rounds 5 --kills 10 --out benchmarks/results/fleet_by_ansible.json

Needs root, sshd, ip and ansible-core.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from export.runtime.files import sha256
from pipeline.shipping.kit import write_kit
from tests.pipeline.shipping.fleet import Fleet, bundle, fleet_of, needed

WAVES = '{"figkd_waves": [1, "30%", "100%"], "figkd_max_fail_percentage": 34}'
SLOW, FAILS, NO_LINK, FULL = 3, 5, (8, 15), 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=10, help="of the controller in each round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if missing := needed():
        sys.exit(missing)
    with tempfile.TemporaryDirectory() as place:
        write_kit("ansible", Path(place) / "kit")
        with fleet_of(given.devices, Path(place) / "kit", full=[FULL]) as fleet:
            found = _measured(fleet, Path(place), given)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(0 if found["equal"] else 1)


def _measured(fleet: Fleet, place: Path, given: argparse.Namespace) -> dict[str, Any]:
    chance = random.Random(given.seed)
    fleet.machines[SLOW - 1].folder.joinpath("SLOW").touch()
    fleet.machines[FAILS - 1].folder.joinpath("FAILS").touch()
    for number in NO_LINK:
        fleet.link(fleet.machines[number - 1], up=False)
    undisturbed = _rolled_out(fleet, bundle(place / "b1", 1), show=True)
    rounds = []
    for number in range(2, given.rounds + 2):
        new, kills = bundle(place / f"b{number}", number), []
        for _ in range(given.kills):
            after_s = chance.uniform(0.5, 0.8 * undisturbed["seconds"])
            running = fleet.play_and_kill(
                "ship.yml", "-e", f"figkd_bundle={new}", "-e", WAVES, after_s=after_s
            )
            kills.append({"after_s": round(after_s, 2), "running": running, "serve_it": _count(fleet, new)})
            print(
                f"round {number - 1}: killed after {after_s:.1f} s, {kills[-1]['serve_it']} serve it",
                flush=True,
            )
        ended = _rolled_out(fleet, new)
        rounds.append({"kills": kills, **ended})
        print(f"round {number - 1}: {ended['counts']}; {ended['devices']}", flush=True)
    equal = all(one["devices"] == undisturbed["devices"] for one in rounds)
    killed = sum(kill["running"] for one in rounds for kill in one["kills"])
    litter = [path for machine in fleet.machines for path in machine.litter]
    print(
        f"killed {killed} times while it ran; the same end state: {equal}; left behind: {litter}", flush=True
    )
    return {
        "devices": given.devices, "killed": killed, "equal": equal and not litter, "undisturbed": undisturbed,
        "rounds": rounds,
    }  # fmt: skip


def _rolled_out(fleet: Fleet, new: Path, show: bool = False) -> dict[str, Any]:
    began = time.monotonic()
    done = fleet.play("ship.yml", "-e", f"figkd_bundle={new}", "-e", WAVES, wait_s=1800)
    seconds = time.monotonic() - began
    if show:
        print(done.stdout[done.stdout.index("PLAY RECAP") :], flush=True)
    counts: dict[str, int] = {}
    for outcome in fleet.outcomes().values():
        counts[outcome] = counts.get(outcome, 0) + 1
    id = sha256(new / "manifest.json")
    return {
        "seconds": round(seconds, 1), "exit_code": done.returncode, "counts": counts,
        "devices": {machine.name: machine.serves == id for machine in fleet.machines},
    }  # fmt: skip


def _count(fleet: Fleet, new: Path) -> int:
    id = sha256(new / "manifest.json")
    return sum(machine.serves == id for machine in fleet.machines)


if __name__ == "__main__":
    main()
