"""Checks of speed: distillation against the usual loop, and training against the device's matrix product."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.gpu.checks import Found, demand
from benchmarks.gpu.training import Setting
from benchmarks.gpu.training import prepare as prepare  # the same setting

GOAL = 10.0
"""How many times as fast as the usual loop distillation with a cache must be at batch 64."""


def against_the_usual_loop(batch: int, goal: float = 0.0) -> Callable[[Setting], Found]:
    """An epoch of ours and as many images of the usual loop in turns, with a cache and with the teacher online."""

    def check(setting: Setting) -> Found:
        from bench_training import run_pair  # needs torchvision, for the usual loop

        found = run_pair(
            setting.pair,
            device=setting.device,
            batch=16 if setting.tiny else batch,
            rounds=2 if setting.tiny else 5,
            steps=2 if setting.tiny else 9_600 // batch,
            method="kd",
            compile="auto",
            amp="none" if setting.device == "cpu" else "bf16",
        )
        cached, online = found["speedup_cached"], found["speedup_online"]
        found["note"] = (
            f"{cached['median']:.1f} x the usual loop (quartiles {cached['q1']:.1f} to {cached['q3']:.1f}, "
            f"n = {cached['n']}), {online['median']:.1f} x with the teacher online"
        )
        reached = setting.device == "cpu" or cached["median"] >= goal
        return demand(reached, f"{found['note']}; the goal is {goal:g} x", found)

    check.__doc__ = against_the_usual_loop.__doc__
    return check


def of_the_limit(batch: int) -> Callable[[Setting], Found]:
    """Training and forward pass of the student as a share of the measured rate of a matrix product."""

    def check(setting: Setting) -> Found:
        from bench_limit import NETWORKS, measure, show

        network, side, classes, _, _ = NETWORKS["resnet_tiny" if setting.tiny else "resnet8x4"]
        found = measure(
            network, side=side, classes=classes, batch=16 if setting.tiny else batch,
            steps=2 if setting.tiny else 25_600 // batch, rounds=2 if setting.tiny else 5, device=setting.device,
            amp="none" if setting.device == "cpu" else "bf16", compile="auto",
        )  # fmt: skip
        return {"note": show(found), **found}

    check.__doc__ = of_the_limit.__doc__
    return check


CHECKS: dict[str, Callable[[Setting], Found]] = {
    "speed_64": against_the_usual_loop(64, GOAL),
    "limit_64": of_the_limit(64),
    "limit_512": of_the_limit(512),
    "speed_512": against_the_usual_loop(512),
}
