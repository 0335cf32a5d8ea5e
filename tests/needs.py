"""What a machine or its settings must offer for some tests; where it is missing, they are skipped with a word."""

from __future__ import annotations

import sys

import pytest

unicode_names = pytest.mark.skipif(
    sys.getfilesystemencoding() != "utf-8", reason="file names are ASCII in this locale (PYTHONUTF8=0)"
)
