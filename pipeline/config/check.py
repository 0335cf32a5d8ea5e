"""Contradictions between keys, and names that no package knows: everything a type cannot say.

Each check is a generator over one concern. Heavy packages are not imported here, so that loading a
config stays fast; what only a package can tell (does this model take this image size?) is preflight's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from export.engine_kinds import ENGINE_KINDS, kinds_with, special_keys
from figkd import model_names
from figkd.data import DATASETS
from figkd.loss.method import Weighted
from figkd.loss.methods import METHODS
from pipeline.config.metrics import SIDES
from pipeline.config.modes import contradictions
from pipeline.config.own_code import looks_own, own_problems
from pipeline.config.problems import Problem, did_you_mean, nearest
from pipeline.config.schema import DeployConfig, Goal, Network, goals_of, method_section
from pipeline.config.scouting import scout_problems
from pipeline.config.targets import Remote, Target
from pipeline.core.address import LOCAL, PASSWORD, URL
from pipeline.core.remotes.places import remote_problem

COMPUTE_CAPABILITIES = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")
# The same as export.precision.calibration.MIN_CALIBRATION_IMAGES, which cannot be imported without onnx.
MIN_CALIBRATION_IMAGES = 32
_RELATIVE = "paths are relative to where the command runs"


def check(config: DeployConfig) -> list[Problem]:
    """Every problem of a config whose types are right."""
    checks = (
        _store,
        _data,
        _models,
        _training,
        _mixing,
        _method,
        _weights,
        _precision,
        _targets,
        _benchmark,
        _budgets,
        _scout,
    )
    return [problem for find in checks for problem in find(config)]


def _store(config: DeployConfig) -> Iterator[Problem]:
    storage = config.store
    if storage.remote is not None and (reason := remote_problem(storage.remote)):
        shown = None if "password" in reason else storage.remote
        yield Problem("store.remote", reason, "a folder, ssh://host/path, or s3://bucket/path", shown)
    if storage.ssh_config is not None and not (storage.remote or "").startswith(("ssh://", "sftp://")):
        yield Problem("store.ssh_config", "is for a store.remote at ssh://", "remove it")


def _data(config: DeployConfig) -> Iterator[Problem]:
    data = config.data
    info = DATASETS.get(data.dataset)
    if info is None:
        yield Problem("data.dataset", "unknown data set", did_you_mean(data.dataset, DATASETS), data.dataset)
        return
    if info.needs_root and data.root is None:
        yield Problem(
            "data.root", f"is required by data set '{data.dataset}'", "name the folder of the images"
        )
    if data.decode == "on_the_fly" and not info.needs_root:
        yield Problem(
            "data.decode", f"data set '{data.dataset}' has no image files", "decode it ahead", data.decode
        )
    for name, value in data.options.items():
        if name not in info.options:
            fix = did_you_mean(name, info.options) if info.options else "it has no options"
            yield Problem(f"data.options.{name}", f"data set '{data.dataset}' has no such option", fix, value)
        elif not _is_a(value, info.options[name]):
            yield Problem(f"data.options.{name}", f"must be of type {info.options[name].__name__}", "", value)
        elif isinstance(value, int | float) and value < 0:
            yield Problem(f"data.options.{name}", "must not be negative", "", value)
    if data.store_size is not None and data.store_size < data.image_size:
        yield Problem(
            "data.store_size",
            f"is smaller than data.image_size = {data.image_size}",
            "enlarge it",
            data.store_size,
        )


def _is_a(value: object, wanted: type) -> bool:
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is wanted


def _models(config: DeployConfig) -> Iterator[Problem]:
    for section, network in (("teacher", config.teacher), ("student", config.student)):
        key, name = f"{section}.model", network.model
        if looks_own(network):
            yield from own_problems(section, network)
            continue
        if network.code is not None:
            fix = "remove it, or write model: module:function"
            yield Problem(f"{section}.code", f"is not used by model {name}", fix, str(network.code))
        if not model_names.known_model(name):
            close = model_names.suggest(name)
            fix = (
                f"did you mean {' or '.join(repr(c) for c in close)}?"
                if close
                else "write timm/<name>, torchvision/<name>, figkd/<name>, or module:function for your own"
            )
            yield Problem(key, "unknown model", fix, name)


def _training(config: DeployConfig) -> Iterator[Problem]:
    teacher, distill = config.teacher, config.distill
    yield from _weights_given("teacher", teacher, as_it_is=teacher.epochs == 0)
    yield from _weights_given("student", config.student, as_it_is=False)
    if teacher.epochs == 0 and not teacher.pretrained and teacher.checkpoint is None:
        yield Problem(
            "teacher.epochs", "a teacher that learnt nothing", "train it, or give checkpoint or pretrained", 0
        )
    if distill.epochs == 0:
        yield Problem("distill.epochs", "a student must be trained", "at least 1", 0)
    for key, section in (("teacher", teacher), ("distill", distill)):
        if section.epochs and section.warmup_epochs >= max(section.epochs, 1):
            yield Problem(
                f"{key}.warmup_epochs",
                f"leaves nothing of {key}.epochs = {section.epochs}",
                "",
                section.warmup_epochs,
            )
        if section.step_at != sorted(section.step_at):
            yield Problem(f"{key}.step_at", "must ascend", "", section.step_at)
        if section.parts > section.batch_size:
            yield Problem(
                f"{key}.{section.divider}",
                f"divides {key}.batch_size = {section.batch_size} into {section.parts}",
                f"lower it, or raise {key}.batch_size",
                getattr(section, section.divider),
            )
        if section.compile == "reduce-overhead" and section.accumulate > 1:
            yield Problem(
                f"{key}.compile",
                f"CUDA graphs would overwrite the gradients that {key}.accumulate keeps",
                "default or auto",
                section.compile,
            )
        if section.views.kind.startswith("shift") and section.views.pad == 0:
            yield Problem(f"{key}.views.pad", "a shift needs padding", "at least 1, or kind: none", 0)


def _weights_given(key: str, network: Network, *, as_it_is: bool) -> Iterator[Problem]:
    if network.checkpoint is not None:
        if not os.path.isfile(network.checkpoint):
            yield Problem(f"{key}.checkpoint", "no such file", _RELATIVE, str(network.checkpoint))
        if network.pretrained:
            yield Problem(f"{key}.pretrained", f"contradicts {key}.checkpoint", "give one of the two", True)
    elif network.pretrained and as_it_is and network.classes is None:
        yield Problem(
            f"{key}.epochs",
            "published weights as they are answer with their own classes, and which these are is not known",
            f"train it on your classes ({key}.epochs: 1 or more), or, where they are the data's, say so: "
            f"{key}.classes",
            0,
        )
    if isinstance(network.classes, Path) and not os.path.isfile(network.classes):
        fix = f"a list of names, a file of them ({_RELATIVE}), or `same as data`"
        yield Problem(f"{key}.classes", "no such file", fix, str(network.classes))
    if network.classes is not None and network.checkpoint is None and not (network.pretrained and as_it_is):
        yield Problem(
            f"{key}.classes", f"is not used without {key}.checkpoint", "remove it, or give the file"
        )
    for name in ("mean", "std"):
        if getattr(network, name) is not None and network.checkpoint is None:
            yield Problem(f"{key}.{name}", f"is not used without {key}.checkpoint", "remove it")
    if network.checkpoint is not None and (network.mean is None) != (network.std is None):
        yield Problem(f"{key}.mean", f"{key}.mean and {key}.std belong together", "give both, or none")


def _mixing(config: DeployConfig) -> Iterator[Problem]:
    distill = config.distill
    if distill.teacher_logits == "online" or not METHODS[distill.method].needs_teacher:
        return
    for name in ("mixup", "cutmix"):
        if value := getattr(distill, name):
            yield Problem(
                f"distill.{name}",
                "mixes images, and cached teacher logits are those of unmixed ones",
                "set distill.teacher_logits: online, or leave it out",
                value,
            )


def _method(config: DeployConfig) -> Iterator[Problem]:
    options = config.distill.figkd
    if options.wavelet != "haar" or options.mode != "symmetric":
        import pywt

        wavelets = pywt.wavelist(kind="discrete")
        if options.wavelet not in wavelets:
            close = nearest(options.wavelet, wavelets, 3)
            fix = f"did you mean {' or '.join(close)}?" if close else "such as haar, db2, sym4, coif1"
            yield Problem("distill.figkd.wavelet", "unknown discrete wavelet", fix, options.wavelet)
        elif options.distance == "kl" and options.wavelet != "haar":
            fix = "take distance: squared, or wavelet: haar"
            yield Problem("distill.figkd.wavelet", "distance: kl is defined for haar", fix, options.wavelet)
        if options.mode not in pywt.Modes.modes:
            fix = did_you_mean(options.mode, pywt.Modes.modes)
            yield Problem("distill.figkd.mode", "unknown extension mode", fix, options.mode)
    if options.order == "hierarchy" and options.hierarchy is None:
        yield Problem(
            "distill.figkd.hierarchy", "is required by order: hierarchy", "name a file of class names"
        )
    if options.hierarchy is not None:
        if options.order != "hierarchy":
            yield Problem(
                "distill.figkd.hierarchy",
                f"is not used by order: {options.order}",
                "set order: hierarchy, or remove it",
            )
        elif not os.path.isfile(options.hierarchy):
            yield Problem("distill.figkd.hierarchy", "no such file", _RELATIVE, str(options.hierarchy))


def _weights(config: DeployConfig) -> Iterator[Problem]:
    key = f"distill.{METHODS[config.distill.method].section}.weight"
    options: object = method_section(config.distill)
    if isinstance(options, Weighted) and options.weight == 0 and options.ce_weight == 0:
        yield Problem(key, "both weights are 0: there is nothing to learn", "raise one", 0)


def _precision(config: DeployConfig) -> Iterator[Problem]:
    precision, export = config.precision, config.export
    if len(set(precision.modes)) < len(precision.modes):
        yield Problem("precision.modes", "names a precision twice", "", precision.modes)
    if precision.force_fp16 and not {"fp16", "int8"} & set(precision.modes):
        yield Problem(
            "precision.force_fp16", "no FP16 is made", "add fp16 to precision.modes", precision.force_fp16
        )
    wanted = {"prefer_int8": "int8", "fastest_within_budget": "fp32"}.get(precision.select, precision.select)
    for name, target in config.targets.items():
        built = {*(target.precisions or ("fp32", *precision.modes))}
        if precision.select != "fastest_within_budget" and wanted not in built:
            yield Problem(
                "precision.select", f"target '{name}' is not built as {wanted}",
                f"built are: {', '.join(sorted(built))}", precision.select,
            )  # fmt: skip
    if "int8" not in precision.modes:
        if precision.qad.when == "always":
            fix = "add it, or leave this to auto"
            yield Problem("precision.qad.when", "fine-tunes INT8, which precision.modes lacks", fix, "always")
        return
    if precision.mixed == "never" and precision.qad.when != "auto" and precision.int8_max_drop is not None:
        yield Problem(
            "precision.int8_max_drop",
            f"is not used by mixed: never with qad.when: {precision.qad.when}",
            "remove one",
            precision.int8_max_drop,
        )
    if precision.calibration_images < MIN_CALIBRATION_IMAGES:
        yield Problem(
            "precision.calibration_images",
            f"INT8 needs at least {MIN_CALIBRATION_IMAGES} training images to calibrate",
            "512 is usual; or take int8 out of precision.modes",
            precision.calibration_images,
        )
    if export.opset < 19:
        yield Problem(
            "export.opset", "INT8 with an FP16 remainder needs opset 19 or later", "20 is usual", export.opset
        )


def _is_work_folder(path: str) -> bool:
    top, *parts = path.split("/")
    return top in ("", "~") and bool(parts) and all(part not in ("", ".", "..") for part in parts)


def _targets(config: DeployConfig) -> Iterator[Problem]:
    made = {"fp32", *config.precision.modes}
    for name, target in config.targets.items():
        key = f"targets.{name}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", name):
            yield Problem(key, "a target's name is letters, digits, '-' and '_'", "", name)
        for precision in target.precisions or ():
            if precision not in made:
                yield Problem(
                    f"{key}.precisions", "is not made", f"add {precision} to precision.modes", precision
                )
            elif lacks := ENGINE_KINDS[target.engine].lacks.get(precision):
                yield Problem(f"{key}.precisions", *lacks, precision)
        if target.batch_sizes != [1] and not config.export.dynamic_batch:
            yield Problem(
                f"{key}.batch_sizes",
                "the exported file has batch 1",
                "set export.dynamic_batch: true",
                target.batch_sizes,
            )
        if len(set(target.batch_sizes)) < len(target.batch_sizes):
            yield Problem(f"{key}.batch_sizes", "names a size twice", "", target.batch_sizes)
        yield from _device(key, target)
        yield from _engine_keys(key, target, made)


def _device(key: str, target: Target) -> Iterator[Problem]:
    remote = target.remote
    if target.device == LOCAL:
        if remote != Remote():
            yield Problem(f"{key}.remote", "is for ssh:// devices", "remove it, or name the device")
        for field, asked in (("power_mode", target.power_mode), ("power_modes", target.power_modes)):
            if asked is not None:
                yield Problem(
                    f"{key}.{field}", "is for ssh:// devices", "remove it, or name the device", asked
                )
        return
    yield from contradictions(key, target)
    for field in ENGINE_KINDS[target.engine].alone:
        if getattr(target, field) != Target.model_fields[field].default:
            yield Problem(
                f"{key}.{field}",
                "an ssh:// device builds for itself alone",
                "remove it",
                getattr(target, field),
            )
    if PASSWORD.match(target.device):
        yield Problem(f"{key}.device", "holds a password", "use a key: ssh-copy-id installs one", "ssh://...")
    elif not URL.match(target.device):
        yield Problem(f"{key}.device", "must be local or ssh://[user@]host[:port]", "", target.device)
    if remote.ssh_config is not None and not os.path.isfile(remote.ssh_config):
        yield Problem(f"{key}.remote.ssh_config", "no such file", _RELATIVE, str(remote.ssh_config))
    if remote.folder and not _is_work_folder(remote.folder):
        yield Problem(
            f"{key}.remote.folder",
            "must be a folder below / or ~/",
            "write its full path without . and .. and without a / at its end",
            remote.folder,
        )


def _engine_keys(key: str, target: Target, made: Collection[str]) -> Iterator[Problem]:
    for field in special_keys():
        engines = kinds_with(field)
        given = getattr(target, field) != Target.model_fields[field].default
        if given and target.engine not in engines:
            yield Problem(
                f"{key}.{field}", f"is not for engine: {target.engine}", f"it belongs to {' and '.join(engines)}",
                getattr(target, field),
            )  # fmt: skip
    if target.version_compatible and target.strip_weights:
        yield Problem(
            f"{key}.strip_weights", "contradicts version_compatible: such an engine cannot be refitted",
            "set one of them to false", True,
        )  # fmt: skip
    for capability in target.compute_capabilities or ():
        if capability not in COMPUTE_CAPABILITIES:
            yield Problem(
                f"{key}.compute_capabilities",
                "unknown",
                did_you_mean(capability, COMPUTE_CAPABILITIES),
                capability,
            )
        if capability == "SM75" and {"fp32", "bf16"} & set(target.precisions or made):
            yield Problem(
                f"{key}.compute_capabilities", "TensorRT-RTX builds neither FP32 nor BF16 for Turing",
                "set this target's precisions: [fp16, int8]", capability,
            )  # fmt: skip


def _benchmark(config: DeployConfig) -> Iterator[Problem]:
    benchmark = config.benchmark
    if benchmark.max_seconds < benchmark.min_seconds:
        yield Problem(
            "benchmark.max_seconds",
            f"is below benchmark.min_seconds = {benchmark.min_seconds}",
            "",
            benchmark.max_seconds,
        )
    if "image_to_class" in benchmark.boundaries and config.export.input != "uint8_nhwc":
        yield Problem(
            "benchmark.boundaries", "image_to_class needs a graph that normalises inside",
            "set export.input: uint8_nhwc, or leave the boundary out", "image_to_class",
        )  # fmt: skip
    if benchmark.rate_fps is not None and not {"engine", "image_to_class"} & set(benchmark.boundaries):
        yield Problem(
            "benchmark.rate_fps", "is measured at boundaries engine and image_to_class, and neither is asked for",
            "add one to benchmark.boundaries", benchmark.rate_fps,
        )  # fmt: skip
    if benchmark.rate_seconds is not None and benchmark.rate_fps is None:
        yield Problem("benchmark.rate_seconds", "does nothing without benchmark.rate_fps", "set it too")


def _budgets(config: DeployConfig) -> Iterator[Problem]:
    for metric, goal in goals_of(config.budgets):
        key = f"budgets.{metric.name}"
        given = {side for side in SIDES if getattr(goal, side) is not None}
        if not given:
            yield Problem(key, "sets no goal", f"give {' or '.join(sorted(metric.sides))}")
        for side in sorted(given - set(metric.sides)):
            fix = f"use {' or '.join(sorted(metric.sides))}"
            yield Problem(f"{key}.{side}", f"makes no sense for {metric.name}", fix, getattr(goal, side))
        if lacks := metric.unmeasured(config.benchmark):
            yield Problem(key, *lacks)
        yield from _budget_scope(key, goal, config)


def _scout(config: DeployConfig) -> Iterator[Problem]:
    yield from scout_problems(config.scout, config.targets)


def _budget_scope(key: str, goal: Goal, config: DeployConfig) -> Iterator[Problem]:
    for name in goal.target or ():
        if name not in config.targets:
            yield Problem(f"{key}.target", "no such target", did_you_mean(name, config.targets), name)
    judged = [t for n, t in config.targets.items() if goal.target is None or n in goal.target]
    built = {p for t in judged for p in (t.precisions or {"fp32", *config.precision.modes})}
    for precision in goal.precision or ():
        if precision not in built:
            fix = f"built are: {', '.join(sorted(built)) or 'none'}"
            yield Problem(f"{key}.precision", "a budget on a precision that is not built", fix, precision)
