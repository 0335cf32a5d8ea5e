"""Protects: a timing cache is reused where it belongs, and one that is damaged or foreign is replaced, never used.

The library is a stand-in that keeps what the three calls on a builder's config keep; what it measures is a list of
names.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from export.engines.trt_cache import CacheKey
from export.runtime.timing_cache import TimingCache

KEY = CacheKey("tensorrt", "10.3.0", "Orin (nvgpu)", "SM87", "aarch64-l4t36.4.3", "fp16")


class Cache:
    """A timing cache of one GPU."""

    def __init__(self, gpu: str, known: set[str]) -> None:
        self.gpu, self.known = gpu, known

    def serialize(self) -> bytes:
        return json.dumps([self.gpu, sorted(self.known)]).encode()

    def combine(self, other: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.known |= other.known
        return True


class Config:
    """The three calls of `IBuilderConfig`."""

    def __init__(self, gpu: str = "Orin") -> None:
        self._gpu, self._cache = gpu, Cache(gpu, set())

    def create_timing_cache(self, data: bytes) -> Cache | None:
        if not data:
            return Cache(self._gpu, set())
        gpu, known = json.loads(data)
        return Cache(gpu, set(known))

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.gpu != self._gpu:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Cache:
        return self._cache

    def measure(self, kernel: str) -> None:
        self._cache.known.add(kernel)


def build(folder: Path, kernel: str, key: CacheKey = KEY, gpu: str = "Orin") -> tuple[TimingCache, set[str]]:
    """One build that measures one kernel; its cache and everything that it knew."""
    config = Config(gpu)
    cache = TimingCache(config, key.file(folder), key.facts())
    config.measure(kernel)
    cache.save()
    return cache, set(config.get_timing_cache().known)


def test_the_file_is_named_by_all_that_it_depends_on(tmp_path: Path) -> None:
    assert KEY.file(tmp_path).name == "timing_tensorrt_10.3.0_Orin-nvgpu_SM87_aarch64-l4t36.4.3_fp16.cache"
    others = [
        replace(KEY, **{name: "other"})
        for name in ("module", "version", "device", "compute_capability", "platform", "kind")
    ]
    assert len({key.file(tmp_path) for key in (KEY, *others)}) == 7


def test_the_next_build_starts_with_what_the_last_one_measured(tmp_path: Path) -> None:
    first, _ = build(tmp_path, "a")
    assert (first.reused, first.note) == (False, "timing cache started")
    second, known = build(tmp_path, "b")
    assert second.reused and "reused" in second.note and known == {"a", "b"}
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".cache", ".json"]


def test_builds_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    slow = Config()
    cache = TimingCache(slow, KEY.file(tmp_path), KEY.facts())
    build(tmp_path, "quick")
    slow.measure("slow")
    cache.save()
    assert build(tmp_path, "c")[1] == {"quick", "slow", "c"}


@pytest.mark.parametrize("damage", ["cut", "altered", "garbage", "no description", "empty description"])
def test_a_damaged_cache_is_replaced(tmp_path: Path, damage: str) -> None:
    build(tmp_path, "a")
    path = KEY.file(tmp_path)
    facts = path.with_name(f"{path.name}.json")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "altered":
        path.write_bytes(path.read_bytes().replace(b"a", b"z"))
    elif damage == "garbage":
        path.write_bytes(b"\0" * 100)
    elif damage == "no description":
        facts.unlink()
    else:
        facts.write_text("")
    found, known = build(tmp_path, "b")
    assert not found.reused and "started again" in found.note and known == {"b"}
    assert build(tmp_path, "c")[1] == {"b", "c"}  # and is whole again


def test_a_foreign_cache_is_replaced(tmp_path: Path) -> None:
    """Copied from another device under this one's name; and one that only the library knows to be foreign."""
    build(tmp_path, "theirs", replace(KEY, device="Thor"))
    theirs, ours = replace(KEY, device="Thor").file(tmp_path), KEY.file(tmp_path)
    for suffix in ("", ".json"):
        (tmp_path / f"{ours.name}{suffix}").write_bytes((tmp_path / f"{theirs.name}{suffix}").read_bytes())
    found, known = build(tmp_path, "ours")
    assert not found.reused and "another device or version" in found.note and known == {"ours"}

    build(tmp_path, "x", gpu="Thor")  # same name, but the library sees another GPU
    found, known = build(tmp_path, "y", gpu="Orin")
    assert not found.reused and "the library refuses it" in found.note and known == {"y"}


def test_a_library_that_raises_on_a_bad_cache_is_survived(tmp_path: Path) -> None:
    build(tmp_path, "a")

    class Raising(Config):
        def create_timing_cache(self, data: bytes) -> Cache | None:
            if data:
                raise TypeError("Unable to convert call argument to Python object")
            return super().create_timing_cache(data)

    config = Raising()
    cache = TimingCache(config, KEY.file(tmp_path), KEY.facts())
    assert not cache.reused
    cache.save()
