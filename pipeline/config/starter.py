"""`figkd-pipeline init`: a commented starter config for a folder of images."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from export.terminal import one_line
from figkd.data import csv_list, examine, hf
from figkd.data.left_out import remarks
from figkd.errors import DataError
from figkd.loss.methods import BASELINES
from pipeline.config.schema import MAX_NAME
from pipeline.config.yaml_tree import Allowance, Refused, parse
from pipeline.core.errors import ConfigError
from pipeline.core.files import write_text

_LIST = str(csv_list.DEFAULTS["file"])
_TEMPLATE = """\
# Run with: figkd-pipeline run {file}
# Every key and its default: figkd-pipeline config show {file}
name: {name}

data:
  dataset: {dataset:<21} # {found}
  root: {root}
{options}  image_size: {size}                # pixels; smaller is faster, and look-alikes need detail

teacher:                         # large and accurate; never shipped
  model: timm/convnext_tiny.fb_in22k_ft_in1k
  pretrained: true
  epochs: 12
  lr: 0.0002

student:                         # small and fast; this is what you ship
  model: timm/mobilenetv3_small_100.lamb_in1k
  pretrained: true

distill:
  method: figkd                  # baselines: {baselines}
  epochs: 40
  lr: 0.001

precision:
  modes: [{modes}]
  calibration_images: {calibration}

targets:                         # one entry an engine; the names are yours
  cpu:
    engine: onnxruntime
  # gpu:                         # on a machine with an NVIDIA GPU and TensorRT:
  #   engine: tensorrt

budgets:                         # the run exits with 3 if no engine meets them
  top1:
    max_drop: 1.0                # percentage points below the student before conversion
    # min: 90                    # how good is good enough, percent of the test images; without it no run passes
  # latency_p99_ms: {{max: 10}}
  # engine_mb: {{max: 12}}
"""


def write_starter(
    folder: Path,
    output: Path | None,
    *,
    dataset: str | None = None,
    options: Mapping[str, str] | None = None,
    force: bool = False,
) -> tuple[Path, list[str]]:
    """Write a config for the images in `folder`, read as a run will read them.

    Args:
        folder: the images.
        output: the file to write; None names it after the folder.
        dataset: `image_folder`, `csv` or `hf_datasets`; None takes the list of labels where there is one, and a folder
            of the library `datasets` as such.
        options: options of the data set, such as layout; they go into the config.
        force: whether to write over a file.

    Returns:
        The file's path, and what a user should know of the data, in sentences.

    Raises:
        ConfigError: no such folder, no data that can be trained with, a path that a config cannot hold, or the file
            exists.
    """
    if not folder.is_dir():
        raise ConfigError(
            "a file, not a folder" if folder.exists() else "no such folder",
            where=one_line(str(folder)),
            fix="name the folder that holds your class folders",
        )
    _check_place(folder)
    options = dict(options or {})
    assumed = dataset is None and (folder / _LIST).is_file()
    dataset = dataset or ("csv" if assumed else "hf_datasets" if hf.is_one(folder) else "image_folder")
    other = "--dataset image_folder takes the names of folders as labels instead" if assumed else ""
    try:
        found = examine(dataset, folder, options).found()
    except DataError as error:
        fix = "; or ".join(filter(None, (_fix(error.fix), other)))
        raise ConfigError(error.what, where=one_line(str(folder)), fix=fix) from error
    assert found is not None  # a root is listed before anything is prepared
    if found.named_like_splits:
        options = {"layout": "classes", **options}
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.resolve().name)[:MAX_NAME].strip("_.-")
    name = name or "my_deployment"
    path = output or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise ConfigError(
            "exists already", where=str(path), fix="choose another name with -o, or add --force"
        )
    counts = {split: len(samples) for split, samples in found.splits.items()}
    # A cautious guess of what is left after the splits.
    train = counts["train"] * (9 if "test" in counts else 7) // 10
    said = f"{len(found.classes)} classes, {sum(counts.values()):,} images" + (
        f"; splits: {', '.join(counts)}" if len(counts) > 1 else ""
    )
    text = _TEMPLATE.format(
        file=one_line(str(path)),
        name=name if parse(name, Allowance()).value == name else json.dumps(name),  # 2020-01-01, 1 or null
        root=_quoted(folder),
        dataset=dataset,
        found=said,
        baselines=", ".join(BASELINES),
        options=f"  options: {json.dumps(options)}\n" if options else "",
        size=224,
        calibration=min(512, train),
        modes="fp32, fp16, int8" if train >= 32 else "fp32, fp16",
    )
    write_text(path, text)
    notes = [f"the labels are those of {_LIST}; {other}"] if assumed else []
    return path, [*notes, *found.notes, *remarks(found.left_out)]


def _fix(text: str) -> str:
    """A fix that names an option of the config, in terms of `init`."""
    text = text.replace(
        "set data.options.layout to splits or to classes",
        "add --option layout=splits or --option layout=classes",
    )
    return re.sub(r"set data\.options\.(\w+): (\w+)", r"add --option \1=\2", text)


def _check_place(folder: Path) -> None:
    """The folder's path is the one part of a starter config that may not be plain text."""
    try:
        faults = [fault.reason for fault in parse(f"root: {_quoted(folder)}\n", Allowance()).faults]
    except Refused as error:
        faults = [error.what]
    if faults:
        raise ConfigError(
            f"its path cannot be written into a config: {faults[0]}",
            where=one_line(str(folder)),
            fix="rename it, or make a link to it that has a plain name",
        )


def _quoted(folder: Path) -> str:
    return json.dumps(str(folder), ensure_ascii=False)
