"""Whole-or-nothing file writes, and bounded reads; a device has the same (`export.runtime.files`)."""

from __future__ import annotations

from export.runtime.files import (
    DEPTH,
    LIMIT,
    open_regular,
    read_bytes,
    read_json,
    sha256,
    write_bytes,
    write_json,
)

__all__ = ["DEPTH", "LIMIT", "open_regular", "read_bytes", "read_json", "sha256", "write_bytes", "write_json"]
