"""The deploy config: every key, its type, its range, its default and what it is for.

The models carry no behaviour. `pipeline.config.load` reads files into them, `pipeline.config.check`
finds contradictions between sections, and each stage takes from them the plain arguments it needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, model_validator

from figkd.loss.methods import BASELINES, METHODS
from pipeline.config.bounds import (
    BatchSize,
    Channels,
    Count,
    Epochs,
    FilePath,
    Names,
    Percent,
    Seed,
    Shares,
    SomeEpochs,
    Strength,
    Threads,
    TrainingBatch,
)
from pipeline.config.bundling import Bundle
from pipeline.config.method_sections import MethodName, sections
from pipeline.config.metrics import METRICS, Metric
from pipeline.config.scouting import Scout
from pipeline.config.search import Search
from pipeline.config.section import WITHOUT_SOURCE, Section
from pipeline.config.storage import Storage
from pipeline.config.targets import Benchmark, Precision, Target

if TYPE_CHECKING:
    from figkd.loss.figkd_options import FiGKD

Scalar = bool | int | float | str
MAX_NAME = 64


class Data(Section):
    """Which labelled images, and at what size."""

    dataset: str
    """Name of a data set: `fonts`, `image_folder`, `stanford_dogs`, ..."""
    root: FilePath | None = None
    """Folder that holds the images (relative to where the command runs). `fonts` needs none."""
    image_size: Annotated[int, Field(ge=8, le=1024)] = 224
    """Side of the square image that the model sees, in pixels."""
    store_size: Annotated[int, Field(ge=8, le=2048)] | None = None
    """Side of the prepared images that training crops from, in pixels. Default: `image_size` for rendered
    data, `image_size` x 256/224 for files."""
    decode: Literal["ahead", "on_the_fly"] = "ahead"
    """`ahead`: every image is decoded once, resized and packed. `on_the_fly`: for data whose packed images would not
    fit on the disk; the files are decoded in every epoch (slower) and must stay where they are. The pixels are the
    same."""
    validation_fraction: Annotated[float, Field(gt=0, lt=0.9)] = 0.1
    """Share of the training images that is held out for validation, where the data set has no validation split."""
    options: Annotated[dict[str, Scalar], Field(max_length=64)] = Field(default_factory=dict)
    """Options of the data set, such as `train_per_class` of `fonts`."""


class Views(Section):
    """Augmentation as a finite, replayable set of views of each image, so that teacher logits can be cached."""

    kind: Literal["none", "shift", "shift_flip", "random_resized_crop"] = "random_resized_crop"
    """`none`: centre crop. `shift`: pad and crop. `shift_flip`: the same, mirrored too.
    `random_resized_crop`: random scale, ratio, place and mirroring."""
    pad: Annotated[int, Field(ge=0, le=64)] = 4
    """Padding in pixels for the shift kinds: (2 pad + 1)^2 views."""
    count: SomeEpochs | None = None
    """How many views of each image exist. Default: one per epoch, and no more than a shift kind has."""


class Training(Section):
    """How a network is trained."""

    epochs: Epochs = 50
    """Passes over the training images. 0 is for a teacher with `pretrained` or `checkpoint`, which is then used as it
    is."""
    batch_size: TrainingBatch = 64
    """Images per step. Batch normalisation needs two."""
    accumulate: BatchSize = 1
    """Micro-batches per step: the same step with less memory. Batch normalisation sees one micro-batch at a time."""
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    """Copies of the network on a CPU, which take a part of each micro-batch at the same time, each in its own threads.
    This is faster than threads that share every operation, if the network is small or the machine busy. Batch
    normalisation sees one part at a time. On a GPU there is one."""
    threads: Threads | Literal["auto"] = "auto"
    """CPU threads of a training on a CPU. `auto`: all; beside other processes fewer, if they are faster when the
    training begins, but `replicas` at least. A resumed training keeps its number. Another number rounds otherwise."""
    optimizer: Literal["sgd", "adamw", "muon"] = "adamw"
    """Optimizer, in the fastest implementation that the device has. `muon`: SGD whose steps of convolutions and linear
    layers are orthogonal, for short trainings (docs/training.md)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD and Muon."""
    nesterov: bool = True
    """Nesterov momentum, for SGD and Muon."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate."""
    weight_decay: Strength = 0.05
    """Weight decay."""
    decay_norms: bool = False
    """Decay norms and biases too, as most published recipes do."""
    schedule: Literal["cosine", "one_cycle", "step"] = "cosine"
    """Learning-rate schedule. `step` multiplies by `step_factor` at `step_at`."""
    step_at: Shares = [0.625, 0.75, 0.875]
    """For `schedule: step`: shares of the epochs. The default is the literature's 150, 180 and 210 of 240."""
    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """For `schedule: step`: factor of the learning rate."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing of the cross entropy."""
    mixup: Strength = 0.0
    """Alpha of mixup; 0: off. Not with cached teacher logits, which belong to unmixed images."""
    cutmix: Strength = 0.0
    """Alpha of CutMix; as for `mixup`. With both, each step draws one."""
    warmup_epochs: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    """Linear warm-up, in epochs."""
    grad_clip: Annotated[float, Field(gt=0, le=1_000_000_000)] | None = None
    """Largest norm of the gradient."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights. The average is then what is kept."""
    amp: Literal["auto", "none", "bf16"] = "auto"
    """Mixed precision. `auto`: bf16 on a GPU that computes in it (Ampere and later), else none."""
    compile: Literal["auto", "none", "default", "reduce-overhead"] = "auto"
    """torch.compile of the training step. `auto`: on a GPU `reduce-overhead` (with CUDA graphs), or `default`
    (without them) if `accumulate` is above 1 or several processes train; on a CPU none."""
    tensorboard: bool = False
    """Write a TensorBoard event file beside the log; needs the package `tensorboard`."""
    views: Views = Views()
    """Augmentation."""

    @property
    def parts(self) -> int:
        """How many parts a step is divided into: replicas' shares of micro-batches."""
        return self.accumulate * self.replicas

    @property
    def divider(self) -> str:
        """The key to lower where these are too many."""
        return "replicas" if self.replicas > 1 else "accumulate"


class Network(Section):
    """A network and the weights that it starts from."""

    model: str
    """`timm/<name>`, `torchvision/<name>`, one of the small `figkd/<name>` networks, or a function of your own as
    `module:function` (docs/models.md)."""
    code: FilePath | None = None
    """For `module:function`: the module's file. Its code is run. Default: `<module>.py` (or the package) beside the
    config, else an installed module."""
    pretrained: bool = False
    """Start from the library's published weights."""
    checkpoint: FilePath | None = None
    """Start from these weights of this network: a checkpoint of this package, a state dict of timm or torchvision
    (alone or inside a training checkpoint), or `.safetensors`. A head for other classes is replaced by one with
    random weights."""
    classes: Literal["same as data"] | Names | FilePath | None = None
    """Class names of the weights' outputs, in their order, where the file does not hold them: a list, or a file (one
    name per line, or a JSON list). The rows of the head are put into the data's order by name. `same as data`: they
    have the data's names and order."""
    mean: Channels | None = None
    """Mean of each channel, RGB from 0 to 1, that the weights of `checkpoint` were trained with. Default: that of the
    library's own weights of this name."""
    std: Channels | None = None
    """Standard deviation of each channel, likewise."""


class Teacher(Training, Network):
    """The network that the student learns from: trained here, or given.

    With `checkpoint`, the default of `epochs` is 0: the teacher is used as it is. With more, training starts from it.
    """

    allow_chance_level: bool = False
    """Let the teacher teach although it is no better, on the test images, than always answering the most frequent
    class."""

    @model_validator(mode="before")
    @classmethod
    def _as_it_is(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("checkpoint") is not None:
            return {"epochs": 0, **given}
        return given


class Student(Network):
    """The compact network that is shipped."""


class _Distill(Training):
    """How the student learns from the teacher."""

    method: MethodName = Field(
        default="figkd",
        description=f"`figkd`, or a baseline: {', '.join(f'`{name}`' for name in BASELINES)}.",
    )
    seed: Seed | None = None
    """Seed of the student alone. Default: the top-level `seed`."""
    teacher_logits: Literal["cached", "online"] = "cached"
    """`cached`: computed once for every view, kept as float16, and shared by all students. `online`: the teacher runs
    in every step, and nothing is kept."""


if TYPE_CHECKING:

    class Distill(_Distill):
        """With the one section whose keys the pipeline itself reads; all others it hands on by `method_section`."""

        figkd: FiGKD = FiGKD()

else:
    Distill = create_model(
        "Distill", __base__=_Distill, __doc__=_Distill.__doc__, __cls_kwargs__=WITHOUT_SOURCE, **sections()
    )


def method_section(distill: Distill) -> Section | None:
    """The options of the chosen method; None if it has none."""
    section: Section | None = getattr(distill, METHODS[distill.method].section, None)
    return section


class Parity(Section):
    """How closely the ONNX file must follow the torch student. A failed check stops the run."""

    max_relative_error: Annotated[float, Field(gt=0, le=1_000)] = 1e-3
    """Largest |ONNX - torch|, as a share of the largest |torch| logit."""
    min_cosine: Annotated[float, Field(gt=0, le=1)] = 0.9999
    """Smallest cosine between the two logit vectors of an image."""
    min_top1_agreement: Percent = 99.0
    """Share of real images with the same top-1, in percent."""


class Export(Section):
    """The ONNX file."""

    input: Literal["uint8_nhwc", "float32_nchw"] = "uint8_nhwc"
    """`uint8_nhwc` takes the pixels of a camera and normalises them inside. `float32_nchw` expects normalised
    input."""
    opset: Annotated[int, Field(ge=18, le=23)] = 20
    """ONNX opset. FP16 Q/DQ needs 19 or later; TensorRT 10.3 (JetPack 6) reads up to 20."""
    dynamic_batch: bool = False
    """false: batch 1. true: any batch; needed for `batch_sizes` other than [1]."""
    parity: Parity = Parity()
    """The check of the file against the torch student."""


class QAD(Section):
    """Quantisation-aware distillation: the INT8 student is fine-tuned with `distill`'s method, views and teacher."""

    when: Literal["auto", "always", "never"] = "auto"
    """`auto`: only if INT8, after `mixed`, loses more top-1 on validation images than `int8_max_drop` allows (without
    it: `max_drop` of `budgets.top1`)."""
    epochs: SomeEpochs = 3
    """Passes over the training images."""
    lr: Annotated[float, Field(gt=0, le=0.3)] = 0.003
    """Peak learning rate of AdamW, as a share: about the largest relative change of a weight (of its tensor's RMS) or
    of a scale in one step."""
    batch_size: TrainingBatch | None = None
    """Images per step. Default: `distill.batch_size`."""


class PrecisionSection(Section):
    """Which precisions are made as ONNX files, and how INT8 is calibrated."""

    modes: Annotated[list[Precision], Field(min_length=1, max_length=16)] = ["fp32", "fp16", "int8"]
    """Precisions to make. `fp32` is always made, because the others are compared with it. `bf16` is for TensorRT."""
    select: Literal["fastest_within_budget", "prefer_int8"] | Precision = "fastest_within_budget"
    """Which engine of a target to ship, of those within budget. `fastest_within_budget`: the fastest as measured; of
    engines that tie, the smallest file. `prefer_int8`: INT8 if it is within budget. A precision: that one, or
    nothing."""
    calibration_images: Annotated[int, Field(ge=0, le=10_000_000)] = 512
    """Number of training images, balanced over the classes, that set the INT8 ranges and show which values leave
    FP16's range."""
    calibration_method: Literal["minmax", "entropy", "percentile"] = "minmax"
    """How ranges follow from the observed activations. `minmax`: their extremes. `entropy`: the clipping that loses
    the least information (Kullback-Leibler). `percentile`: all but a share of the values on each side."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.999
    """For `calibration_method: percentile`."""
    weights: Literal["per_channel", "per_tensor"] = "per_channel"
    """INT8 scales of weights: one per output channel, or one per tensor. One per tensor harms depthwise
    convolutions."""
    exclude: Names = Field(default_factory=list)
    """ONNX nodes that stay out of INT8: operator types, names of nodes or weights, shell patterns."""
    without_rules: Annotated[list[Literal["squeeze_excitation", "classifier"]], Field(max_length=16)] = Field(
        default_factory=list
    )
    """Rules of docs/precision.md to switch off: what they would keep out of INT8 is quantised."""
    mixed: Literal["auto", "never"] = "auto"
    """`auto`: if INT8 loses more than it may, the groups of layers that harm most stay out of INT8."""
    int8_max_drop: Percent | None = None
    """Top-1 that INT8 may lose against FP32 on validation images, percentage points. Default: `max_drop` of
    `budgets.top1`, else 1.0."""
    validation_images: Count = 1000
    """Number of validation images, balanced over the classes, that decide which groups stay out of INT8."""
    keep_fp32: Names = Field(default_factory=list)
    """ONNX nodes that stay FP32 in FP16 and BF16 files, and in INT8 files for TensorRT where they are not INT8."""
    force_fp16: Names = Field(default_factory=list)
    """ONNX nodes that become FP16 although a rule keeps them FP32. Refused if they leave FP16's range."""
    qad: QAD = QAD()
    """Quantisation-aware distillation."""


class Goal(Section):
    """A budget on one metric. `precision` and `target` restrict it to some engines."""

    min: float | None = None
    """Smallest allowed value."""
    max: float | None = None
    """Largest allowed value."""
    max_drop: Percent | None = None
    """Largest allowed loss against the torch student, in percentage points."""
    precision: Annotated[list[Precision], Field(max_length=16)] | None = None
    """Judge only engines of these precisions, and fail the run if one of them misses."""
    target: Annotated[list[str], Field(max_length=64)] | None = None
    """Judge only engines of these targets, and fail the run if one of them misses."""


class _Budgets(Section):
    """What an engine must reach to be shipped. Accuracy in percent of the test set."""


if TYPE_CHECKING:

    class Budgets(_Budgets):
        """With the one goal that stages read; all others are handed on by `goals_of`."""

        top1: Goal | None = None

        def __init__(self, **goals: Goal) -> None: ...

else:
    Budgets = create_model(
        "Budgets",
        __base__=_Budgets,
        __doc__=_Budgets.__doc__,
        __cls_kwargs__=WITHOUT_SOURCE,
        **{
            metric.name: (Goal | None, Field(default=None, description=metric.meaning))
            for metric in METRICS.values()
        },
    )


def goals_of(budgets: Budgets) -> list[tuple[Metric, Goal]]:
    """The goals that are set, each with its metric, in the order of `METRICS`."""
    found = ((metric, getattr(budgets, name)) for name, metric in METRICS.items())
    return [(metric, goal) for metric, goal in found if goal is not None]


class DeployConfig(Section):
    """One file, one deployment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=MAX_NAME)]
    """Name of the deployment. Its report is written to `<output>/<name>/`."""
    seed: Seed = 0
    """Seed of all random numbers."""
    allow_cpu: bool = False
    """Train on the CPU if this machine has an NVIDIA GPU that PyTorch cannot use. Otherwise such a run is refused."""
    data: Data
    """Images."""
    teacher: Teacher
    """Teacher."""
    student: Student
    """Student."""
    distill: Distill = Distill()
    """Distillation."""
    export: Export = Export()
    """ONNX export."""
    precision: PrecisionSection = PrecisionSection()
    """FP16 and INT8."""
    targets: Annotated[dict[str, Target], Field(min_length=1, max_length=64)]
    """Engines to build, by a name of your choice."""
    benchmark: Benchmark = Benchmark()
    """Latency."""
    budgets: Budgets = Budgets()
    """Goals."""
    bundle: Bundle = Bundle()
    """What a run packs when the verdict is to ship."""
    scout: Scout = Scout()
    """Candidate students, measured before any training."""
    search: Search | None = None
    """What `figkd-pipeline search` varies. Nothing else reads it."""
    output: FilePath = Path("runs")
    """Folder for reports (relative to where the command runs)."""
    store: Storage = Storage()
    """Where artifacts are kept. Configs share them, and so may machines."""
