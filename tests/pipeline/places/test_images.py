"""Images for engines: what reads them is as light as the engines' runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_images_are_cropped_without_torch() -> None:
    """Protects the start of `benchmark` of engines that are there."""
    code = (
        "import sys\nimport numpy as np\nfrom pipeline.places.images import UINT8_NHWC, Images\n"
        "made = Images(np.zeros((2, 8, 8, 3), np.uint8), 6, UINT8_NHWC, None)\n"
        "assert made.inputs().shape == (2, 6, 6, 3)\n"
        "sys.exit(bool({'torch', 'timm', 'onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
