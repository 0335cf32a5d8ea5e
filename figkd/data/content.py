"""What an image is: the digest of its content, whatever its path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np

from figkd.data.formats import HEAD_BYTES, kind_of
from figkd.data.listing import Sample
from figkd.errors import DataError
from figkd.files import open_regular

FileDigests = Callable[[Sequence[Path]], Mapping[Path, str]]
"""sha256 (hex) of each file that can be read; the others are absent."""


def hash_files(files: Sequence[Path]) -> dict[Path, str]:
    """Read and hash files; for callers that do not remember digests."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = zip(files, pool.map(_hash_file, files), strict=True)
        return {file: digest for file, digest in found if digest}


def contents_of(samples: Iterable[Sample], digests: FileDigests = hash_files) -> dict[str, str]:
    """The digest of each sample's content by its id; of one that cannot be read, of its id."""
    found = list(samples)
    files = list(dict.fromkeys(sample.image for sample in found if isinstance(sample.image, Path)))
    of_file = digests(files)
    return {
        sample.sample_id: _digest(sample, of_file) or _sha256(sample.sample_id.encode()) for sample in found
    }


def is_picture(sample: Sample) -> bool:
    """Whether a sample's content begins as an image does; two error pages are no copies of an image."""
    try:
        return isinstance(sample.image, np.ndarray) or kind_of(_head(sample)) is not None
    except (OSError, DataError):
        return False


def _digest(sample: Sample, of_file: Mapping[Path, str]) -> str:
    image = sample.image
    if isinstance(image, Path):
        return of_file.get(image, "")
    if isinstance(image, np.ndarray):
        return _sha256(f"{image.shape} {image.dtype} ".encode() + np.ascontiguousarray(image).tobytes())
    try:
        return _sha256(image())
    except DataError:
        return ""


def _head(sample: Sample) -> bytes:
    if isinstance(sample.image, Path):
        with open_regular(sample.image) as file:
            return file.read(HEAD_BYTES)
    assert callable(sample.image)
    return sample.image()[:HEAD_BYTES]


def _hash_file(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
    except OSError:
        return ""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
