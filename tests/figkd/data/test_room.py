"""Memory for decoding: shared, bounded, and never a deadlock."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from figkd.data import room
from figkd.data.room import Room, bytes_to_decode, usable_cpus


def test_threads_never_hold_more_than_there_is() -> None:
    """Protects memory: at no instant do threads hold more than the room, but for one that needs more by itself."""
    shared, lock, held, seen = Room(100), threading.Lock(), [0, 0], []

    def work(wanted: int) -> None:
        with shared.taken(wanted):
            with lock:
                held[0] += wanted
                held[1] += 1
                seen.append((held[0], held[1]))
            with lock:
                held[0] -= wanted
                held[1] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [30, 60, 10, 100, 250, 1, 99, 50] * 40))
    assert len(seen) == 320
    assert all(total <= 100 or count == 1 for total, count in seen)


def test_a_large_one_is_not_overtaken_for_ever() -> None:
    """Protects a large image among small ones: who asks after it waits behind it."""
    shared, order = Room(10), []
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with shared.taken(5):
            inside.set()
            leave.wait(30)

    def ask(wanted: int, name: str) -> None:
        with shared.taken(wanted):
            order.append(name)

    first = threading.Thread(target=hold)
    first.start()
    assert inside.wait(30)
    threads = []
    for wanted, name in ((10, "large"), (1, "small")):
        threads.append(threading.Thread(target=ask, args=(wanted, name)))
        threads[-1].start()
        while len(shared._waiting) < len(threads):
            assert threads[-1].is_alive()  # it has not been let in past the large one
    leave.set()
    for thread in (first, *threads):
        thread.join(30)
    assert order == ["large", "small"]


def test_an_error_gives_the_room_back() -> None:
    """Protects long runs: a damaged image does not keep its memory."""
    shared = Room(10)
    for _ in range(3):
        with pytest.raises(ValueError), shared.taken(10):
            raise ValueError
    with shared.taken(10):
        pass


@pytest.mark.parametrize(("mode", "least"), [("L", 1), ("RGB", 4), ("P", 4), ("RGBA", 12), ("I;16", 3)])
def test_needs_by_kind(mode: str, least: int) -> None:
    """Protects the estimate: no kind of image is taken for smaller than what Pillow makes of it."""
    image = Image.new(mode, (1000, 500))
    assert least <= bytes_to_decode(image, image.size) / 500_000 <= 24


def test_progressive_files_count_in_full(tmp_path: Path) -> None:
    """Protects against progressive JPEGs: their coefficients are held at full size whatever the scale."""
    Image.new("RGB", (800, 800)).save(tmp_path / "a.jpg", progressive=True)
    with Image.open(tmp_path / "a.jpg") as image:
        image.draft("RGB", (100, 100))
        assert image.size == (100, 100)
        assert bytes_to_decode(image, (800, 800)) >= 6 * 800 * 800


def test_cpus_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects containers: a quota counts, rounded up; none, or nonsense, does not."""
    monkeypatch.setattr(room, "_CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(room.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cpus() == 8
    for text, cpus in (("max 100000", 8), ("150000 100000", 2), ("20000 100000", 1), ("9 0", 8), ("", 8)):
        (tmp_path / "cpu.max").write_text(text)
        assert usable_cpus() == cpus, text
