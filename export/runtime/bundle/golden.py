"""Golden data: images, what the engine saw of them, and what it answered where it was measured.

golden/golden.json    which images there are, which decoder made their pixels, and the bounds
golden/inputs.npy     uint8 [N, S, S, 3]: the engine's views of test images; those of the image files come first
golden/logits.npy     float32 [N, C]: the answers
golden/images/*       PNG and JPEG files

Of a bundle with several engines, some have a golden.json and a logits.npy of their own (`EngineEntry.answers`).
"""

from __future__ import annotations

import ast
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import canonical
from .errors import BundleRefused, shown

if TYPE_CHECKING:
    from ..arrays import Array
    from .manifest import EngineEntry
    from .verify import Bundle

FOLDER = "golden"
FILE, INPUTS, LOGITS = "golden/golden.json", "golden/inputs.npy", "golden/logits.npy"
_MAGIC = b"\x93NUMPY\x01\x00"
_KEYS = {"version", "images", "pillow", "libjpeg", "max_abs_logit", "max_abs_pixel", "source"}


@dataclass(frozen=True)
class Golden:
    """Golden data, read and checked."""

    images: tuple[str, ...]
    """Paths of image files; `inputs[i]` is the view of the i-th."""
    inputs: Array
    logits: Array
    source: str
    """What answered: `engine`, or `onnxruntime` for the ONNX file of an engine that did not run where it was made."""
    max_abs_logit: float
    """Largest difference of a logit that is allowed."""
    max_abs_pixel: int
    """Largest difference of a pixel of a JPEG that is allowed where another decoder decodes it."""
    pillow: str
    libjpeg: str


def read_golden(bundle: Bundle, entry: EngineEntry) -> Golden:
    """The golden data of an engine of a bundle.

    Raises:
        BundleRefused: it does not fit together.
    """
    file = entry.place(FILE)
    found = canonical.decode(bundle.read(file), file)
    try:
        images = tuple(found["images"])
        made = Golden(
            images=images,
            inputs=array_of(bundle.read(INPUTS), "|u1", INPUTS),
            logits=array_of(bundle.read(entry.place(LOGITS)), "<f4", entry.place(LOGITS)),
            source=found["source"],
            max_abs_logit=float(found["max_abs_logit"]),
            max_abs_pixel=found["max_abs_pixel"],
            pillow=found["pillow"],
            libjpeg=found["libjpeg"],
        )
        fits = (
            set(found) == _KEYS
            and found["version"] == 1
            and all(name in bundle.manifest.files for name in images)
            and made.inputs.ndim == 4
            and made.logits.ndim == 2
            and len(images) <= len(made.inputs) == len(made.logits) > 0
            and made.source in ("engine", "onnxruntime")
            and math.isfinite(made.max_abs_logit)
            and 0 <= made.max_abs_pixel <= 255
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise BundleRefused("%s does not fit the files that it is about: %s" % (file, shown(found)))
    return made


def golden_json(golden: Golden) -> dict[str, object]:
    """What `golden.json` says."""
    return {
        "version": 1,
        "images": list(golden.images),
        "source": golden.source,
        "max_abs_logit": repr(golden.max_abs_logit),
        "max_abs_pixel": golden.max_abs_pixel,
        "pillow": golden.pillow,
        "libjpeg": golden.libjpeg,
    }


def npy_bytes(array: Array) -> bytes:
    """An array as the bytes of an .npy file; the same for the same array, whatever numpy's version."""
    data = np.ascontiguousarray(array)
    header = "{'descr': %r, 'fortran_order': False, 'shape': %r, }" % (data.dtype.str, data.shape)
    padded = header + " " * (-(len(_MAGIC) + 2 + len(header) + 1) % 64) + "\n"
    return _MAGIC + struct.pack("<H", len(padded)) + padded.encode("latin-1") + data.tobytes()


def array_of(data: bytes, kind: str, name: str) -> Array:
    """The array in the bytes that `npy_bytes` wrote.

    Args:
        data: of the file.
        kind: its type, as in `dtype.str`.
        name: of the file, for messages.

    Raises:
        BundleRefused: it is no such array.
    """
    try:
        if not data.startswith(_MAGIC):
            raise ValueError("no .npy file of version 1")
        (length,) = struct.unpack_from("<H", data, len(_MAGIC))
        start = len(_MAGIC) + 2
        header = ast.literal_eval(data[start : start + length].decode("latin-1")) if length < 4096 else {}
        if header["descr"] != kind or header["fortran_order"] is not False:
            raise ValueError("it is of the type %s" % shown(header["descr"]))
        shape = header["shape"]
        if not (isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)):
            raise ValueError("its shape is %s" % shown(shape))
        array = np.frombuffer(data, np.dtype(kind), offset=start + length)
        return array.reshape(shape)
    except (ValueError, KeyError, TypeError, SyntaxError, struct.error, MemoryError, RecursionError) as error:
        raise BundleRefused("%s is no array of the type %s: %s" % (name, kind, str(error)[:120])) from None
