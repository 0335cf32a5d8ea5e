"""What `image_to_class` is timed on: files of the test images, or JPEGs of prepared images where there are no files."""

from __future__ import annotations

import io
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.places.images import UINT8_NHWC, Images
from pipeline.results.latency import Decoded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.runtime.bundle.preprocess import Preprocessing

_QUALITY = 95


@dataclass(frozen=True)
class Pictures:
    """Encoded images, and how one becomes an engine's input.

    Attributes:
        encoded: contents of image files; what a bundle would refuse is not among them.
        preprocessing: that of the bundle.
        source: `files`: test images as they came. `stored`: JPEGs of prepared images. `random`: JPEGs of noise.
        refused: why a file was left out; empty if none was.
    """

    encoded: Sequence[bytes]
    preprocessing: Preprocessing
    source: Literal["files", "stored", "random"]
    refused: str = ""

    def facts(self) -> Decoded:
        """What the files are."""
        heads = [_head(data) for data in self.encoded]
        return Decoded(
            source=self.source,
            n=len(self.encoded),
            formats=dict(Counter(head[0] for head in heads)),
            median_megapixels=statistics.median(head[1] for head in heads),
            median_kb=statistics.median(len(data) / 1000 for data in self.encoded),
        )


def pictures_of(
    images: Images, originals: Sequence[bytes], levels: Mapping[str, tuple[float, float]]
) -> Pictures:
    """Files of a data set, or its prepared images as JPEGs where it never had files or a bundle reads none of them.

    Args:
        images: prepared images; say how the graph takes them.
        originals: contents of files of test images; may be empty.
        levels: of the data (`levels` of the `decoding` in data.json).
    """
    from export.runtime.bundle.preprocess import Preprocessing
    from export.runtime.bundle.timing import readable

    wanted = images.normalisation()
    given: dict[str, Any] = {"levels": levels} if levels else {}
    spec = Preprocessing(
        side=images.stored.shape[1],
        size=images.image_size,
        dtype="uint8" if images.layout == UINT8_NHWC else "float32",
        mean=tuple(wanted.mean) if wanted else (),
        std=tuple(wanted.std) if wanted else (),
        **given,
    )
    encoded, refused = readable(originals, spec)
    if encoded:
        return Pictures(encoded, spec, "files", refused)
    return Pictures([encode(image) for image in images.stored], spec, "stored", refused)


def encode(image: npt.NDArray[np.uint8]) -> bytes:
    """A JPEG of uint8 [H, W, 3]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _head(data: bytes) -> tuple[str, float]:
    """Format and megapixels of a file that can be decoded."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return str(image.format), image.width * image.height / 1e6
