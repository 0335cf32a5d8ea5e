"""Teacher and student in a result: accuracy and the course of training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field

from pipeline.results.evidence import Part, Standing


class Epoch(Part):
    """One epoch of a training run."""

    epoch: int
    loss: float
    parts: dict[str, float] = {}
    """What the loss is the sum of, by name: means of the epoch, weights included. Empty where it is one part."""
    train_top1: float | None = None
    """Percent, on the augmented training images."""
    val_top1: float | None = None
    """Percent, on the validation images."""
    lr: float | None = None


class Accuracy(Part):
    """Accuracy on the test set, percent."""

    source: Literal["engine", "onnx", "onnx_emulated", "torch"]
    """What computed the logits. `onnx`: the ONNX file in ONNX Runtime, where the engine could not run; `onnx_emulated`:
    the same for BF16, which ONNX Runtime emulates."""
    n: int
    """Test images."""
    top1: float
    top5: float | None
    mean_per_class: float
    worst_classes: list[dict[str, Any]]
    """The five worst: `name`, `n`, `accuracy`."""
    confused: list[dict[str, Any]]
    """The most frequent mistakes: `true`, `predicted`, `count`."""
    agreement: float | None
    """Percent of images with the torch student's top-1."""
    finite: bool
    """All logits are finite numbers."""
    identical_rows: bool | None = None
    """One image, several times in a batch (or in a row, for a batch-1 engine), gets the same logits."""

    @property
    def worst_class(self) -> float:
        """Accuracy of the worst class, percent."""
        return float(self.worst_classes[0]["accuracy"])


class Network(Part):
    """Teacher or student."""

    model: str
    parameters: int
    test: Accuracy
    standing: Standing | None = None
    val_top1: float
    history: list[Epoch]
    method: str | None = None
    options: dict[str, Any] = {}
    wavelet_order: list[str] | None = Field(
        default=None, validation_alias=AliasChoices("wavelet_order", "class_order")
    )
    """The order in which the method's wavelet saw the classes while training. It is not that of the outputs, which
    the result's `outputs` tells. (Earlier results call it `class_order`.)"""
