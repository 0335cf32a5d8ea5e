"""FiGKD: knowledge distillation of logits' high-frequency detail along the class axis, and what it needs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "FigkdError": "figkd.errors",
    "FiGKDLoss": "figkd.loss.figkd_loss",
    "ImageClassifier": "figkd.models",
    "build_loss": "figkd.loss.build",
    "build_model": "figkd.models",
    "detail_matrix": "figkd.loss.wavelet",
    "known_model": "figkd.model_names",
    "make_order": "figkd.loss.order",
    "make_views": "figkd.data.views",
    "needs_teacher": "figkd.loss.methods",
    "open_split": "figkd.data",
    "predict": "figkd.evaluate",
    "prepare": "figkd.data",
    "suggest": "figkd.model_names",
    "wavedec_matrix": "figkd.loss.wavelet",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'figkd' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
