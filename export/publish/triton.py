"""Triton's model repository: an engine with its labels, and a warm-up from the golden data.

Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide (model configuration, model repository).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.publish import triton_release
from export.publish.folder import Content
from export.publish.pbtxt import Enum, Field, Message, text_of
from export.publish.source import CannotExport, Port, Source

KIND = "triton"
NOTE = "NOTE.md"
CONFIG, LABELS, WARMUP = "config.pbtxt", "labels.txt", "warmup/golden"
ONNX, PLAN = "model.onnx", "model.plan"
MAX_BATCH = 8
"""Of an engine that takes any batch size, where nothing else is asked for."""
_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "float16": "TYPE_FP16"}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True)
class Options:
    """How a repository is written."""

    name: str = ""
    """Of the model; empty: the bundle's."""
    python_backend: bool = False
    """ONNX Runtime inside Triton's Python backend."""
    max_batch: int = MAX_BATCH
    """Of an engine that takes any batch size."""


def repository(sources: Sequence[Source], options: Options) -> dict[str, Content]:
    """The files of a model repository, by path.

    Args:
        sources: bundles of one student: one, or one of TensorRT for each kind of GPU.
        options: how it is written.

    Raises:
        CannotExport: Triton does not take these engines, or they do not belong together.
    """
    first = sources[0]
    name = options.name or first.manifest.name
    if not _NAME.match(name):
        raise CannotExport(f"Triton takes no model of the name '{name}'", "give another with --name")
    _check(sources, options)
    engines = _engines(sources)
    files: dict[str, Content] = {
        NOTE: _note(sources, name, options).encode("utf-8"),
        f"{name}/{CONFIG}": text_of(configuration(sources, name, options)).encode("ascii"),
        f"{name}/{LABELS}": _labels(first.classes),
        f"{name}/{WARMUP}": _warmup(first),
        **{f"{name}/1/{file}": source.engine for file, source in engines.items()},
    }
    if first.kind.onnx and options.python_backend:
        files[f"{name}/1/model.py"] = Path(__file__).with_name("triton_model.py").read_bytes()
    return files


def configuration(sources: Sequence[Source], name: str, options: Options) -> Message:
    """The model configuration, as `config.pbtxt` holds it; arguments as for `repository`."""
    first = sources[0]
    onnx = first.kind.onnx
    largest = _largest(first, options)
    fields: list[Field] = [("name", name)]
    if options.python_backend:
        fields += [("backend", "python")]
    else:
        files = _engines(sources)
        fields += zip(("backend", "platform"), first.kind.triton, strict=True)
        if len(files) == 1:
            fields += [("default_model_filename", file) for file in files]
        for file, source in files.items():
            fields += [
                ("cc_model_filenames", [("key", _capability(sm)), ("value", file)])
                for sm in source.compute_capability
            ]
    fields += [
        ("max_batch_size", largest),
        ("input", _port(first.input, largest)),
        ("output", [*_port(first.output, largest), ("label_filename", LABELS)]),
        ("instance_group", [("count", 1), ("kind", Enum("KIND_CPU" if onnx else "KIND_GPU"))]),
    ]
    if _any_batch_up_to(first, largest):
        fields += [("dynamic_batching", [("max_queue_delay_microseconds", 0)])]
    if onnx and first.entry.threads:
        threads = str(first.entry.threads)
        fields += [
            ("parameters", [("key", "intra_op_thread_count"), ("value", [("string_value", threads)])]),
        ]
    fields += [("model_warmup", _warmup_field(first, size, largest)) for size in _warm_sizes(first, largest)]
    return fields


def _check(sources: Sequence[Source], options: Options) -> None:
    first = sources[0]
    for source in sources:
        engine = source.entry
        if not source.kind.triton:
            raise CannotExport(
                f"{engine.file} is an engine of {source.kind.label}, which Triton has no backend for",
                "make a bundle with `engine: tensorrt` or `engine: onnxruntime`",
            )
        if source.stripped:
            raise CannotExport(
                f"{engine.file} was built without its weights, and Triton cannot put them back",
                "build it with `strip_weights: false`",
            )
        if options.python_backend and not source.kind.onnx:
            raise CannotExport(
                f"the Python backend runs ONNX Runtime, and this is an engine of {source.kind.label}",
                "leave --python-backend out",
            )
        for port in (source.input, source.output):
            if port.dtype not in _TYPES:
                raise CannotExport(f"{port.name} is {port.dtype}, which has no type in Triton")
        if source.output.shape[1:] != (len(source.classes),):
            raise CannotExport(f"{source.output.name} is no vector of {len(source.classes)} classes")
    if len(sources) > 1:
        _check_together(first, sources[1:])


def _check_together(first: Source, others: Sequence[Source]) -> None:
    """Several engines make one model only if it is the same one, for different GPUs of one TensorRT."""
    known: set[str] = set()
    for source in (first, *others):
        if not source.kind.one_gpu:
            raise CannotExport(
                "several bundles make one model only where all are of TensorRT",
                "export each into a folder of its own",
            )
        if not source.compute_capability:
            raise CannotExport(
                f"{source.entry.file} is for several GPUs; which ones is not known",
                "export it alone",
            )
        if twice := known.intersection(source.compute_capability):
            raise CannotExport(
                f"two bundles are for {', '.join(sorted(twice))}", "give one for each kind of GPU"
            )
        known.update(source.compute_capability)
    for source in others:
        pairs = {
            "name": (first.manifest.name, source.manifest.name),
            "student": (first.lineage, source.lineage),
            "classes": (first.classes, source.classes),
            "preprocessing": (first.preprocessing, source.preprocessing),
            "input": (first.input, source.input),
            "output": (first.output, source.output),
            "batch sizes": (first.batch_sizes, source.batch_sizes),
            "TensorRT": (first.versions, source.versions),
        }
        for what, (one, other) in pairs.items():
            if one != other:
                raise CannotExport(
                    f"{Path(first.bundle.folder).name} and {Path(source.bundle.folder).name} are not of one model: "
                    f"they differ in {what}",
                    "give bundles of one run, built by one version of TensorRT",
                )


def _engines(sources: Sequence[Source]) -> dict[str, Source]:
    """Each engine by its file's name in the repository."""
    if sources[0].kind.onnx:
        return {ONNX: sources[0]}
    if len(sources) == 1:
        return {PLAN: sources[0]}
    return {f"model_{'_'.join(s.compute_capability).lower()}.plan": s for s in sources}


def _capability(sm: str) -> str:
    """`SM87` as `8.7`, `SM120` as `12.0`."""
    return f"{sm[2:-1]}.{sm[-1]}"


def _largest(source: Source, options: Options) -> int:
    """Triton's `max_batch_size`; 0 where the engine's batch is fixed."""
    if not source.input.open_batch:
        return 0
    return max(source.batch_sizes, default=options.max_batch)


def _any_batch_up_to(source: Source, largest: int) -> bool:
    """Whether Triton may put requests together: only where every sum of them is taken."""
    return largest > 1 and (not source.batch_sizes or set(source.batch_sizes) == set(range(1, largest + 1)))


def _warm_sizes(source: Source, largest: int) -> tuple[int, ...]:
    if not largest:
        return (1,)  # one request, whose batch is among its dimensions
    return source.batch_sizes or tuple(sorted({1, largest}))


def _dims(port: Port, largest: int) -> tuple[int, ...]:
    return port.shape[1:] if largest else port.shape


def _port(port: Port, largest: int) -> list[Field]:
    return [("name", port.name), ("data_type", Enum(_TYPES[port.dtype])), ("dims", _dims(port, largest))]


def _warmup_field(source: Source, size: int, largest: int) -> Message:
    data: Message = [
        ("data_type", Enum(_TYPES[source.input.dtype])),
        ("dims", _dims(source.input, largest)),
        ("input_data_file", Path(WARMUP).name),
    ]
    return [
        ("name", f"golden_{size}"),
        ("batch_size", size),
        ("inputs", [("key", source.input.name), ("value", data)]),
    ]


def _warmup(source: Source) -> bytes:
    """Golden inputs as the engine takes them: as many as its largest fixed batch, else one, which Triton repeats."""
    count = max(source.input.shape[0], 1)
    views = source.golden.inputs
    chosen = [views[i % len(views)] for i in range(count)]
    batch = source.preprocessing.batch(chosen).astype(source.input.dtype, copy=False)
    return np.ascontiguousarray(batch).tobytes()


def _labels(classes: Sequence[str]) -> bytes:
    """A class a line, which is all that Triton reads; a line break in a name becomes a space."""
    return "".join(f"{' '.join(name.splitlines())}\n" for name in classes).encode("utf-8")


def _note(sources: Sequence[Source], name: str, options: Options) -> str:
    first = sources[0]
    spec = first.preprocessing
    largest = _largest(first, options)
    if not largest:
        batch = f"Each request holds {first.input.shape[0]} image(s): the engine's batch is fixed."
    elif _any_batch_up_to(first, largest) or largest == 1:
        batch = f"A request holds up to {largest} image(s)."
    else:
        sizes = ", ".join(map(str, first.batch_sizes))
        batch = f"A request holds {sizes} images: the engine takes no other number, so Triton does not batch requests."
    if not first.kind.onnx:
        server = triton_release.note(
            first.versions.get(first.kind.name, ""),
            jetson=bool(first.entry.needs.l4t),
            version_compatible=first.version_compatible,
        )
        gpus = [sm for source in sources for sm in source.compute_capability]
        server += f" GPUs: {', '.join(gpus) or 'see the bundle'}."
    elif options.python_backend:
        server = (
            "It runs in Triton's Python backend, which needs `pip install onnxruntime 'numpy<2'` in its Python. "
            "numpy 2 is refused, since Triton 2.51 does not answer under it; the message says how to allow it."
        )
    else:
        server = "It runs in Triton's ONNX Runtime backend, on the CPU."
    releases = "".join(f"- `{source.manifest.release}` ({source.manifest.target})\n" for source in sources)
    return (
        f"# {name} for Triton\n\n    tritonserver --model-repository=THIS_FOLDER\n\n{server}\n\n{batch} "
        f"The input `{first.input.name}` is {spec.dtype} {list(spec.shape)}: the centre square of an upright RGB "
        f"photo, resized to {spec.side} pixels (bicubic, antialiased), of it the centre {spec.size} x {spec.size}. The "
        f"output `{first.output.name}` is {len(first.classes)} logits; ask for `class_count` to get labels.\n\n"
        f"Made of:\n\n{releases}"
    )
