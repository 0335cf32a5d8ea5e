"""JSON documents that are nearly good."""

from __future__ import annotations

import json
import random
from typing import Any

PIECES = [b"\\u0000", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"-0", b"1e9", b"{}"]
VALUES: list[Any] = [
    "", "a", "A/b", "../x", "x/../y", "/x", "nul", "Com1.txt", "a.", "é", "\u200b", "\x7f", "\U0001f600", "SM87",
    "SM87777", "2025-01-02T03:04:05Z", "0" * 64, "x" * 101, "y" * 201, "\u20ac" * 200, 0, 1, -1, 2**63 - 1, 2**63, 4097,
    -(2**63), 2**64, [], {}, ["x"] * 101, ["SM1"], True, None, 1.5,
]  # fmt: skip
KEYS = [
    "more",
    "engine",
    "engines",
    "counts",
    "answers",
    "name",
    "format",
    "A",
    "a/b",
    "LABELS.json",
    "golden",
    "manifest.json",
]


def mutant(rng: random.Random, good: bytes) -> bytes:
    """A document with one to three changes: bytes, values of every kind, keys, structure."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(9)
        place, other = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        low, high = min(place, other), min(max(place, other), min(place, other) + 40)
        if kind == 0 and place < len(data):
            data[place] = rng.randrange(256)
        elif kind == 1:
            del data[low:high]
        elif kind == 2:
            data[place:place] = data[low:high]
        elif kind == 3:
            data[place:place] = rng.choice(PIECES)
        elif kind == 4 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 5:
            data[place:place] = rng.choice([b"[", b'{"a":']) * rng.choice([3, 17, 5000])
        else:
            data = bytearray(_structural(rng, bytes(data)))
    return bytes(data)


def _structural(rng: random.Random, data: bytes) -> bytes:
    """Canonical bytes of a document in which one value is another."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return data
    node: Any = tree
    while isinstance(node, (dict, list)) and len(node):
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.3:
            break
        node = node[key]
    else:
        return data
    if rng.random() < 0.2 and isinstance(node, dict):
        node[rng.choice(KEYS)] = rng.choice([{"sha256": "0" * 64, "bytes": 1}, 1])
    elif rng.random() < 0.1 and isinstance(node, dict):
        del node[key]
    else:
        node[key] = rng.choice(VALUES)
    try:
        text = json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return (text + "\n").encode()
    except ValueError:
        return data
