"""Whether a bundle answers here as it did where it was measured: golden logits, golden images, time."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .decode import decoder_facts
from .errors import CannotRun, ImageRefused, SelfTestFailed
from .golden import Golden, read_golden

if TYPE_CHECKING:
    from .model import Model
    from .verify import Bundle

_RUNS = 20


@dataclass(frozen=True)
class SelfTest:
    """What was found."""

    inputs: int
    """Golden inputs that were answered."""
    max_abs_logit: float
    """Largest difference of a logit."""
    allowed_logit: float
    classes_equal: bool
    """The class of each is the same, but where two were too close to tell."""
    images: int
    """Image files that were decoded; 0 without Pillow."""
    images_exact: int
    """Of these, with the very pixels."""
    lossless_exact: bool
    """Those that were not compressed with loss (PNG) have the very pixels, whichever decoder."""
    max_abs_pixel: int
    """Largest difference of a pixel."""
    allowed_pixel: int
    """For JPEG: 0 where the same decoder decodes."""
    note: str
    """What was not tested, or differs from where the bundle was made."""
    latency_ms: float
    """Median of one image, preprocessing not included."""

    @property
    def faults(self) -> list[str]:
        """What is wrong; empty if all is well."""
        found = []
        if not self.classes_equal:
            found.append("golden inputs get other classes")
        if not self.max_abs_logit <= self.allowed_logit:  # NaN too
            found.append("logits differ by %.3g, %.3g is allowed" % (self.max_abs_logit, self.allowed_logit))
        if not self.lossless_exact:
            found.append("a golden PNG gets other pixels")
        if self.max_abs_pixel > self.allowed_pixel:
            found.append(
                "pixels of golden images differ by %d, %d is allowed"
                % (self.max_abs_pixel, self.allowed_pixel)
            )
        return found

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return {**asdict(self), "faults": self.faults, "passed": not self.faults}


def self_test(bundle: Bundle, model: Model) -> SelfTest:
    """Run the model of a bundle on the bundle's golden data.

    Raises:
        BundleRefused: the golden data do not fit together.
        CannotRun: the engine fails.
    """
    golden = read_golden(bundle, model.entry_in(bundle.manifest))
    logits = model.logits(list(golden.inputs))
    difference = np.abs(logits.astype(np.float64) - golden.logits)
    same, note = _decoder(golden)
    off, missing = _off(bundle, model, golden)
    started = []
    for _ in range(_RUNS):
        begin = time.perf_counter()
        model.engine.infer(model.preprocessing.batch([golden.inputs[0]]))
        started.append(1e3 * (time.perf_counter() - begin))
    return SelfTest(
        inputs=len(logits),
        max_abs_logit=float(difference.max()),
        allowed_logit=golden.max_abs_logit,
        classes_equal=_classes_equal(logits, golden),
        images=len(off),
        images_exact=sum(value == 0 for value in off.values()),
        lossless_exact=not any(value for name, value in off.items() if name.endswith(".png")),
        max_abs_pixel=max(off.values(), default=0),
        allowed_pixel=0 if same else golden.max_abs_pixel,
        note=missing or note,
        latency_ms=float(np.median(started)),
    )


def require(found: SelfTest) -> None:
    """Refuse a machine on which a self-test found something wrong.

    Raises:
        SelfTestFailed: says what.
    """
    if found.faults:
        raise SelfTestFailed(
            "self-test failed: %s" % "; ".join(found.faults), "do not use it on this machine"
        )


def _classes_equal(logits: Any, golden: Golden) -> bool:
    best = golden.logits.argmax(axis=1)
    rows = np.arange(len(best))
    behind = golden.logits[rows, best] - golden.logits[rows, logits.argmax(axis=1)]
    return bool((behind <= 2 * golden.max_abs_logit).all())


def _off(bundle: Bundle, model: Model, golden: Golden) -> tuple[dict[str, int], str]:
    """Largest difference of a pixel by image file, and why there are none."""
    off: dict[str, int] = {}
    for number, name in enumerate(golden.images):
        try:
            view = model.preprocessing.view(bundle.read(name))
        except CannotRun as error:
            return {}, "image files were not tested: %s" % error.what
        except ImageRefused as error:
            off[name] = 255
            return off, "%s cannot be decoded here: %s" % (name, error.what)
        off[name] = int(np.abs(view.astype(np.int16) - golden.inputs[number]).max())
    return off, ""


def _decoder(golden: Golden) -> tuple[bool, str]:
    """Whether images are decoded here by what made the golden pixels, and that in words."""
    here = decoder_facts()
    if (here["pillow"], here["libjpeg"]) == (golden.pillow, golden.libjpeg):
        return True, "the decoder is the one that made the golden pixels"
    words = (here["pillow"], here["libjpeg"] or "an unknown libjpeg", golden.pillow, golden.libjpeg)
    return False, "decoded by Pillow %s with %s; the golden pixels are from Pillow %s with %s" % words
