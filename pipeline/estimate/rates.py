"""Rates that an estimate is made of: each is a short measurement on this machine, kept with what it depends on."""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.runtime import malloc, memory
from export.runtime.load import foreign_cores, load_between, load_now
from pipeline.config.schema import DeployConfig, Network, Training
from pipeline.core.errors import PipelineError, StageFailed
from pipeline.core.files import read_json, write_json
from pipeline.core.manifest import sha256_json
from pipeline.core.store import Store
from pipeline.places import environment
from pipeline.places.int8_layouts import Layouts
from pipeline.results.rows.row import Row
from pipeline.results.rows.scouted import Candidate
from pipeline.search.jobs import precisions_of
from pipeline.search.untrained import Making, Material, make, noise
from pipeline.stages import data as data_stage
from pipeline.stages import distill as distill_stage
from pipeline.stages.training import pick_amp, pick_device, views_arguments

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from figkd.models import ImageClassifier

VERSION = 2
_IMAGES = 32
_FEW = (4, 8, 16)
"""Images in trial steps, before a step of the real size."""
_SLOW_S = 2.0
"""Seconds of a step, and of evaluating a batch, above which its real size is not tried."""
_LIMIT_S = 600.0
_JOIN_S = 5.0
BUSY_CORES = 0.5
"""Others that use more CPU cores than this make what is measured too slow."""
_FILES, _CHARTS, _CALLS = 16, 6, 3
_WHILE_S = 0.5


class Trained(Row):
    """What training a network takes."""

    step_s: float
    """A step of `batch` images, forward and backward, with its views."""
    batch: int
    image_s: float
    """One image when it is evaluated."""
    parameters: int
    peak_bytes: int
    """Largest memory of the process in such a step, with all that it imported and made before it."""


class Rates(Row):
    """Everything that was measured; seconds and bytes."""

    start_s: float
    """Importing what training needs."""
    teacher: Trained
    student: Trained
    export_s: float
    """Building, exporting and checking the student."""
    precisions_s: float
    """Making the files of all precisions from few images."""
    files_bytes: int
    """Largest memory of the process meanwhile, as in `Trained.peak_bytes`."""
    onnx_image_s: float
    """One image of many through the FP32 file in ONNX Runtime, on all cores."""
    onnx_query_s: float
    """One image alone, on one core."""
    onnx_bytes: dict[str, int]
    """Sizes of the files by name."""
    report_s: float
    """Importing what draws the report, and its charts."""
    report_bytes: int
    """Largest memory of the process meanwhile."""
    data_image_s: float | None = None
    """Preparing one image; None where only doing it would tell."""
    decode_s: float = 0.0
    """Decoding one file; 0 where the data have none."""
    energy: bool = False
    """This machine tells the energy of its CPU."""
    other_cores: float = 0.0
    """CPU cores that others used meanwhile."""


def measured(config: DeployConfig, layouts: Layouts, classes: int, store: Store) -> Rates:
    """The rates of a config's networks on this machine: measured now, or remembered.

    Args:
        config: of the run.
        layouts: of INT8, by target.
        classes: C.
        store: remembers them.

    Raises:
        StageFailed: a network cannot be built or trained.
    """
    path = store.caches / "rates" / f"{_key(config, layouts, classes)}.json"
    try:
        return Rates.model_validate(read_json(path))
    except (OSError, ValueError):
        pass
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    plain = config.model_dump(mode="json")
    process = context.Process(target=_measure, args=(theirs, plain, layouts, classes), daemon=True)
    process.start()
    theirs.close()
    try:
        found: Rates | PipelineError = ours.recv() if ours.poll(_LIMIT_S) else StageFailed(
            f"measuring took more than {_LIMIT_S:.0f} s", fix="run without --estimate"
        )  # fmt: skip
    except EOFError:
        process.join(5)
        raise StageFailed(
            f"the process that measures ended with {process.exitcode}", fix="run without --estimate"
        ) from None
    finally:
        ours.close()
        process.join(_JOIN_S)
        process.kill()
        process.join(_JOIN_S)
    if isinstance(found, PipelineError):
        raise found
    if found.other_cores <= BUSY_CORES:  # else it is measured again, in the hope of a quieter time
        write_json(path, found.model_dump(mode="json"))
    return found


def _key(config: DeployConfig, layouts: Layouts, classes: int) -> str:
    facts = {
        "version": VERSION,
        "classes": classes,
        "data": data_stage.STAGE.arguments(config, ""),
        "networks": [_facts(config.teacher, config.teacher), _facts(config.student, config.distill)],
        "method": distill_stage.method_arguments(config),
        "export": config.export.model_dump(mode="json"),
        "precisions": _making(config, layouts).precisions,
        "machine": [environment.cpu_model(), environment.cores(), environment.gpu_name()],
        "packages": environment.versions(("torch", "timm", "onnx", "onnxruntime")),
    }
    return sha256_json(facts)[:32]


def _facts(network: Network, training: Training) -> list[object]:
    keys = ("batch_size", "accumulate", "replicas", "threads", "optimizer", "amp", "compile", "ema_decay")
    return [network.model, *(getattr(training, key) for key in keys), views_arguments(training)]


def _making(config: DeployConfig, layouts: Layouts) -> Making:
    """The student as the run exports it; groups of layers that leave INT8 are found with trained weights only."""
    student = config.student
    candidate = Candidate(model=student.model, image_size=config.data.image_size, code=student.code)
    plain = config.model_copy(update={"precision": config.precision.model_copy(update={"mixed": "never"})})
    return Making(candidate, config.export, precisions_of(plain, list(config.targets), layouts))


def _measure(end: Connection, config: dict[str, Any], layouts: Layouts, classes: int) -> None:
    """The measuring process; the config comes as plain values, since classes made at run time cannot be sent."""
    try:
        end.send(_rates(DeployConfig.model_validate(config), layouts, classes))
    except PipelineError as error:
        end.send(error)
    except Exception as error:
        fix = getattr(error, "fix", "") or "run without --estimate"
        end.send(StageFailed(f"cannot be measured: {getattr(error, 'what', error)}", fix=fix))


def _rates(config: DeployConfig, layouts: Layouts, classes: int) -> Rates:
    load, started = load_now(), time.perf_counter()
    import timm  # noqa: F401
    import torch  # noqa: F401

    import figkd.train  # noqa: F401

    start_s = time.perf_counter() - started
    # In the order of a run: what a part imports and leaves behind is in the memory of those after it.
    data_image_s, decode_s = _data(config)
    store_size = data_stage.STAGE.arguments(config, "")["store_size"]
    teacher = _trained(config, config.teacher, config.teacher, "ce", classes, store_size)
    student = _trained(config, config.student, config.distill, config.distill.method, classes, store_size)
    files = _files(config, layouts, classes)
    report_s, report_bytes = _report()
    others = foreign_cores(load_between(load, load_now()))
    return Rates(
        start_s=start_s, teacher=teacher, student=student, report_s=report_s, report_bytes=report_bytes,
        data_image_s=data_image_s, decode_s=decode_s, energy=_tells_energy(), other_cores=others, **files,
    )  # fmt: skip


def _tells_energy() -> bool:
    from export.power import Unavailable
    from pipeline.places.energy import meter_for

    try:
        meter_for(False)
    except Unavailable:
        return False
    return True


def _trained(
    config: DeployConfig, network: Network, training: Training, method: str, classes: int, store_size: int
) -> Trained:
    from figkd import models
    from pipeline.stages.networks import located

    size = config.data.image_size
    model = models.build_model(located(network.model, network.code), classes, image_size=size)
    seconds: dict[int, float] = {}
    peaks: dict[int, float] = {}
    for batch in (*_FEW, training.batch_size):
        if batch > training.batch_size or (seconds and _at(batch, seconds) > _SLOW_S):
            continue
        _from_here()
        seconds[batch] = _step(config, model, training, method, classes, store_size, batch)
        peaks[batch] = memory.peak()
    image_s, evaluating = _evaluated(model, size, store_size)
    peak = max(_at(training.batch_size, peaks), evaluating)
    return Trained(
        step_s=_at(training.batch_size, seconds), batch=training.batch_size, image_s=image_s,
        parameters=models.parameter_count(model), peak_bytes=int(peak),
    )  # fmt: skip


def _evaluated(model: ImageClassifier, size: int, store_size: int) -> tuple[float, float]:
    """Seconds of an image that is evaluated, and the largest memory in doing so."""
    from figkd.evaluate import BATCH, predict

    peaks: dict[int, float] = {}
    image_s = 0.0
    for count in (*_FEW, BATCH):
        if count == BATCH and image_s * BATCH > _SLOW_S:
            continue
        images = noise(count, store_size)
        _from_here()
        image_s = _usual(partial(predict, model, images, image_size=size, device=pick_device())) / count
        peaks[count] = memory.peak()
    return image_s, _at(BATCH, peaks)


def _from_here() -> None:
    """Peaks count from now; what was freed before must not hide what is taken next."""
    malloc.give_back()
    memory.restart_peak()


def _at(batch: int, tried: Mapping[int, float]) -> float:
    """What a batch takes: as tried, or on the line through the two largest that were; a small part never takes more."""
    *_, last = sizes = sorted(tried)
    if last == batch or len(sizes) < 2:
        return tried[last] * batch / last
    slope = (tried[last] - tried[sizes[-2]]) / (last - sizes[-2])
    return tried[last] + (batch - last) * min(max(0.0, slope), tried[last] / last)


def _usual(work: Callable[[], object]) -> float:
    """Seconds of a call, once it was made before: the mean over a while, which is what a run meets, too."""
    work()
    begin = time.perf_counter()
    calls = 0
    while calls < _CALLS or time.perf_counter() - begin < _WHILE_S:
        work()
        calls += 1
    return (time.perf_counter() - begin) / calls


def _step(
    config: DeployConfig,
    model: ImageClassifier,
    training: Training,
    method: str,
    classes: int,
    store_size: int,
    batch: int,
) -> float:
    """Seconds of a training step of `batch` images: the median of a short epoch's."""
    import numpy as np

    from figkd.data.split import Split
    from figkd.data.views import make_views
    from figkd.loss.build import build_loss
    from figkd.loss.methods import METHODS
    from figkd.train import train

    count, divided = 4 * batch, 2 * training.parts <= batch
    split = Split(noise(count, store_size), np.arange(count) % classes, [str(i) for i in range(count)])
    views = views_arguments(training)
    facts = METHODS[method]
    options = {} if method == "ce" else dict(distill_stage.method_arguments(config)["options"])
    order = np.arange(classes) if facts.uses_order else None
    options.pop("order", None)
    stamps: list[float] = []
    train(
        model,
        split,
        loss=build_loss(method, classes, order=order, **options),
        views=make_views(
            views["kind"], image_size=config.data.image_size, store_size=store_size, pad=views["pad"],
            count=views["count"], seed=0,
        ),
        epochs=1,
        batch_size=batch,
        lr=1e-6,
        optimizer=training.optimizer,
        accumulate=training.accumulate if divided else 1,
        replicas=training.replicas if divided else 1,
        threads="all" if training.threads == "auto" else training.threads,  # what is tried takes longer than this
        ema_decay=training.ema_decay,
        amp=pick_amp(training.amp, pick_device()),  # type: ignore[arg-type]
        compile="none",
        device=pick_device(),
        teacher_logits=_soft(views["count"], count, classes) if facts.needs_teacher else None,
        progress=lambda done, total, note: stamps.append(time.perf_counter()),
    )  # fmt: skip
    gaps = [after - before for before, after in itertools.pairwise(stamps)]
    return statistics.median(gaps) if gaps else 0.0


def _soft(views: int, images: int, classes: int) -> npt.NDArray[np.float16]:
    """Logits of a teacher that says something else of every image, float16 [N, V, C]."""
    import numpy as np

    return np.random.default_rng(0).normal(size=(images, views, classes)).astype(np.float16)


def _files(config: DeployConfig, layouts: Layouts, classes: int) -> dict[str, Any]:
    """The student as ONNX files: how long they take, how large they are, how long an image takes."""
    making = _making(config, layouts)
    material = Material(
        [str(index) for index in range(classes)], noise(_IMAGES, config.data.image_size), real=False
    )
    stamps: dict[str, float] = {}

    def stamp(done: int, total: int, note: str) -> None:
        stamps.setdefault(note, time.perf_counter())

    _from_here()
    with tempfile.TemporaryDirectory(prefix="figkd-estimate-") as folder:
        begin = time.perf_counter()
        made = make(making, material, Path(folder), stamp)
        end = time.perf_counter()
        exported = stamps.get("precisions", end)
        files = {path.name: path.stat().st_size for path in made.inputs["precision"].glob("*.onnx")}
        inputs = made.images.inputs()
        image_s, query_s = (
            _inference(made.inputs["precision"] / "fp32.onnx", threads, given)
            for threads, given in ((environment.cores(), inputs), (1, inputs[:1]))
        )
    return {
        "export_s": exported - begin, "precisions_s": end - exported, "onnx_bytes": files, "onnx_image_s": image_s,
        "onnx_query_s": query_s, "files_bytes": memory.peak(),
    }  # fmt: skip


def _inference(file: Path, threads: int, inputs: npt.NDArray[Any]) -> float:
    """Seconds an image; threads that wait leave the CPU to others, as where the run scores images."""
    from export.engines import BACKENDS

    engine = BACKENDS["onnxruntime"].load(file, threads=threads, spinning=False)
    try:
        return _usual(lambda: engine.infer(inputs)) / len(inputs)
    finally:
        engine.close()


def _data(config: DeployConfig) -> tuple[float | None, float]:
    """Seconds of preparing an image, and of decoding a file: a few are decoded, or a few images rendered."""
    from figkd.data import DATASETS

    try:
        if not DATASETS[config.data.dataset].needs_root:
            return _rendered(config), 0.0
        seconds = _decoded(config)
    except Exception:  # preflight says what is wrong with the data
        return None, 0.0
    # A run decodes on all cores.
    return (None, 0.0) if seconds is None else (seconds / environment.cores(), seconds)


def _decoded(config: DeployConfig) -> float | None:
    """A few files, evenly spaced, decoded one after the other."""
    from figkd.data import source_files
    from figkd.data.decode import decode_square, is_image

    data, side = config.data, int(data_stage.STAGE.arguments(config, "")["store_size"])
    files = [path for path in source_files(data.dataset, data.root, dict(data.options)) if is_image(path)]
    chosen = files[:: max(1, len(files) // _FILES)][:_FILES]
    if not chosen:
        return None
    begin = time.perf_counter()
    for path in chosen:
        decode_square(path, side)
    return (time.perf_counter() - begin) / len(chosen)


def _rendered(config: DeployConfig) -> float | None:
    from figkd.data import DATASETS, prepare

    arguments = dict(data_stage.STAGE.arguments(config, ""))
    sizes = [name for name in DATASETS[config.data.dataset].options if name.endswith("_per_class")]
    if not sizes:
        return None
    arguments["options"] = {**arguments["options"], **dict.fromkeys(sizes, 2)}
    with tempfile.TemporaryDirectory(prefix="figkd-estimate-") as folder:
        begin = time.perf_counter()
        facts = prepare(arguments.pop("dataset"), None, Path(folder) / "data", **arguments)
        seconds = time.perf_counter() - begin
    return float(seconds / max(1, sum(facts["counts"].values())))


def _report() -> tuple[float, int]:
    """Importing what makes a report, and as many charts as it has: seconds, and the largest memory meanwhile."""
    import io

    _from_here()
    begin = time.perf_counter()
    import scipy.special  # noqa: F401
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    import pipeline.results.assemble  # noqa: F401

    for _ in range(_CHARTS):
        figure = Figure()
        figure.add_subplot().plot([0, 1])
        FigureCanvasSVG(figure).print_svg(io.StringIO())  # type: ignore[no-untyped-call]
    return time.perf_counter() - begin, memory.peak()
