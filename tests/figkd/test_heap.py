"""Freed memory: kept while networks compute, given back after that. Each test has a process of its own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc's settings are glibc's")

# 120 MB are taken and freed, in blocks as activations have them.
_START = """
import json, resource, threading
from figkd.heap import freed_memory_kept

PAGE = resource.getpagesize()

def faults(passes=2):
    "Page faults of the last of some passes, as a share of its pages."
    for _ in range(passes):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [bytearray(3_000_000) for _ in range(40)]
        del blocks
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * PAGE / 120e6

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE / 1e6
"""


def _run(code: str, **environ: str) -> Any:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", _START + code], env={**plain, **environ}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_freed_memory_is_taken_again_and_given_back_at_the_end() -> None:
    """Protects training's speed, and the memory of what comes after it."""
    usual, kept, again, inside, after = _run("""
usual = faults()
before = resident()
with freed_memory_kept():
    kept = faults()
    inside = resident() - before
print(json.dumps([usual, kept, faults(), inside, resident() - before]))
""")
    assert kept < 0.01 < 0.5 < usual
    assert inside > 100 and after < 80  # MB: up to 64 stay, as is usual
    assert again > 0.2


def test_blocks_within_blocks_and_beside_each_other() -> None:
    """Protects validation within training, and trainings in threads: the last one gives back."""
    shares = _run("""
found = []
with freed_memory_kept():
    with freed_memory_kept():
        pass
    found.append(faults())
    def other():
        with freed_memory_kept():
            pass
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    found.append(faults(1))
try:
    with freed_memory_kept():
        raise ValueError
except ValueError:
    found.append(faults())
print(json.dumps(found))
""")
    assert shares[0] < 0.01 and shares[1] < 0.01 and shares[2] > 0.2


def test_the_collector_may_end_a_block_while_another_begins() -> None:
    """Protects from a process that waits for itself: images that nobody takes are in a circle of objects."""
    kept, after = _run("""
import gc
from figkd import heap

def images():
    with freed_memory_kept():
        yield

class Circle:
    pass

def leave():
    circle = Circle()
    circle.own, circle.images = circle, images()
    next(circle.images)

def collecting(*given, plain=heap._set):
    gc.collect()
    plain(*given)

heap._set = collecting
gc.disable()
leave()
with freed_memory_kept():
    kept = faults()
    leave()
gc.collect()
print(json.dumps([kept, faults()]))
""")
    assert kept < 0.01 and after > 0.2


@pytest.mark.parametrize(
    "environ",
    [{"MALLOC_TRIM_THRESHOLD_": "1000000"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1000000"}],
)
def test_a_user_s_settings_are_left_alone(environ: dict[str, str]) -> None:
    """Protects those who have chosen."""
    assert _run("""
with freed_memory_kept():
    print(json.dumps(faults()))
""", **environ) > 0.5  # fmt: skip


def test_decoding_keeps_it() -> None:
    """Protects the preparation of data; a caller that does not go on with the images lets go of it."""
    kept, after = _run("""
import gc, io
from PIL import Image
from figkd.data.decode import Job, decode_many

def image():
    file = io.BytesIO()
    Image.new("RGB", (20, 20)).save(file, "png")
    return file.getvalue()

decoded = decode_many([Job(image)] * 40, 8, 1)
next(decoded)
kept = faults()
del decoded
gc.collect()
print(json.dumps([kept, faults()]))
""")
    assert kept < 0.01 and after > 0.2


def test_training_and_predictions_keep_it() -> None:
    """Protects both from page faults: in the steps of a network with 60 MB of activations there are next to none."""
    training, prediction = _run("""
import numpy as np, torch
from figkd.data.split import Split
from figkd.data.views import make_views
from figkd.loss.build import build_loss
from figkd.models import build_model
from figkd.replicas import predictor
from figkd.train import train

torch.set_num_threads(1)
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (96, 32, 32, 3), dtype=np.uint8)
split = Split(images, np.arange(96) % 5, [str(n) for n in range(96)])
counts = []
after = lambda *_: counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
model = build_model("figkd/resnet8x4", 5, image_size=32)
views = make_views("none", image_size=32, store_size=32, count=1)
train(model, split, loss=build_loss("ce", 5), views=views, epochs=1, batch_size=16, lr=0.01, progress=after)
training = (counts[5] - counts[2]) / 3
with predictor(model, "cpu"):
    print(json.dumps([training, faults()]))
""")
    assert training < 1500 and prediction < 0.01  # steps have 3,800 faults otherwise
