"""`figkd-pipeline init`: a commented starter config for a folder of images."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.files import write_text

_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
_SPLITS = ("train", "val", "test")

_TEMPLATE = """\
# Run with: figkd-pipeline run {file}
# Every key and its default: figkd-pipeline config show {file}
name: {name}

data:
  dataset: image_folder          # {found}
  root: {root}
  image_size: {size}                # pixels; smaller is faster, and look-alikes need detail

teacher:                         # large and accurate; never shipped
  model: timm/convnext_tiny.fb_in22k_ft_in1k
  pretrained: true
  epochs: 12
  lr: 0.0002

student:                         # small and fast; this is what you ship
  model: timm/mobilenetv3_small_100.lamb_in1k
  pretrained: true

distill:
  method: figkd                  # baselines: ce, kd, logit_mse, centred_logit_mse
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
  top1: {{max_drop: 1.0}}          # percentage points below the torch student
  # latency_p99_ms: {{max: 10}}
  # engine_mb: {{max: 12}}
"""


def write_starter(folder: Path, output: Path | None, *, force: bool = False) -> Path:
    """Write a config for the images in `folder`; returns its path.

    Raises:
        ConfigError: no such folder, no classes in it, or the file exists.
    """
    if not folder.is_dir():
        raise ConfigError(
            "no such folder", where=str(folder), fix="name the folder that holds your class folders"
        )
    split = folder / "train" if (folder / "train").is_dir() else folder
    classes = sorted(p for p in split.iterdir() if p.is_dir() and not p.name.startswith("."))
    counts = [sum(f.suffix.lower() in _IMAGES for f in c.rglob("*")) for c in classes]
    if len([n for n in counts if n]) < 2:
        raise ConfigError(
            f"found {len([n for n in counts if n])} class folders with images; at least 2 are needed",
            where=str(split),
            fix="put the images of each class in a folder of its own: ROOT/<class>/*.jpg",
        )
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.resolve().name).strip("_.-") or "my_deployment"
    path = output or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise ConfigError(
            "exists already", where=str(path), fix="choose another name with -o, or add --force"
        )
    splits = [s for s in _SPLITS if (folder / s).is_dir()]
    train = sum(counts) * 7 // 10  # a cautious guess of what is left after the splits
    found = f"{len(classes)} classes, {sum(counts):,} images" + (
        f"; splits: {', '.join(splits)}" if splits else ""
    )
    text = _TEMPLATE.format(
        file=path,
        name=name,
        root=json.dumps(str(folder), ensure_ascii=False),
        found=found,
        size=224,
        calibration=min(512, train),
        modes="fp32, fp16, int8" if train >= 32 else "fp32, fp16",
    )
    write_text(path, text)
    return path
