"""Networks of a user's own: a function in a Python file or in an installed module, named instead of a built-in network.

Two forms of a name:

    my_nets:make            function `make` of the importable module `my_nets` (dotted names and attributes work)
    /path/my_nets.py:make   function `make` of that file; if the file belongs to a package, the package is loaded

The function is called as `make(num_classes=C)`, with `image_size=...` as well if it has such a parameter, and returns
a torch.nn.Module from normalised images float32 [B, 3, H, W] to logits [B, C]. Naming a module runs its code. Nothing
is run before `build`: finding and hashing a module only reads files.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from figkd.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

_WORD = r"[A-Za-z_]\w*"
_DOTTED = rf"{_WORD}(?:\.{_WORD})*"
_NAME = re.compile(rf"(?P<module>{_DOTTED}):(?P<attribute>{_DOTTED})", re.ASCII)
_MOST_FILES, _MOST_BYTES = 5_000, 100_000_000
_PRIVATE = "_figkd_own_"
"""How names of modules begin that were loaded from a user's file."""
_SAID = 200
"""Characters of an error's own words."""
_CONTRACT = "it is called with num_classes and, if it has such a parameter, image_size"


def is_own(name: str) -> bool:
    """Whether a name is of the form `module:function`."""
    found = _NAME.fullmatch(name)
    return found is not None and not found["module"].endswith(".py")


def module_of(name: str) -> str:
    """The module of a name for which `is_own` holds."""
    return name.partition(":")[0]


def in_file(name: str, file: Path | None) -> str:
    """The name that `build` takes for `module:function`, whose module is `file`; as it is without a file."""
    return name if file is None else f"{os.path.abspath(file)}:{name.partition(':')[2]}"


def beside(folder: Path, module: str) -> Path | None:
    """The file of a dotted module below a folder; None if there is none."""
    stem = folder.joinpath(*module.split("."))
    return next((p for p in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py") if p.is_file()), None)


def installed(module: str) -> Path | None:
    """The source file of an importable module, found without importing it or its packages; None if there is none."""
    top, *rest = module.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    full = top
    for part in rest:
        full = f"{full}.{part}"
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(full, list(spec.submodule_search_locations))
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    return Path(spec.origin)


def package_root(file: Path) -> Path:
    """The folder of the outermost package that a module's file belongs to; the file itself if it is in none."""
    root = file
    while (root.parent / "__init__.py").is_file():
        root = root.parent
    return root


def source_files(file: Path) -> list[Path]:
    """The Python files that decide what a module's file builds: itself, or all of the package that it belongs to.

    Raises:
        ModelError: the package is too large to be hashed.
    """
    root = package_root(file)
    if root == file:
        return [file]
    found, size = [], 0
    for place, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f != "__pycache__" and not f.startswith("."))
        for name in sorted(n for n in names if n.endswith(".py")):
            path = Path(place, name)
            found.append(path)
            size += path.stat().st_size
            if len(found) > _MOST_FILES or size > _MOST_BYTES:
                raise ModelError(
                    f"the package {root} has more than {_MOST_FILES:,} Python files or {_MOST_BYTES // 10**6} MB",
                    "put the network into a file or a small package of its own",
                )
    return found


def build(name: str, num_classes: int, image_size: int) -> nn.Module:
    """Call the function that a name stands for; the random weights follow from torch's global generator.

    What the module or the function prints goes to stderr.

    Args:
        name: either form of this module's docstring.
        num_classes: C.
        image_size: side of the square input in pixels.

    Raises:
        ModelError: no such module or function, it raises, takes other arguments, or returns no torch module.
    """
    from torch import nn

    place, _, attribute = name.rpartition(":")
    with contextlib.redirect_stdout(sys.stderr), _no_bytecode():  # a function may import, too
        module = _load(place)
        function = _function(module, place, attribute)
        arguments = _arguments(function, name, num_classes, image_size)
        try:
            network = function(**arguments)
        except (Exception, SystemExit) as error:
            raise ModelError(f"{name} raised {_reason(error)}", "correct the function") from error
    if not isinstance(network, nn.Module):
        kind = f"the class {network.__name__}" if isinstance(network, type) else type(network).__name__
        raise ModelError(f"{name} returns {kind}", "return an instance of torch.nn.Module")
    return network.cpu().train()


def at_work(error: Exception) -> ModelError | None:
    """What a network's own code raised when it ran, with its line; None if no code of a file of a user's did."""
    frames = list(traceback.walk_tb(error.__traceback__))
    lines = [(f, n) for f, n in frames if str(f.f_globals.get("__name__", "")).startswith(_PRIVATE)]
    if not lines:
        return None
    frame, line = lines[-1]
    said = " ".join(str(error).split())[:_SAID]
    what = f"{type(error).__name__}{': ' if said else ''}{said}"
    return ModelError(f"{frame.f_code.co_filename}:{line} raised {what}", "correct the network")


def _load(place: str) -> ModuleType:
    try:
        return _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        missing = re.sub(rf"^{_PRIVATE}[0-9a-f]{{16}}_", "", error.name or "")
        if not place.endswith(".py") and f"{place}.".startswith(f"{missing}."):
            raise ModelError(f"no module named {missing!r}", "install it, or name its file") from error
        raise ModelError(
            f"importing {place} needs the module {missing!r}, which Python does not find",
            "install it; a file of your own belongs into one package with this one (a folder with __init__.py), and "
            f"is imported as `from . import {missing.rpartition('.')[2]}`",
        ) from error
    except (Exception, SystemExit) as error:
        raise ModelError(f"importing {place} raised {_reason(error)}", "correct the module") from error


def _from_file(file: Path) -> ModuleType:
    """The module of a file under a private name that holds the digest of its source: other content is loaded again."""
    root = package_root(file)
    try:
        digest = hashlib.sha256(b"".join(_lines(source_files(file)))).hexdigest()[:16]
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}", "name a Python file") from error
    private = f"{_PRIVATE}{digest}_{root.stem}"
    parts = file.relative_to(root).with_suffix("").parts if root != file else ()
    inner = ".".join([private, *(part for part in parts if part != "__init__")])
    if private not in sys.modules:
        start = root / "__init__.py" if root != file else file
        search = [str(root)] if root != file else None
        spec = importlib.util.spec_from_file_location(private, start, submodule_search_locations=search)
        if spec is None or spec.loader is None:
            raise ModelError(f"{file} is no Python file", "name a file that ends in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[private] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            for name in [n for n in sys.modules if n == private or n.startswith(f"{private}.")]:
                del sys.modules[name]
            raise
    return importlib.import_module(inner)


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    """Write no compiled modules: Python would run one for a source of the same second and size that has changed."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _lines(files: list[Path]) -> Iterator[bytes]:
    for path in files:
        yield hashlib.sha256(os.fsencode(os.path.abspath(path))).digest()
        yield hashlib.sha256(path.read_bytes()).digest()


def _function(module: ModuleType, place: str, attribute: str) -> Callable[..., Any]:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            callables = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            near = difflib.get_close_matches(attribute, callables, 3, cutoff=0.4) or callables[:3]
            fix = f"it has {', '.join(near)}" if near else "write one that returns the network"
            raise ModelError(f"{place} has no function {attribute!r}", fix)
        found = getattr(found, part)
    if not callable(found):
        raise ModelError(f"{place}:{attribute} is no function but {type(found).__name__}", _CONTRACT)
    return found  # type: ignore[no-any-return]


def _arguments(function: Callable[..., Any], name: str, num_classes: int, image_size: int) -> dict[str, int]:
    """The keyword arguments that a function takes of those that there are."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C
        return {"num_classes": num_classes}
    by_name = {p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    rest = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {"num_classes": num_classes} if rest or "num_classes" in by_name else {}
    if "image_size" in by_name:
        given["image_size"] = image_size
    needed = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in given
    ]
    if needed:
        raise ModelError(f"{name} needs the argument {needed[0]!r}", f"{_CONTRACT}: give others a default")
    if "num_classes" not in given:
        raise ModelError(f"{name} does not take num_classes", f"{_CONTRACT}: add the parameter")
    return given


def _reason(error: BaseException) -> str:
    """Type, message and the last line of code of an error."""
    text = " ".join(str(error).split())[:_SAID]
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    at = f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{at}"
