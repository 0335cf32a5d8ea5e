"""A bundle is the same bytes every time, classifies a photo with nothing of ours installed, and tests itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.bundle.archive import write_tar
from export.bundle.pictures import png_bytes
from export.bundle.write import write_bundle
from export.errors import ExportError
from export.runtime.bundle import UNSIGNED, BundleRefused, canonical, load, open_bundle, verify
from export.runtime.bundle.engine import load_engine
from export.runtime.bundle.errors import CannotRun, ImageRefused
from export.runtime.bundle.fit import choose
from export.runtime.bundle.golden import array_of, npy_bytes
from export.runtime.bundle.manifest import NAME
from export.runtime.bundle.self_test import self_test
from tests.export.bundle.tiny import NAMES, bundle, content
from tests.old_python import old_pythons
from tests.pipeline.devices.tiny import images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("bundles"))


def _copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / made.name))


def _run(
    folder: Path, *words: str | Path, python: str | Path = sys.executable
) -> subprocess.CompletedProcess[str]:
    """`run.pyz` as a stranger runs it: nothing of ours can be imported."""
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HOME": "/nowhere"}
    command = [str(python), str(folder / "run.pyz"), *map(str, words)]
    return subprocess.run(command, cwd="/", env=clean, capture_output=True, text=True, timeout=120)


def test_two_bundles_are_the_same_bytes(made: Path, tmp_path: Path) -> None:
    again = bundle(tmp_path)
    assert again.name == made.name
    files = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for file in files:
        assert (made / file).read_bytes() == (again / file).read_bytes(), file
        assert (made / file).stat().st_mode & 0o777 == 0o644
    for folder in (made, again):
        write_tar(folder, tmp_path / f"{folder.parent.name}.tar")
    one, other = (tmp_path / f"{folder.parent.name}.tar" for folder in (made, again))
    assert one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as archive:
        assert f"{made.name}/manifest.json" in archive.getnames()


def test_the_name_says_the_release(made: Path) -> None:
    manifest = verify(made, UNSIGNED)
    assert made.name == f"tiny-cpu-{manifest.release[:12]}"
    assert manifest.verdict == "ship"
    assert {"card.md", "sbom.cdx.json", "provenance.json", "run.pyz", "measured.json"} <= set(manifest.files)


def test_writing_it_again_leaves_it_alone_and_something_else_is_not_overwritten(tmp_path: Path) -> None:
    what = content(tmp_path / "made")
    folder, manifest = write_bundle(what, tmp_path)
    before = folder.stat().st_mtime_ns
    assert write_bundle(what, tmp_path) == (folder, manifest)
    assert folder.stat().st_mtime_ns == before
    (folder / "labels.json").write_text("[]")
    with pytest.raises(ExportError, match="in the way"):
        write_bundle(what, tmp_path)
    assert (folder / "labels.json").read_text() == "[]"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("layout", ["uint8_nhwc", "float32_nchw"])
def test_a_model_answers_as_its_engine_does(layout: str, tmp_path: Path) -> None:
    folder = bundle(tmp_path, layout=layout)
    with load(folder, UNSIGNED) as model:
        pixels = images(1)[0]
        by_pixels, by_file = model.classify(pixels, top=5), model.classify(png_bytes(pixels), top=5)
        assert by_pixels == by_file
        assert sorted(label.name for label in by_file) == sorted(NAMES)
        assert sum(label.probability for label in by_file) == pytest.approx(1)
        logits = model.logits([pixels])[0]
        assert by_file[0].index == int(logits.argmax())
        found = self_test(open_bundle(folder, UNSIGNED), model)
        assert found.faults == []
        assert (found.inputs, found.images, found.images_exact) == (4, 2, 2)
        with pytest.raises(ImageRefused, match="pixels are"):
            model.classify(np.zeros((8, 8), np.uint8))


def test_the_engine_that_is_loaded_is_the_one_that_was_checked(made: Path, tmp_path: Path) -> None:
    """Whatever happens to the file between the check and the loading."""
    folder = _copy(made, tmp_path)
    opened = open_bundle(folder, UNSIGNED)
    engine = folder / "engine/fp32.onnx"
    data = bytearray(engine.read_bytes())
    data[-40] ^= 1
    engine.write_bytes(bytes(data))
    with pytest.raises(BundleRefused, match="SHA-256"):
        opened.read("engine/fp32.onnx")


def test_the_command_line_of_a_stranger(made: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo \x1b[31m.jpg"
    Image.fromarray(np.repeat(np.repeat(images(1)[0], 20, 0), 30, 1)).save(photo)
    done = _run(made, "classify", photo, "--top", "2")
    assert done.returncode == 0, done.stderr
    assert "%" in done.stdout
    assert "\x1b" not in done.stdout
    assert "no signature was checked" in done.stderr
    rows = json.loads(_run(made, "classify", photo, photo, "--json", "--unsigned").stdout)
    assert [label["name"] for label in rows[0]["labels"]] == [label["name"] for label in rows[1]["labels"]]
    done = _run(made, "self-test", "--unsigned")
    assert done.returncode == 0, done.stderr
    assert "self-test passed" in done.stdout
    assert done.stderr == ""
    facts = json.loads(_run(made, "info", "--json", "--unsigned").stdout)
    assert facts["labels"] == NAMES
    assert _run(made, "verify", "--unsigned").stdout.startswith("ok: ")


def test_what_the_command_line_refuses(made: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    good = tmp_path / "good.png"
    good.write_bytes(png_bytes(images(1)[0]))
    done = _run(made, "classify", tmp_path / "empty.png", tmp_path / "text.jpg", tmp_path, "/none.png", good)
    assert done.returncode == 2
    assert done.stdout.startswith(str(good))
    assert "Traceback" not in done.stderr
    assert [w in done.stderr for w in ("0 bytes", "no image", "no regular file", "No such file")] == [
        True
    ] * 4
    assert _run(made, "verify").returncode == 2
    assert _run(made, "verify", "--trust", tmp_path / "none.json").returncode == 2
    assert _run(made, "dance").returncode == 2
    folder = _copy(made, tmp_path)
    (folder / "labels.json").write_bytes(canonical.encode(list(reversed(NAMES))))
    done = _run(folder, "classify", good)
    assert (done.returncode, done.stdout) == (6, "")
    assert "labels.json is not what it was" in done.stderr
    assert _run(tmp_path, "info").returncode != 0
    (tmp_path / "trust.json").write_text("{}")
    assert _run(made, "info", "--trust", tmp_path / "trust.json").returncode == 6


def _changed(made: Path, tmp_path: Path, name: str, data: bytes, **needs: object) -> Path:
    """A bundle with another file, and a manifest that fits it."""
    import hashlib

    folder = _copy(made, tmp_path)
    (folder / name).write_bytes(data)
    found = json.loads((folder / NAME).read_bytes())
    found["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    found["needs"].update(needs)
    (folder / NAME).write_bytes(canonical.encode(found))
    return folder


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("labels.json", canonical.encode(["a", "b"]), "names 2 classes"),
        ("labels.json", canonical.encode(["a"] * 5), "each once"),
        ("labels.json", canonical.encode({}), "each once"),
        ("preprocess.json", canonical.encode([]), "no preprocessing"),
        ("golden/inputs.npy", b"", "no array"),
        ("golden/golden.json", canonical.encode({}), "does not fit"),
        ("golden/logits.npy", npy_bytes(np.zeros((1, 5), "<f4")), "does not fit"),
    ],
)
def test_bundles_that_contradict_themselves(
    made: Path, tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    folder = _changed(made, tmp_path, name, data)
    with pytest.raises(BundleRefused, match=said), load(folder, UNSIGNED) as model:
        self_test(open_bundle(folder, UNSIGNED), model)


def test_an_engine_of_another_machine_or_that_is_none(made: Path, tmp_path: Path) -> None:
    for number, needs in enumerate(
        ({"architecture": "mips"}, {"l4t": "36.4"}, {"versions": {"onnxruntime": "0.1"}})
    ):
        folder = _changed(made, tmp_path / str(number), "engine/fp32.onnx", b"x", **needs)
        with pytest.raises(CannotRun, match="the engine is for"):
            load(folder, UNSIGNED)
    with pytest.raises(CannotRun, match="cannot load"):
        load(_changed(made, tmp_path / "x", "engine/fp32.onnx", b"no engine"), UNSIGNED)


def test_a_self_test_finds_other_answers_and_other_pixels(made: Path, tmp_path: Path) -> None:
    logits = array_of((made / "golden/logits.npy").read_bytes(), "<f4", "x").copy()
    logits[1] += 1
    folder = _changed(made, tmp_path / "a", "golden/logits.npy", npy_bytes(logits))
    done = _run(folder, "self-test", "--unsigned")
    assert done.returncode == 1
    assert "logits differ by 1" in done.stderr
    inputs = array_of((made / "golden/inputs.npy").read_bytes(), "|u1", "x").copy()
    inputs[0, 0, 0, 0] ^= 1
    folder = _changed(made, tmp_path / "b", "golden/inputs.npy", npy_bytes(inputs))
    with load(folder, UNSIGNED) as model:
        assert self_test(open_bundle(folder, UNSIGNED), model).faults == [
            "a golden PNG gets other pixels",
            "pixels of golden images differ by 1, 0 is allowed",
        ]


def test_the_documents(made: Path) -> None:
    card = (made / "card.md").read_text()
    assert card.startswith("---\nlicense:")
    assert "| top1 | 71.5 |" in card
    bill = json.loads((made / "sbom.cdx.json").read_bytes())
    assert bill["specVersion"] == "1.6"
    statement = json.loads((made / "provenance.json").read_bytes())
    manifest = verify(made, UNSIGNED)
    for subject in statement["subject"]:
        assert manifest.files[subject["name"]].sha256 == subject["digest"]["sha256"]
    models = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion

    assert (
        models.JsonStrictValidator(SchemaVersion.V1_6).validate_str((made / "sbom.cdx.json").read_text())
        is None
    )


def test_arrays_come_back() -> None:
    for array in (
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.float32([[1.5]]),
        np.zeros((0, 5), "<f4"),
    ):
        data = npy_bytes(array)
        np.testing.assert_array_equal(array_of(data, array.dtype.str, "x"), array)
        import io

        np.testing.assert_array_equal(np.load(io.BytesIO(data)), array)
        with pytest.raises(BundleRefused):
            array_of(data[:40], array.dtype.str, "x")


@pytest.mark.slow
def test_python_3_8_classifies_a_photo(made: Path, tmp_path: Path) -> None:
    """With numpy, ONNX Runtime and Pillow from PyPI, and nothing of ours."""
    python = next(iter(old_pythons()), None)
    if python is None:
        pytest.skip("no older Python here")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True, timeout=300)
    inside = tmp_path / "venv/bin/python"
    install = [inside, "-m", "pip", "install", "--quiet", "onnxruntime", "numpy"]
    if subprocess.run(install, capture_output=True, timeout=300).returncode:
        pytest.skip("the packages cannot be installed here")
    photo = tmp_path / "photo.png"
    photo.write_bytes(png_bytes(images(1)[0]))
    done = _run(made, "self-test", "--unsigned", python=inside)
    assert done.returncode == 0, done.stderr
    assert "Pillow" in done.stdout
    done = _run(made, "classify", photo, python=inside)
    assert (done.returncode, "Pillow" in done.stderr) == (4, True)
    subprocess.run([*install[:-2], "pillow"], check=True, capture_output=True, timeout=300)
    done = _run(made, "classify", photo, "--top", "5", "--json", python=inside)
    assert done.returncode == 0, done.stderr
    with load(made, UNSIGNED) as model:
        expected = [label.name for label in model.classify(photo, top=5)]
    assert [label["name"] for label in json.loads(done.stdout)[0]["labels"]] == expected
    done = _run(made, "self-test", "--unsigned", "--json", python=inside)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lossless_exact"] is True


@pytest.mark.parametrize(
    ("capability", "weights"), [("SM87", ""), ("SM87", "int8.engine.weights.onnx"), ("SM90", "")]
)
def test_a_tensorrt_engine_is_loaded_from_the_bytes_that_were_checked(
    capability: str, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for CUDA and the engine: what it is given; an engine for another GPU is refused."""
    from export.runtime import cudart, trt_engine
    from tests.export.runtime.bundle.made import write_bundle

    given: list[object] = []

    class Cuda:
        def compute_capability(self) -> tuple[int, int]:
            return (8, 7)

    class Engine:
        def __init__(
            self, source: bytes, backend: str, sizes: list[int], *, weights: str, cuda: Cuda
        ) -> None:
            content = Path(weights).read_bytes() if weights else b""
            given.extend([source, backend, sizes, content, isinstance(cuda, Cuda)])

    monkeypatch.setattr(cudart, "required", Cuda)
    monkeypatch.setattr(trt_engine, "TensorRTEngine", Engine)
    sidecar = {"batch_sizes": [1, 8], "weights": {"file": weights, "sha256": "0" * 64} if weights else {}}
    files = {"engine/int8.engine": b"plan", "engine/int8.engine.json": json.dumps(sidecar).encode()}
    if weights:
        files[f"engine/{weights}"] = b"weights"
    folder = write_bundle(
        tmp_path / "small", files,
        engine={"file": "engine/int8.engine", "backend": "tensorrt", "precision": "int8", "threads": 0},
        needs={"architecture": "", "compute_capability": [capability], "l4t": "", "versions": {}},
    )  # fmt: skip
    opened = open_bundle(folder, UNSIGNED)
    if capability == "SM90":
        with pytest.raises(CannotRun, match="for SM90, the GPU here is SM87"):
            choose(opened.manifest)
        return
    load_engine(opened, choose(opened.manifest).entry)
    assert given == [b"plan", "tensorrt", [1, 8], b"weights" if weights else b"", True]
