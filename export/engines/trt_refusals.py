"""Whether TensorRT can build an engine at a place: one judgement, asked before training and again by every build.

Pure. It takes what a place says of itself and what the ONNX files are (or will be), so that the library installed
here, one on a device and one that nobody has looked at yet are judged alike, and nothing else decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from export.engines import trtexec
from export.engines.options import LIBRARYS_LEVEL, TensorRTOptions
from export.engines.trt_options import WORDS, Way, not_honoured
from export.engines.trt_versions import DIALECTS, Dialect, Version, dialect, parse_version
from export.errors import BuildError, ExportError

if TYPE_CHECKING:
    import onnx

BF16_OPSET = 22
"""As in `export.precision.bf16`, which cannot be imported without onnx."""
_USUAL_OPSET = 20  # read by every version, or brought down for it
_BF16_SINCE = 80  # compute capability: Ampere
_STRONG_TYPING: Version = (10, 0)
_BF16_FILES: Version = (10, 15)  # first to read `BF16_OPSET`
_JETPACKS: tuple[tuple[Version, str, int], ...] = (
    ((8, 5), "JetPack 5.1", 72),
    ((10, 3), "JetPack 6.1", 87),
    ((10, 16), "JetPack 7.2", 87),
)
"""TensorRT, the JetPack that it came with, and the least compute capability of the boards that get it: 72 is Xavier's,
87 Orin's."""


@dataclass(frozen=True)
class Place:
    """Where engines are to be built, as far as it decides which."""

    backend: str
    """`tensorrt` or `tensorrt_rtx`."""
    version: str
    access: Way = "local"
    """This machine's Python API, a device's, or its program `trtexec`."""
    jetson: bool = False
    gpu: bool = True
    capability: str = ""
    """Of its GPU, such as `SM87`; empty where it is not known."""

    @property
    def library(self) -> str:
        """Name, version and way, for messages."""
        return f"{self.backend} {self.version}{WORDS[self.access]}"

    @property
    def dialect(self) -> Dialect:
        """How the library is spoken to.

        Raises:
            BackendMissing: it is too old.
        """
        return dialect(self.backend, self.version)


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file, as far as it decides who can read it."""

    name: str
    precision: str
    """`fp32`, `fp16`, `bf16` or `int8`."""
    opset: int
    model: onnx.ModelProto | None = None
    """Its graph, with the types of its tensors; None where it is not known yet."""


@dataclass(frozen=True)
class Refusal:
    """Why engines cannot be built."""

    what: str
    fix: str
    precisions: tuple[str, ...]
    """Those of the files concerned; all of them where an option is refused."""


def planned(precision: str, opset: int, model: onnx.ModelProto | None = None) -> OnnxFile:
    """The file of a precision before there is one.

    Args:
        precision: as in the config.
        opset: of the FP32 file.
        model: graph of the FP32 file, where it is known: other precisions add only what every version reads.
    """
    needed = max(opset, BF16_OPSET) if precision == "bf16" else opset
    return OnnxFile(f"the {precision.upper()} file", precision, needed, model)


def refusals(place: Place, options: TensorRTOptions, files: Sequence[OnnxFile]) -> list[Refusal]:
    """Everything that keeps engines of `files` from being built at `place`; empty: they can be tried.

    Options come first. A file is refused for one reason, files that share it together.

    Raises:
        BackendMissing: the library is too old to be used at all.
    """
    every = tuple(file.precision for file in files)
    found = [Refusal(what, fix, every) for what, fix in _options(place, options)]
    reasons: dict[tuple[str, str], list[str]] = {}
    networks = {id(file.model): file.model for file in files if file.model is not None}

    @cache
    def network(key: int) -> tuple[str, str] | None:  # files that are to be made share one
        return _network(place, networks[key])

    for file in files:
        reason = next(_file(place, options, file), None)
        if reason is None and file.model is not None and knows_operators(place):
            reason = network(id(file.model))
        if reason is not None:
            reasons.setdefault(reason, []).append(file.precision)
    return found + [Refusal(what, fix, tuple(names)) for (what, fix), names in reasons.items()]


def knows_operators(place: Place) -> bool:
    """Whether it is documented which operators are read there."""
    from export.engines.trt_operators import NEWEST, OLDEST

    return place.backend == "tensorrt" and OLDEST <= parse_version(place.version)[:2] <= NEWEST


def require(place: Place, options: TensorRTOptions, file: OnnxFile) -> None:
    """Refuse a build that cannot succeed.

    Raises:
        BackendMissing: the library is too old.
        BuildError: the first of `refusals`.
    """
    for refusal in refusals(place, options, [file]):
        raise BuildError(refusal.what, refusal.fix)


def _options(place: Place, options: TensorRTOptions) -> Iterator[tuple[str, str]]:
    library, chosen = place.library, place.dialect
    ignored = not_honoured(place.access, options, tactic_dram=chosen.tactic_dram)
    for name, fix in ignored.items():
        yield f"{library} does not take {name}: {getattr(options, name)}", fix
    options = replace(options, **{name: getattr(TensorRTOptions(), name) for name in ignored})
    level = options.optimization_level
    if level is not None and not 0 <= level <= 5:
        yield f"optimization level {level} does not exist", "0 to 5"
    elif level not in (None, LIBRARYS_LEVEL) and not chosen.optimization_level:
        yield f"{library} has no optimization levels", "leave optimization_level out"
    if not options.strong_typing and not chosen.weak_typing:
        yield (
            f"{library} is always strongly typed", "set strong_typing: true; precision is in the ONNX file"
        )  # fmt: skip
    if options.version_compatible and not chosen.version_compatible:
        yield (
            f"{library} builds no version-compatible engines: they load in the same version only",
            "set version_compatible: false",
        )
    if options.hardware_compatibility != "none":
        if place.jetson:
            yield (
                "hardware-compatible engines do not exist on a Jetson",
                "set hardware_compatibility: none and build on each kind of device",
            )
        elif options.hardware_compatibility not in chosen.hardware_compatibility:
            known = " or ".join(("none", *chosen.hardware_compatibility))
            instead = "; name compute_capabilities instead" if chosen.compute_capabilities else ""
            yield (
                f"{library} has no hardware_compatibility: {options.hardware_compatibility}",
                f"use {known}{instead}",
            )
    if options.strip_weights and not chosen.stripping:
        yield f"{library} cannot strip weights", "set strip_weights: false, or use 10.0 or later"
    elif options.strip_weights and options.version_compatible:
        yield (
            "a version-compatible engine cannot be refitted, so its weights cannot be stripped",
            "set strip_weights or version_compatible to false",
        )
    elif options.strip_weights and not place.gpu:
        yield (
            f"{library} strips weights only on a machine with a GPU",
            "set strip_weights: false, or build there",
        )
    if options.tactic_dram_mb is not None and not chosen.tactic_dram:
        yield f"{library} has no limit on tactic memory", "leave tactic_dram_mb out"


def _file(place: Place, options: TensorRTOptions, file: OnnxFile) -> Iterator[tuple[str, str]]:
    library, chosen = place.library, place.dialect
    yield from _unread(place, chosen, file)
    if file.precision == "bf16":
        number = _number(place.capability)
        if not chosen.compute_capabilities and number is not None and number < _BF16_SINCE:
            yield f"a GPU of {place.capability} has no BF16", "use FP16 here"
        typed = options.strong_typing and chosen.strong_typing
        if place.access == "trtexec" and not typed and "bf16" not in trtexec.flags(place.version).precision:
            yield f"{library} takes BF16 files only strongly typed", "set strong_typing: true"


def _unread(place: Place, chosen: Dialect, file: OnnxFile) -> Iterator[tuple[str, str]]:
    """Why a library cannot be given a file, not even as `trt_fit.fit` writes it for an older one."""
    from export.onnx_opset import HIGHEST

    most = max(chosen.max_opset, HIGHEST)
    if file.precision == "bf16" and (not chosen.bf16 or chosen.max_opset < min(file.opset, BF16_OPSET)):
        yield (
            f"{place.library} reads no BF16 files: they need opset {BF16_OPSET}",
            _or_newer("use FP16 here", place, _BF16_FILES),
        )
    elif not chosen.min_opset <= file.opset <= most:
        yield (
            f"{file.name} has opset {file.opset}, {place.library} can be given {chosen.min_opset} to {most}",
            f"export with opset {_USUAL_OPSET} (key export.opset)",
        )


def _network(place: Place, model: onnx.ModelProto) -> tuple[str, str] | None:
    """Why a library does not take a network: its structure, what an older operator set cannot say, its parser.

    The file is not named, so that the files of all precisions are refused in one line.
    """
    from export.engines.trt_fit import attention, fit
    from export.engines.trt_operators import operator_problem

    chosen = place.dialect
    if not chosen.strong_typing and (products := attention(model)):
        return (
            f"{place.library} is given convolutional networks only: this one has attention (node {products[0]}), and "
            "that version would choose its precisions itself",
            _or_newer("choose a convolutional student", place, _STRONG_TYPING),
        )
    try:
        fitted = fit(place.library, chosen, model)
    except ExportError as error:
        return f"{place.library} cannot read the network: {error.what}", error.fix
    return operator_problem(fitted.model, parse_version(place.version))


def newer(place: Place) -> str:
    """How to get a TensorRT that can be used at all, where there is one."""
    if not place.jetson:
        return "install TensorRT 10 or later: pip install tensorrt"
    found = _since(place, DIALECTS["tensorrt"][0][0])
    if not found:
        return "no JetPack for this board has a newer one: take engine: onnxruntime there"
    return f"update the device to {found}, or take engine: onnxruntime there"


def _or_newer(instead: str, place: Place, version: Version) -> str:
    found = _since(place, version)
    return f"{instead}, or {found}" if found else instead


def _since(place: Place, version: Version) -> str:
    """What has that TensorRT or a later one; empty where a board gets none."""
    if not place.jetson:
        return f"TensorRT {_text(version)} or later"
    number = _number(place.capability)
    for has, jetpack, least in _JETPACKS:
        if has >= version and (number is None or number >= least):
            return f"{jetpack} or later, which has TensorRT {_text(has)}"
    return ""


def _text(version: Version) -> str:
    return ".".join(map(str, version))


def _number(capability: str) -> int | None:
    found = re.fullmatch(r"SM(\d+)", capability)
    return int(found.group(1)) if found else None
