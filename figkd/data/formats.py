"""Which image format a file has, by its first bytes: a name's suffix proves nothing."""

from __future__ import annotations

import re

HEAD_BYTES = 160
"""How many of a file's first bytes `kind_of` looks at."""

DEPTH_BYTES = 4096
"""How many of them `bits_of` looks at."""

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"\xff\x0a", "JXL"),
    (b"8BPS\0\x01", "PSD"),
    (b"v/1\x01", "EXR"),
    (b"SIMPLE  =", "FITS"),
    (b"FUJIFILMCCD-RAW", "RAW"),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
# A netpbm file is text at first: without what must follow, every note that begins with "P1 " would be one.
_NETPBM = re.compile(rb"P[1-6]\s+(#|\d)|P[Ff]\s+\d|P7\nWIDTH")


def kind_of(first_bytes: bytes) -> str | None:
    """The image format of a file whose first `HEAD_BYTES` bytes (or all, if fewer) are given.

    Returns:
        A name as Pillow uses it (JPEG, PNG, GIF, BMP, WEBP, TIFF, PPM, JPEG2000, AVIF), one of HEIC, JXL, PSD, EXR,
        FITS, RAW, DICOM, or None where the bytes are those of no image format known here. A format being known does
        not mean that it can be decoded: `figkd.data.opening` says which library reads it.
    """
    head = first_bytes[:HEAD_BYTES]
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if _NETPBM.match(head):
        return "PPM"
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[128:132] == b"DICM":
        return "DICOM"
    return None


def bits_of(first_bytes: bytes, kind: str | None) -> int:
    """Bits a value of a JPEG 2000 or AVIF image, of which Pillow does not tell; 8 where these bytes do not either.

    Args:
        first_bytes: of the file, `DEPTH_BYTES` or all.
        kind: from `kind_of`.
    """
    if kind == "JPEG2000":
        size = first_bytes.find(b"\xff\x4f\xff\x51")  # the codestream begins; its sizes follow
        return (first_bytes[size + 42] & 0x7F) + 1 if 0 <= size < len(first_bytes) - 42 else 8
    coder = first_bytes.find(b"av1C")
    if kind != "AVIF" or not 0 <= coder < len(first_bytes) - 6:
        return 8
    high, twelve = first_bytes[coder + 6] & 0x40, first_bytes[coder + 6] & 0x20
    return 12 if high and twelve else 10 if high else 8


def _iso_media(head: bytes) -> str | None:
    """HEIC, AVIF or RAW (CR3) by the brands of an ISO media file; None for films and other content."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    # The major brand, then (after a version number) the compatible ones: `mif1` alone says neither codec.
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    if _AVIF_BRANDS.intersection(brands):
        return "AVIF"
    if _HEIF_BRANDS.intersection(brands):
        return "HEIC"
    return "RAW" if brands[0] == b"crx " else None
