"""What a network of the user's own must be able to do, tried with random weights before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator

from export.errors import ExportError
from figkd import own_network
from figkd.errors import FigkdError, ModelError
from pipeline.config.schema import DeployConfig, Network
from pipeline.core.errors import ConfigError
from pipeline.run.rehearsal import exported
from pipeline.stages.networks import located

_CLASSES = (2, 3)
_SEE = "see its forward"


def own_network_faults(config: DeployConfig) -> Iterator[ConfigError]:
    """The first fault of each network of the user's own; none for a config without one. Runs their code."""
    networks: tuple[tuple[str, Network, bool], ...] = (
        ("teacher", config.teacher, config.teacher.epochs > 0),
        ("student", config.student, True),
    )
    for key, network, trains in networks:
        if not own_network.is_own(network.model):
            continue
        try:
            _try(located(network.model, network.code), config.data.image_size, trains=trains)
            if key == "student":
                exported(config)
        except FigkdError as error:
            yield ConfigError(error.what, where=f"{key}.model", fix=error.fix)
        except ExportError as error:
            what = f"{network.model} cannot be exported: {error.what}"
            yield ConfigError(what, where=f"{key}.model", fix=error.fix or "use operators that ONNX has")


def _try(name: str, image_size: int, *, trains: bool) -> None:
    """Build it for two class counts, and take one training step of two images.

    Raises:
        ModelError: it cannot.
    """
    import torch

    from figkd.models import build_model

    with torch.random.fork_rng(devices=[]):
        model, _ = [build_model(name, count, image_size=image_size) for count in _CLASSES]
        if not trains:
            return
        images = torch.randint(0, 256, (2, image_size, image_size, 3), dtype=torch.uint8)
        try:
            logits = model.train()(images)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{name} cannot be trained on two images: {_reason(error)}", _SEE) from error
        if tuple(logits.shape) != (2, _CLASSES[0]):
            shapes = f"{tuple(logits.shape)} for two images in training, not (2, {_CLASSES[0]})"
            raise ModelError(
                f"{name} gives outputs of shape {shapes}", "return logits [B, C] in training too"
            )
        if not bool(logits.isfinite().all()):
            raise ModelError(f"{name} gives outputs that are not finite with its first weights", _SEE)
        try:
            logits.square().sum().backward()
        except RuntimeError as error:
            raise ModelError(f"{name} cannot be trained: {_reason(error)}", _SEE) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
