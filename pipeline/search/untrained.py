"""A candidate as ONNX files, with random weights: operators, shapes and sizes are those of the trained network.

What training gives a network is made up for as far as precisions and kernels see it: batch norms get the statistics of
real activations, and scales that training starts at zero are one, so that no branch is dead.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figkd.progress import Progress, no_progress
from pipeline.config.schema import Export
from pipeline.places.images import UINT8_NHWC, Images
from pipeline.results.rows.engines import NotMade, write_not_made
from pipeline.results.rows.scouted import Candidate
from pipeline.stages import precision as precision_stage
from pipeline.stages.base import Arguments, Work
from pipeline.stages.export import graph_module
from pipeline.stages.networks import located

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from figkd.models import ImageClassifier

SEED = 0
"""Of the weights: the same candidate has the same files wherever they are made."""
_PARITY_IMAGES = 4
_SETTLING_IMAGES = 16


@dataclass(frozen=True)
class Material:
    """What the candidates of a scouting share.

    Attributes:
        classes: names of the outputs.
        images: uint8 [N, S, S, 3] of any size: training images, or noise.
        real: they are training images.
    """

    classes: Sequence[str]
    images: npt.NDArray[np.uint8]
    real: bool

    def at(self, size: int) -> npt.NDArray[np.uint8]:
        """The images at another size, uint8 [N, size, size, 3]."""
        import numpy as np
        from PIL import Image

        if self.images.shape[1] == size:
            return self.images
        resized = [
            Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in self.images
        ]
        return np.stack([np.asarray(image) for image in resized])


@dataclass(frozen=True)
class Making:
    """What decides a candidate's files, beside the images.

    Attributes:
        candidate: the network.
        export: section of the config.
        precisions: arguments of the stage `precision`.
    """

    candidate: Candidate
    export: Export
    precisions: Arguments


@dataclass(frozen=True)
class Untrained:
    """A candidate's files: `precision/` and an empty `qad/`, as the stage `build` reads them.

    Attributes:
        folder: that holds them.
        parameters: of the network.
        onnx_bytes: of the FP32 file.
        images: as its graph takes them.
    """

    folder: Path
    parameters: int
    onnx_bytes: int
    images: Images

    @property
    def inputs(self) -> dict[str, Path]:
        """The folders by the names of the stages that make them in a run."""
        return {name: self.folder / name for name in ("precision", "qad")}


def noise(count: int, size: int) -> npt.NDArray[np.uint8]:
    """Seeded images without any content, uint8 [count, size, size, 3]."""
    import numpy as np

    return np.random.default_rng(SEED).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def make(making: Making, material: Material, folder: Path, progress: Progress = no_progress) -> Untrained:
    """Build, export and write every precision; precisions that cannot be made are in `not_made.json`.

    Args:
        making: the candidate, and how it is exported.
        material: images and classes.
        folder: empty; the files go there.
        progress: of the steps.

    Raises:
        FigkdError: the network cannot be built, or does not take such images.
        ExportError: it has no ONNX form that agrees with it.
    """
    from export import onnx
    from figkd import checkpoint, models

    size, layout = making.candidate.image_size, making.export.input
    stored = material.at(size)
    progress(0, 3, "building")
    network = _built(making.candidate, len(material.classes), stored)
    saved = folder / "model.pt" if layout != UINT8_NHWC else None
    if saved:
        checkpoint.save(saved, network.state_dict())
    images = Images(stored, size, layout, saved)
    progress(1, 3, "exporting")
    for name in ("precision", "qad"):
        (folder / name).mkdir()
    source = folder / "student.onnx"
    inputs = images.inputs()
    _export(making, network, inputs, material.classes, source)
    progress(2, 3, "precisions")
    work = Work(making.precisions, {}, {}, folder / "precision", folder, partial(_within, progress))
    shutil.copyfile(source, work.out / "fp32.onnx")
    _, lacking = precision_stage.make_files(
        work, source, lambda count: [inputs[i : i + 1] for i in range(min(count, len(inputs)))]
    )
    write_not_made(work.out, {name: NotMade(detail=e.what, fix=e.fix) for name, e in lacking.items()})
    progress(3, 3, "made")
    return Untrained(folder, models.parameter_count(network), onnx.describe(source)["bytes"], images)


def _within(progress: Progress, done: int, total: int, note: str) -> None:
    progress(2, 3, note)


def _built(candidate: Candidate, classes: int, stored: npt.NDArray[np.uint8]) -> ImageClassifier:
    import torch

    from figkd import models

    name = located(candidate.model, candidate.code)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = models.build_model(name, classes, image_size=candidate.image_size)
        settle(network, stored[:_SETTLING_IMAGES])
    return network.eval()


def settle(network: nn.Module, images: npt.NDArray[np.uint8]) -> None:
    """Give batch norms the statistics of real activations, in place; scales of norms that are zero become one.

    Args:
        network: takes uint8 [N, H, W, 3].
        images: a few.

    Without it the activations of a deep network may leave FP16's range, or vanish into denormal numbers, which are
    slow: neither happens to a trained one.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    network.eval()
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            if norm.weight is not None and not bool(norm.weight.any()):
                norm.weight.fill_(1.0)
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train()
            norm.momentum = None  # the mean over all batches
            norm.reset_running_stats()
        try:
            network(torch.from_numpy(images.copy()))
        except ValueError:  # one value a channel has no variance: as it was built
            for norm in norms:
                norm.reset_running_stats()
        finally:
            for norm, momentum in zip(norms, usual, strict=True):
                norm.momentum = momentum
                norm.eval()


def _export(
    making: Making, network: ImageClassifier, inputs: npt.NDArray[Any], classes: Sequence[str], source: Path
) -> None:
    import numpy as np
    import torch

    from export import contract, onnx

    size, export = making.candidate.image_size, making.export
    module = graph_module(network, export.input)
    if export.input == UINT8_NHWC:
        image = contract.ImageInput("NHWC", "uint8", size, size)
    else:
        image = contract.ImageInput(
            "NCHW", "float32", size, size, normalisation="(x / 255 - mean) / std",
            mean=tuple(network.mean.tolist()), std=tuple(network.std.tolist()),
        )  # fmt: skip
    example = torch.from_numpy(np.array(inputs[:1]))
    onnx.export_onnx(
        module,
        example,
        source,
        opset=export.opset,
        dynamic_batch=True,
        metadata=contract.metadata(classes, image),
    )
    if not export.dynamic_batch:
        onnx.fix_batch(source, source, 1)
    parity = export.parity
    found = onnx.check_parity(
        module, source, [np.ascontiguousarray(inputs[:_PARITY_IMAGES])], max_abs=parity.max_relative_error,
        min_cosine=parity.min_cosine, batch_sizes=(1,),
    )  # fmt: skip
    onnx.require_parity(found)
