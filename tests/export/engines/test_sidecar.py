"""Protects: a sidecar that something else wrote is one error, with file and field, before an engine is loaded."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from export.engines.identity import HostMachine, incompatibility, rebuild_command
from export.engines.sidecar import read_facts, read_sidecar
from export.engines.trt_versions import dialect
from export.errors import EngineError

ENGINE = b"engine"
HERE = HostMachine("tensorrt", "10.3.0", "Orin", "SM87", "aarch64", "36.4.3")
GOOD: dict[str, Any] = {
    "format": 3, "name": "m.engine", "backend": "tensorrt", "bytes": len(ENGINE),
    "sha256": hashlib.sha256(ENGINE).hexdigest(), "versions": {"tensorrt": "10.3.0"},
    "compute_capability": ["SM87"], "batch_sizes": [1, 4], "layers": 4, "state": "built", "device": "Orin",
    "inputs": [{"name": "image", "dtype": "uint8", "shape": [-1, 32, 32, 3]}],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["N", 4]}],
    "platform": "aarch64", "l4t": "36.4.3", "source": {"file": "int8.onnx", "sha256": "0" * 64},
    "options": {"strong_typing": True, "workspace_mb": None, "hardware_compatibility": "none"},
    "weights": {"file": "m.engine.weights.onnx", "sha256": "0" * 64},
    "composition": {"network": {"layers": 4}, "engine": None},
    "classes": ["ant", "bee", "cat", "dog"], "image": {"layout": "NHWC", "dtype": "uint8"},
}  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine file without a sidecar."""
    path = tmp_path / "m.engine"
    path.write_bytes(ENGINE)
    return path


def _write(engine: Path, value: Any) -> None:
    engine.with_name("m.engine.json").write_text(json.dumps(value))


def _use(engine: Path) -> None:
    """All that is done with a sidecar before the library gets the engine."""
    facts = read_sidecar(engine, "tensorrt", lambda f: rebuild_command(engine, f) if f else "again")
    incompatibility(facts, HERE, dialect("tensorrt", "10.3.0"))
    rebuild_command(engine, facts)
    if facts["weights"]:
        engine.with_name(facts["weights"]["file"])
    assert all(size > 0 for size in facts["batch_sizes"])


def test_what_a_build_writes_is_read(engine: Path) -> None:
    """The check refuses nothing that is right."""
    _write(engine, GOOD)
    assert read_facts(engine) == GOOD
    _use(engine)


def test_a_sidecar_of_before_tells_no_classes(engine: Path) -> None:
    """Engines that were published by an earlier version can still be timed; nothing is made up."""
    _write(engine, {k: v for k, v in GOOD.items() if k not in ("classes", "image")} | {"format": 2})
    assert read_facts(engine) == GOOD | {"classes": [], "image": {}}
    _use(engine)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("classes", None), ("classes", "ab"), ("classes", ["a", "a"]), ("classes", [1]), ("classes", ["a" * 5000]),
        ("image", []), ("image", None),
        ("bytes", "six"), ("bytes", None), ("bytes", -1), ("bytes", True), ("bytes", 6.0), ("bytes", 10**400),
        ("versions", []), ("versions", {"tensorrt": 10}), ("options", None), ("options", {"a": [1]}),
        ("options", {"strip_weights": "yes"}), ("options", {"hardware_compatibility": True}),
        ("options", {"hardware_compatibility": None}),
        ("compute_capability", 87), ("compute_capability", ["SMx"]), ("batch_sizes", None), ("batch_sizes", [-1]),
        ("batch_sizes", [10**30]), ("batch_sizes", ["1"]), ("batch_sizes", list(range(1, 100_000))),
        ("weights", {"file": "../../x", "sha256": "0" * 64}), ("weights", {"a": 1}),
        ("weights", {"file": "/etc/passwd", "sha256": "0" * 64}), ("source", []), ("source", {"file": ".."}),
        ("inputs", [{"name": "x"}]), ("inputs", [{"name": "x", "dtype": "uint8", "shape": [[1]]}]),
        ("sha256", "0"), ("name", "a/b"), ("device", "x" * 100_000), ("composition", []), ("layers", None),
        ("more", 1),
    ],
)  # fmt: skip
def test_a_field_that_does_not_fit_is_named(engine: Path, field: str, value: Any) -> None:
    """File and field are in the message; it stays short."""
    _write(engine, GOOD | {field: value})
    with pytest.raises(EngineError, match=rf"m\.engine\.json: {field} is ") as error:
        _use(engine)
    assert len(error.value.what) < 400 + len(str(engine))


@pytest.mark.parametrize("field", sorted(GOOD.keys() - {"format"}))
def test_a_missing_field_is_named(engine: Path, field: str) -> None:
    _write(engine, {name: value for name, value in GOOD.items() if name != field})
    with pytest.raises(EngineError, match=f"{field} is missing"):
        _use(engine)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"null", b"\xff\xfe", b"[" * 200_000, b'{"format":' + b"9" * 10_000 + b"}", b"{" * 50,
     b'{"a": "' + b"x" * (1 << 21) + b'"}', json.dumps(GOOD | {"device": "\ud800"}).encode(),
     json.dumps(GOOD | {"composition": {"a": json.loads("[" * 70 + "]" * 70)}}).encode()],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_sidecar_is_refused(engine: Path, data: bytes) -> None:
    """Too large, too deep, not JSON, not UTF-8, of another form."""
    engine.with_name("m.engine.json").write_bytes(data)
    with pytest.raises(EngineError, match=r"m\.engine\.json"):
        _use(engine)


def test_what_is_no_file_is_refused_without_a_wait(engine: Path) -> None:
    place = engine.with_name("m.engine.json")
    place.mkdir()
    with pytest.raises(EngineError, match="directory"):
        _use(engine)
    place.rmdir()
    os.mkfifo(place)
    with pytest.raises(EngineError, match="not a regular file"):
        _use(engine)


def test_mutants(engine: Path) -> None:
    """1,000 mutants of values and of bytes: an error of ours, or facts that everything can be done with."""
    junk = [
        None,
        True,
        -1,
        10**400,
        1.5,
        float("inf"),
        "",
        "../x",
        "\x1b[2J",
        [],
        [[1]],
        {},
        {"a": 1},
        "9" * 5000,
    ]
    used = 0
    for seed in range(1000):
        chance = random.Random(seed)
        value = copy.deepcopy(GOOD)
        place: Any = value
        while True:
            key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if not isinstance(place[key], dict | list) or not place[key] or chance.random() < 0.3:
                break
            place = place[key]
        place[key] = chance.choice(junk)
        data = bytearray(json.dumps(value).encode())
        if seed % 3 == 0:
            data[chance.randrange(len(data))] = chance.randrange(256)
        engine.with_name("m.engine.json").write_bytes(data)
        try:
            _use(engine)
        except EngineError:
            continue
        used += 1
    assert 0 < used < 500
