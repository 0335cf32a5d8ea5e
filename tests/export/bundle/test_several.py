"""Several engines in one bundle: a machine takes the first that fits, always the same, and says why not the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle.write import write_bundle
from export.errors import ExportError
from export.publish.source import CannotExport, open_source
from export.runtime.bundle import UNSIGNED, BundleRefused, canonical, load, open_bundle, parse_manifest
from export.runtime.bundle.canary import run_canary
from export.runtime.bundle.cli import main
from export.runtime.bundle.errors import CannotRun
from export.runtime.bundle.fit import HostMachine, choose
from export.runtime.bundle.manifest import NAME, EngineEntry, Needs
from export.runtime.bundle.self_test import self_test
from tests.export.bundle.tiny import bundle, several
from tests.export.runtime.bundle.made import FILES, manifest_of
from tests.old_python import old_python

__all__ = ["old_python"]

ELSEWHERE = Needs("vax")


class Machine(HostMachine):
    """A machine as the test wants it."""

    def __init__(self, gpu: str = "", tensorrt: str = "", features: str = "") -> None:
        self.gpu, self.tensorrt, self.features = gpu, tensorrt, features.split()

    def architecture(self) -> str:
        return "x86_64"

    def l4t(self) -> str:
        return ""

    def cpu_features(self) -> list[str]:
        return self.features

    def compute_capability(self) -> str:
        if not self.gpu:
            raise ExportError("there is no GPU to use")
        return self.gpu

    def has(self, package: str) -> bool:
        return package == "onnxruntime" or bool(self.tensorrt)

    def version(self, package: str) -> str:
        return {"tensorrt": self.tensorrt, "onnxruntime": "1.20"}[package]


def _manifest(engines: list[dict[str, Any]], **changes: Any) -> bytes:
    """A manifest of format 2 whose engines' files are there."""
    files = {**FILES, **{f"{one['file']}{end}": b"x" for one in engines for end in ("", ".json")}}
    found = manifest_of(files, format=2, engines=engines, counts=1, engine=None, needs=None)
    return canonical.encode({**found, **changes})


def _engine(name: str, **changes: Any) -> dict[str, Any]:
    needs = {"architecture": "", "compute_capability": [], "l4t": "", "versions": {}, "cpu_features": []}
    needs |= {key: changes.pop(key) for key in list(changes) if key in needs}
    return {
        "name": name, "file": f"engine/{name}", "backend": "onnxruntime", "precision": "fp32", "threads": 0,
        "answers": "", "needs": needs, **changes,
    }  # fmt: skip


FLEET = parse_manifest(
    _manifest(
        [
            _engine("orin", backend="tensorrt", compute_capability=["SM87"], versions={"tensorrt": "10.3.0"}),
            _engine("desk", backend="tensorrt", compute_capability=["SM89"], versions={"tensorrt": "10.3.0"}),
            _engine("vnni", precision="int8", cpu_features=["avx512_vnni", "avx_vnni"]),
            _engine("any"),
        ]
    )
)


@pytest.mark.parametrize(
    ("machine", "taken", "why"),
    [
        (Machine("SM87", "10.3.0"), "orin", ()),
        (Machine("SM89", "10.3.0"), "desk", ("orin is for SM87, the GPU here is SM89",)),
        (Machine("SM87", "8.6.1"), "any", (
            "orin is for tensorrt 10.3.0, here is 8.6.1",
            "desk is for tensorrt 10.3.0, here is 8.6.1 and is for SM89, the GPU here is SM87",
            "vnni is for a CPU with avx512_vnni or avx_vnni",
        )),
        (Machine("", "10.3.0", "avx2 avx_vnni"), "vnni", (
            "orin needs a GPU: there is no GPU to use", "desk needs a GPU: there is no GPU to use",
        )),
        (Machine(), "any", (
            "orin needs tensorrt, which is not installed for this Python",
            "desk needs tensorrt, which is not installed for this Python",
            "vnni is for a CPU with avx512_vnni or avx_vnni",
        )),
    ],
)  # fmt: skip
def test_the_first_that_fits_is_taken(machine: Machine, taken: str, why: tuple[str, ...]) -> None:
    chosen = choose(FLEET, machine)
    assert (chosen.entry.name, chosen.passed) == (taken, why)
    assert choose(FLEET, machine) == chosen


def test_none_that_fits_is_one_message_that_names_each() -> None:
    manifest = replace(FLEET, engines=FLEET.engines[:3])
    with pytest.raises(CannotRun) as caught:
        choose(manifest, Machine("SM72", "10.3.0"))
    assert caught.value.exit_code == 4
    assert caught.value.what == (
        "none of the bundle's engines fits this machine: orin is for SM87, the GPU here is SM72; "
        "desk is for SM89, the GPU here is SM72; vnni is for a CPU with avx512_vnni or avx_vnni"
    )


def test_each_engine_is_compared_with_its_own_answers(tmp_path: Path) -> None:
    for first, taken in ((None, "cpu-int8"), (ELSEWHERE, "cpu-fp32")):
        folder, manifest = write_bundle(several(tmp_path / taken, first), tmp_path)
        assert (manifest.engines[0].answers, manifest.engines[1].answers) == ("", "answers/cpu-fp32")
        opened = open_bundle(folder, UNSIGNED)
        with load(folder, UNSIGNED) as model:
            assert model.chosen is not None and model.chosen.entry.name == taken
            assert self_test(opened, model).max_abs_logit == 0
            assert run_canary(opened, model).lost == 0
            model.chosen = replace(model.chosen, entry=next(e for e in manifest.engines if e.name != taken))
            assert self_test(opened, model).max_abs_logit > 0


def test_engines_that_answer_alike_share_their_answers(tmp_path: Path) -> None:
    made = several(tmp_path / "made")
    one, other = made.engines
    same = replace(
        other, entry=replace(other.entry, precision="int8"), logits=one.logits, answers=one.answers
    )
    _, manifest = write_bundle(replace(made, engines=[one, same]), tmp_path)
    assert [entry.answers for entry in manifest.engines] == ["", ""]
    assert not any(name.startswith("answers/") for name in manifest.files)


def test_one_engine_is_format_1_which_earlier_runtimes_read(tmp_path: Path) -> None:
    assert json.loads((bundle(tmp_path) / NAME).read_bytes())["format"] == 1
    old = parse_manifest(canonical.encode(manifest_of(FILES)))
    assert old.engines == (EngineEntry("engine/fp32.onnx", "onnxruntime", "fp32", 1),) and old.counts


def _deeper(key: str, value: Any) -> dict[str, Any]:
    return {"needs": {**_engine("a")["needs"], key: value}}


@pytest.mark.parametrize(
    ("engines", "named"),
    [
        ([], "engines"),
        ([_engine(f"e{i}") for i in range(33)], "engines"),
        ([_engine("a"), _engine("a", file="engine/b")], "the same name"),
        ([_engine("a"), _engine("b", file="engine/a")], "the same file"),
        ([{**_engine("a"), "more": 1}], "engines.0.'more'"),
        ([_engine("a"), {k: v for k, v in _engine("b").items() if k != "answers"}], "engines.1.answers"),
        ([_engine("a", answers="../x")], "engines.0.answers"),
        ([{**_engine("a"), "name": ""}], "engines.0.name"),
        ([_engine("a", **_deeper("cpu_features", "avx2"))], "engines.0.needs.cpu_features"),
        ([_engine("a", **_deeper("compute_capability", ["8.7"]))], "engines.0.needs.compute_capability"),
        ([_engine("a", backend="sh")], "engines.0.backend"),
    ],
)
def test_a_list_that_is_none_is_refused(engines: list[dict[str, Any]], named: str) -> None:
    parse_manifest(_manifest([_engine("a"), _engine("b", answers="answers/b")]))
    with pytest.raises(BundleRefused, match=named.replace(".", r"\.")):
        parse_manifest(_manifest(engines))


@pytest.mark.parametrize("change", [{"engine": {}}, {"counts": 2}, {"format": 3}, {"format": 1}])
def test_a_mixture_of_formats_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BundleRefused):
        parse_manifest(_manifest([_engine("a")], **change))
    with pytest.raises(BundleRefused):
        parse_manifest(canonical.encode(manifest_of(FILES, format=2)))


def test_an_engine_whose_file_is_missing_is_refused() -> None:
    found = json.loads(_manifest([_engine("a"), _engine("b")]))
    del found["files"]["engine/b.json"]
    with pytest.raises(BundleRefused, match=r"lists no engine/b\.json"):
        parse_manifest(canonical.encode(found))


def test_info_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = write_bundle(several(tmp_path / "made", ELSEWHERE), tmp_path)
    assert main(["info", "--unsigned", "--json"], str(folder)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["engines"] == ["cpu-int8 (onnxruntime int8)", "cpu-fp32 (onnxruntime fp32)"]
    assert told["engine here"] == "cpu-fp32" and told["not taken"][0].startswith("cpu-int8 is for vax, ")
    none, _ = write_bundle(several(tmp_path / "none", ELSEWHERE, ELSEWHERE), tmp_path)
    assert main(["info", "--unsigned"], str(none)) == 0
    said = capsys.readouterr().out
    assert "engine here none" in said and "none of the bundle's engines fits this machine" in said
    assert main(["self-test", "--unsigned"], str(none)) == 4


def test_documents_cover_all(tmp_path: Path) -> None:
    folder, manifest = write_bundle(
        several(tmp_path / "made", Needs("x86_64", cpu_features=("avx2",))), tmp_path
    )
    card = (folder / "card.md").read_text()
    assert "| cpu-int8 | onnxruntime | int8 | x86_64, a CPU with avx2 |" in card
    assert "| cpu-fp32 | onnxruntime | fp32 | any machine |" in card and "### cpu-fp32" in card
    digests = {manifest.files[entry.file].sha256 for entry in manifest.engines}
    bill = json.loads((folder / "sbom.cdx.json").read_bytes())["metadata"]["component"]
    assert {part["hashes"][0]["content"] for part in bill["components"]} == digests
    subjects = json.loads((folder / "provenance.json").read_bytes())["subject"]
    assert digests <= {subject["digest"]["sha256"] for subject in subjects}
    measured = json.loads((folder / "measured.json").read_bytes())
    assert set(measured) == {"cpu-int8", "cpu-fp32"}
    with pytest.raises(BundleRefused, match="SHA-256 differs"):  # also the one that nobody here takes
        path = folder / manifest.engines[1].file
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        open_bundle(folder, UNSIGNED)


def test_an_export_takes_one_by_name(tmp_path: Path) -> None:
    folder, _ = write_bundle(several(tmp_path / "made", ELSEWHERE), tmp_path)
    first, named = open_source(folder, UNSIGNED), open_source(folder, UNSIGNED, "cpu-fp32")
    assert (first.entry.name, named.entry.name) == ("cpu-int8", "cpu-fp32")
    assert not np.array_equal(first.golden.logits, named.golden.logits)
    with pytest.raises(CannotExport, match=r"no engine 'fp16'.*cpu-int8, cpu-fp32"):
        open_source(folder, UNSIGNED, "fp16")


@pytest.mark.slow
def test_python_3_8_takes_the_one_that_fits(tmp_path: Path, old_python: Path) -> None:
    folder, _ = write_bundle(several(tmp_path / "made", ELSEWHERE), tmp_path)
    _check(folder, old_python)


def test_a_python_of_its_own_takes_the_one_that_fits(tmp_path: Path) -> None:
    folder, _ = write_bundle(several(tmp_path / "made", ELSEWHERE), tmp_path)
    _check(folder, Path(sys.executable))


def _check(folder: Path, python: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HOME": "/nowhere"}
    command = [str(python), str(folder / "run.pyz"), "self-test", "--unsigned", "--canary"]
    done = subprocess.run(command, cwd="/", env=clean, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "self-test passed" in done.stdout and "4 of 4 labelled images are right" in done.stdout
