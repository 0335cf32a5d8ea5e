"""Where the code of a network of the user's own lies: the key `code` of teacher and student."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from figkd import own_network
from pipeline.config.layers import Layered
from pipeline.config.problems import Problem
from pipeline.config.schema import Network


def fill_code(layered: Layered, config: Path) -> None:
    """Set `code` where `model` is `module:function` and its file lies beside the file of the config that says so.

    Args:
        layered: merged values; changed in place.
        config: the config's path; a `--set` counts as written there.
    """
    for section in ("teacher", "student"):
        values = layered.values.get(section)
        if not isinstance(values, dict) or values.get("code") is not None:
            continue
        model = values.get("model")
        if not isinstance(model, str) or not own_network.is_own(model):
            continue
        source = Path(layered.places.get(f"{section}.model", "").rpartition(":")[0])
        folder = (source if source.is_file() else config).parent
        if file := own_network.beside(folder, own_network.module_of(model)):
            values["code"] = str(file)
    _fill_candidates(layered, config)


def _fill_candidates(layered: Layered, config: Path) -> None:
    """The same for the candidates of `scout`, by module."""
    scout = layered.values.get("scout")
    if not isinstance(scout, dict) or not isinstance(models := scout.get("models"), list):
        return
    source = Path(layered.places.get("scout.models", "").rpartition(":")[0])
    folder = (source if source.is_file() else config).parent
    files = scout.setdefault("code", {})
    if not isinstance(files, dict):
        return
    names = [name for name in models if isinstance(name, str)]
    for module in {own_network.module_of(name) for name in names if own_network.is_own(name)}:
        if module not in files and (file := own_network.beside(folder, module)):
            files[module] = str(file)


def looks_own(network: Network) -> bool:
    """Whether a name is meant as `module:function`, well written or not."""
    return ":" in network.model and "/" not in network.model.rpartition(":")[2]


def own_problems(key: str, network: Network) -> Iterator[Problem]:
    """What is wrong with a network that `looks_own`, as far as it shows without running its code."""
    model, code = network.model, network.code
    if not own_network.is_own(model):
        words = [word for word in re.split(r"[^A-Za-z0-9_]+", model.replace(".py:", ":")) if word]
        example = f"{words[-2]}:{words[-1]}" if len(words) > 1 else "my_nets:make"
        fix = f"a network of your own is module:function, such as {example}"
        yield Problem(f"{key}.model", "unknown model", fix, model)
        return
    module = own_network.module_of(model)
    if network.pretrained:
        fix = f"set it to false; {key}.checkpoint takes weights of your own"
        yield Problem(f"{key}.pretrained", "a network of your own has no published weights", fix, True)
    if code is None:
        file = own_network.installed(module)
        if file is None or file.suffix != ".py":
            fix = f"put {module.replace('.', '/')}.py beside the config, name it in {key}.code, or install it"
            yield Problem(f"{key}.model", f"no Python module {module!r}", fix, model)
        return
    if not code.is_file():
        yield Problem(
            f"{key}.code", "no such file", "paths are relative to where the command runs", str(code)
        )
        return
    stem = code.parent.name if code.name == "__init__.py" else code.stem
    if code.suffix != ".py" or stem != module.rpartition(".")[2]:
        fix = f"the file of {module}, which ends in .py"
        yield Problem(f"{key}.code", f"is not the file of the module {module!r}", fix, str(code))
