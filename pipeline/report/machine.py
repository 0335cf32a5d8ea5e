"""Facts about machines as tables show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.report import numbers


def machine_facts(machine: Mapping[str, Any], packages: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Facts about the machine as (name, value, value after the timings if it is another by then).

    `packages` that are listed elsewhere in the same version are left out.
    """
    before = machine.get("before")
    after = machine.get("after")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        rest = {k: v for k, v in machine.items() if k not in ("before", "after")}
        first, second = {**rest, **before}, {**rest, **after}
    else:
        first = second = dict(machine)
    old, new = dict(flatten(first)), dict(flatten(second))
    known = {f"packages.{name}": version for name, version in packages.items()}
    return [
        (key, old.get(key, numbers.DASH), new.get(key, numbers.DASH) if old.get(key) != new.get(key) else "")
        for key in dict.fromkeys([*old, *new])
        if known.get(key) != old.get(key) or old.get(key) is None
    ]


def flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as (dotted name, text) pairs."""
    for key, value in facts.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(str(v) for v in value) or numbers.DASH
        elif value is not None:
            yield name, str(value)
