"""Names of candidate networks as a config writes them: names, patterns, `{width}`. No library is imported."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from figkd import model_names, own_network
from pipeline.config.problems import MAX_TOLD, Problem

MOST_CANDIDATES = 10_000
"""More networks times image sizes than this are refused."""
WIDTH = "{width}"
_WILD = frozenset("*?[")


@dataclass(frozen=True)
class Named:
    """Network names, each once, in the order in which they were written, and what is wrong with the others."""

    models: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def named_models(entries: Sequence[str], widths: Sequence[str], key: str) -> Named:
    """The networks that entries mean.

    Args:
        entries: names as in `student.model`, or shell patterns over the names of the libraries
            (`timm/mobilenetv4_conv_*`); each may hold `{width}`.
        widths: what stands for `{width}`, in turn.
        key: the section that holds them, for problems.
    """
    found = Named()
    if widths and not any(WIDTH in entry for entry in entries):
        fix = f"write it where the width stands in a name, such as timm/mobilenetv3_small_{WIDTH}"
        found.problems.append(Problem(f"{key}.widths", f"no name holds {WIDTH}", fix, list(widths)))
    models: dict[str, None] = {}
    names = dict.fromkeys(
        name for entry in entries for name in ([entry.replace(WIDTH, w) for w in widths] or [entry])
    )
    for name in names:
        if len(found.problems) > MAX_TOLD:  # nobody reads more, and near names take time
            break
        if WIDTH in name:
            fix = f'such as {key}.widths: ["050", "100"]'
            found.problems.append(Problem(f"{key}.models", f"nothing is given for {WIDTH}", fix, name))
        elif _WILD & set(name):
            matching = fnmatch.filter(_all(), name)
            models |= dict.fromkeys(matching)
            if not matching:
                found.problems.append(Problem(f"{key}.models", "matches no network", _near(name), name))
        elif own_network.is_own(name) or model_names.known_model(name):
            models[name] = None
        else:
            found.problems.append(Problem(f"{key}.models", "unknown model", _near(name), name))
    found.models.extend(models)
    return found


def too_many(models: int, sizes: int) -> str:
    """Why so many candidates are refused; empty if they are not."""
    if models * sizes <= MOST_CANDIDATES:
        return ""
    return (
        f"{models:,} networks x {sizes:,} image sizes are {models * sizes:,} candidates; at most "
        f"{MOST_CANDIDATES:,} are taken"
    )


@lru_cache(maxsize=1)
def _all() -> list[str]:
    return model_names.all_models()


def _near(name: str) -> str:
    bare = "".join(sign for sign in name if sign not in "*?[]!")
    near = " or ".join(repr(close) for close in model_names.suggest(bare)) if bare.strip("/") else ""
    return f"did you mean {near}?" if near else "figkd-pipeline list models shows all"
