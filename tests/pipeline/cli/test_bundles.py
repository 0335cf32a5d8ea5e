"""From a finished run to a bundle that is signed, checked and tried; what the verdict does not ship is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.cli.in_process import run
from tests.pipeline.conftest import FONTS, Done, Finished, figkd

GOAL = {"budgets.top1": "{min: 1}"}
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl program here")


@pytest.fixture(scope="module")
def shipped(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that a run with a goal ends with."""
    output = tmp_path_factory.mktemp("runs")
    done = finished.figkd("run", output=output, **GOAL)
    assert done.code == 0, done.err
    (folder,) = (output / "fonts_cpu/bundles").iterdir()
    assert f"bundle: {folder}" in done.out
    assert "none for rtx: not run" in done.out
    return folder


def _keys(shipped: Path) -> dict[str, object]:
    """Of the config whose run `shipped` is of."""
    return {"output": shipped.parents[2], **GOAL}


def _copy(folder: Path, parent: Path) -> Path:
    return Path(shutil.copytree(folder, parent / folder.name))


def _run_pyz(folder: Path, *words: str | Path) -> Done:
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HOME": "/nowhere"}
    done = subprocess.run(
        [sys.executable, folder / "run.pyz", *words],
        cwd="/",
        env=clean,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_run_without_a_goal_ends_without_a_bundle(finished: Finished) -> None:
    """No budget says how good is good enough, so nothing ships; the run says so."""
    assert "none for cpu: no goal says how good is good enough" in finished.done.out
    assert not (finished.folder / "runs/fonts_cpu/bundles").exists()


def test_the_bundle_of_a_run_passes_its_self_test(shipped: Path) -> None:
    done = _run_pyz(shipped, "self-test", "--unsigned", "--json")
    assert done.code == 0, done.err
    assert (done.json["passed"], done.json["max_abs_logit"], done.json["images_exact"]) == (True, 0.0, 6)
    facts = _run_pyz(shipped, "info", "--unsigned", "--json").json
    assert facts["verdict"] == "ship"
    assert facts["classes"] == 21


def test_the_engine_itself_says_its_classes_and_its_input(shipped: Path) -> None:
    """A program that has the ONNX file alone asks it, as docs/deploy.md shows."""
    import onnxruntime

    (engine,) = (shipped / "engine").glob("*.onnx")
    session = onnxruntime.InferenceSession(engine, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["figkd.classes"]) == json.loads((shipped / "labels.json").read_bytes())
    image, spec = json.loads(facts["figkd.input"]), json.loads((shipped / "preprocess.json").read_bytes())
    assert (image["layout"], image["dtype"]) == (spec["input"]["layout"], spec["input"]["dtype"])
    assert (image["resize"], image["height"]) == (spec["resize"]["side"], spec["crop"]["size"])


def test_bundles_of_one_run_are_the_same_bytes(shipped: Path, finished: Finished, tmp_path: Path) -> None:
    for name in ("a", "b"):
        done = finished.figkd("bundle", "--tar", "--json", "-o", tmp_path / name, **_keys(shipped))
        assert done.code == 0, done.err
    one, other = (next((tmp_path / name).glob("*.tar")).read_bytes() for name in ("a", "b"))
    assert one == other
    assert (tmp_path / "a" / shipped.name / "manifest.json").read_bytes() == (
        shipped / "manifest.json"
    ).read_bytes()


def test_what_the_verdict_does_not_ship_must_be_allowed(finished: Finished, tmp_path: Path) -> None:
    for words in (("--target", "cpu"), ("--target", "rtx"), ("--engine", "cpu/fp32"), ()):
        done = finished.figkd("bundle", *words, "-o", tmp_path)
        assert (done.code, list(tmp_path.iterdir())) == (2, []), words
    done = finished.figkd(
        "bundle", "--engine", "cpu/fp32", "--allow-unshipped", "-o", tmp_path, "--json",
        "--channel", "beta", "--sequence", "5", "--licence", "MIT",
    )  # fmt: skip
    assert done.code == 0, done.err
    facts = _run_pyz(Path(done.json["bundle"]), "info", "--unsigned", "--json").json
    assert facts["verdict"] == "not shipped: no goal says how good is good enough"
    assert (facts["channel"], facts["sequence"], facts["precision"]) == ("beta", 5, "fp32")
    assert facts["licences"] == ["Apache-2.0", "MIT"]
    # One that did not run here: bound to its GPU, and its golden answers are the ONNX file's.
    done = finished.figkd(
        "bundle", "--engine", "rtx/fp32-SM86", "--allow-unshipped", "-o", tmp_path, "--json"
    )
    assert done.code == 0, done.err
    folder = Path(done.json["bundle"])
    assert json.loads((folder / "manifest.json").read_bytes())["needs"]["compute_capability"] == ["SM86"]
    assert json.loads((folder / "golden/golden.json").read_bytes())["source"] == "onnxruntime"
    for words in (("--target", "none"), ("--engine", "cpu/none", "--allow-unshipped")):
        done = finished.figkd("bundle", *words, "-o", tmp_path / "no")
        assert (done.code, "no engine" in done.err or "no target" in done.err) == (2, True), done.err


def test_the_config_says_how_a_bundle_is_released(finished: Finished, tmp_path: Path) -> None:
    """Channel, licence, and that a run without a goal ends with bundles all the same, which say so."""
    keys: dict[str, object] = {
        "bundle.channel": "beta",
        "bundle.licence": "MIT",
        "bundle.allow_unshipped": True,
    }
    done = finished.figkd("run", output=tmp_path, **keys)
    assert done.code == 0, done.err
    cpu, rtx = sorted((tmp_path / "fonts_cpu/bundles").iterdir())
    facts = _run_pyz(cpu, "info", "--unsigned", "--json").json
    assert (facts["channel"], facts["licences"]) == ("beta", ["Apache-2.0", "MIT"])
    assert facts["verdict"] == "not shipped: no goal says how good is good enough"
    assert json.loads((rtx / "manifest.json").read_bytes())["engine"]["backend"] == "tensorrt_rtx"
    # The same by hand, and an option goes before the config.
    keys["output"] = tmp_path
    done = finished.figkd("bundle", "--target", "cpu", "--json", "-o", tmp_path / "again", **keys)
    assert done.code == 0, done.err
    assert Path(done.json["bundle"]).name == cpu.name
    done = finished.figkd("bundle", "--target", "cpu", "--json", "-o", tmp_path, "--channel", "gamma", **keys)
    assert _run_pyz(Path(done.json["bundle"]), "info", "--unsigned", "--json").json["channel"] == "gamma"
    # An engine of TensorRT-RTX is built here without a GPU; it goes into a registry, and into no Triton.
    layout = tmp_path / "layout"
    assert run("export-to", "oci", rtx, f"{layout}:1", "--unsigned").code == 0
    done = run("pull", f"{layout}:1", tmp_path / "pulled", "--unsigned", "--json")
    assert (tmp_path / "pulled" / rtx.name / "manifest.json").read_bytes() == (
        rtx / "manifest.json"
    ).read_bytes()
    done = run("export-to", "triton", rtx, tmp_path / "models", "--unsigned")
    assert (done.code, "Triton has no backend" in done.err) == (2, True), done.err
    done = run("export-to", "hf", rtx, tmp_path / "hf", "--unsigned")
    assert (done.code, "one kind of GPU" in done.err) == (2, True), done.err
    for kind, name in (("triton", "fonts_cpu/1/model.onnx"), ("hf", "model.onnx")):
        assert run("export-to", kind, cpu, tmp_path / kind, "--unsigned").code == 0
        (engine,) = (cpu / "engine").glob("*.onnx")
        assert (tmp_path / kind / name).read_bytes() == engine.read_bytes()


def test_several_engines_in_one_bundle(shipped: Path, finished: Finished, tmp_path: Path) -> None:
    """Of one target and of another; each meets its goals, or is allowed; the first that fits is taken."""
    ids = ("rtx/fp32-SM86", "cpu/int8", "cpu/fp32")
    words = [word for id in ids for word in ("--engine", id)]
    done = finished.figkd("bundle", *words, "-o", tmp_path, **_keys(shipped))
    assert (done.code, "does not ship rtx/fp32-SM86" in done.err) == (2, True), done.err
    done = finished.figkd("bundle", *words, "--allow-unshipped", "-o", tmp_path, "--json", **_keys(shipped))
    assert done.code == 0, done.err
    folder = Path(done.json["bundle"])
    assert folder.name.startswith("fonts_cpu-rtx+cpu-")
    facts = _run_pyz(folder, "info", "--unsigned", "--json").json
    assert facts["verdict"].startswith("not shipped: rtx/fp32-SM86: ")
    assert facts["engine here"] == "cpu-int8" and facts["not taken"][0].startswith("rtx-fp32-SM86 needs a ")
    tested = _run_pyz(folder, "self-test", "--canary", "--unsigned", "--json")
    assert (tested.code, tested.json["max_abs_logit"], tested.json["canary"]["lost"]) == (0, 0.0, 0), (
        tested.err
    )
    engines = json.loads((folder / "manifest.json").read_bytes())["engines"]
    assert engines[0]["needs"]["compute_capability"] == ["SM86"] and engines[2]["needs"]["architecture"] == ""
    quiet = {**_keys(shipped), "bundle.counts": False, "output": tmp_path / "quiet"}
    assert finished.figkd("run", **quiet).code == 0  # the report shows the config
    done = finished.figkd(
        "bundle", "--engine", "cpu/int8", "--engine", "cpu/fp32", "-o", tmp_path, "--json", **quiet
    )
    assert done.code == 0, done.err
    assert json.loads((Path(done.json["bundle"]) / "manifest.json").read_bytes())["counts"] == 0
    assert _run_pyz(Path(done.json["bundle"]), "info", "--unsigned", "--json").json["verdict"] == "ship"
    done = finished.figkd(
        "bundle", "--engine", "cpu/int8", "--engine", "cpu/int8", "-o", tmp_path, **_keys(shipped)
    )
    assert (done.code, "named twice" in done.err) == (2, True)
    done = run("export-to", "hf", folder, tmp_path / "hf", "--unsigned", "--engine", "cpu-fp32")
    assert done.code == 0, done.err
    assert '"precision": "fp32"' in (tmp_path / "hf/config.json").read_text()
    assert run("export-to", "hf", folder, tmp_path / "hf2", "--unsigned", "--engine", "none").code == 2


def test_a_bundle_needs_a_finished_run(tmp_path: Path) -> None:
    done = figkd("bundle", FONTS, "--target", "cpu", cwd=tmp_path)
    assert (done.code, "not finished yet" in done.err) == (2, True)


def test_predict_says_the_same_with_bundle_engine_and_config(
    shipped: Path, finished: Finished, tmp_path: Path
) -> None:
    image = shipped / "golden/images/1.png"
    engine = shipped / "engine" / next(p.name for p in (shipped / "engine").iterdir() if p.suffix == ".onnx")
    answers = []
    for what in (shipped, engine):
        done = figkd("predict", what, image, "--json", "--top", "3", "--unsigned", cwd=tmp_path)
        assert done.code == 0, done.err
        answers.append(done.json[0]["labels"])
    done = finished.figkd("predict", image, "--json", "--top", "3", **_keys(shipped))
    assert done.code == 0, done.err
    assert answers == [done.json[0]["labels"]] * 2
    assert _run_pyz(shipped, "classify", image, "--json", "--top", "3").json[0]["labels"] == answers[0]


def test_predict_goes_on_after_images_that_are_none(shipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(shipped / "golden/images", folder / "inner")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "notes.txt").write_text("none")
    done = figkd("predict", shipped, folder, "--folder", "--csv", tmp_path / "out.csv", cwd=tmp_path)
    assert done.code == 2
    assert "1 of 7 images cannot be read" in done.err
    assert "no signature was checked" in done.err
    rows = list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8")))
    assert len(rows) == 7
    assert [row["file"].endswith("broken.jpg") for row in rows if row["error"]] == [True]
    assert all(0 < float(row["probability_1"]) <= 1 for row in rows if not row["error"])
    assert figkd("predict", shipped, tmp_path / "none.jpg", cwd=tmp_path).code == 2
    assert figkd("predict", tmp_path / "none", tmp_path / "none.jpg", cwd=tmp_path).code == 2
    assert figkd("predict", tmp_path / "out.csv", folder, cwd=tmp_path).code == 2


@needs_openssl
def test_keys_trust_and_signatures(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: there are many commands, and each takes seconds to start."""
    monkeypatch.chdir(tmp_path)
    bundle = _copy(shipped, tmp_path)
    (tmp_path / "words").write_text("open sesame\n")
    (tmp_path / "words").chmod(0o600)

    made = run("key", "new", "a.pem", "--passphrase-file", "words")
    assert made.code == 0, made.err
    assert run("key", "new", "b.pem", "--no-passphrase").code == 0
    assert run("key", "new", "b.pem", "--no-passphrase").code == 2
    assert run("key", "new", "c.pem").code == 2  # nobody can be asked
    assert run("key", "trust", "trust.json", "--add", "a.pub", "--add", "b.pub", "--threshold", "2").code == 0
    verify = ("bundle", "verify", bundle, "--trust", "trust.json")
    assert run(*verify).code == 6
    assert run("bundle", "sign", bundle, "--key", "a.pem").code == 2
    assert run("bundle", "sign", bundle, "--key", "a.pem", "--passphrase-file", "words").code == 0
    assert run(*verify).code == 6
    # The other key is elsewhere.
    assert run("bundle", "sign", bundle, "--external", "b.pub", "--message", "m").code == 0
    shell = "openssl dgst -sha256 -sign b.pem m | base64 > s"
    subprocess.run(shell, shell=True, check=True, cwd=tmp_path)
    done = run("bundle", "sign", bundle, "--external", "b.pub", "--signature", "s")
    assert done.code == 0, done.err
    done = run(*verify, "--json")
    assert done.code == 0, done.err
    assert len(done.json["signers"]) == 2
    assert run("bundle", "verify", bundle).code == 2  # neither trust nor the choice against it
    assert run("bundle", "verify", bundle, "--unsigned").code == 0
    assert (
        _run_pyz(bundle, "classify", bundle / "golden/images/0.png", "--trust", tmp_path / "trust.json").code
        == 0
    )
    # One key goes: the next version is signed by keys of both.
    gone = made.out.split("id: ")[1].split()[0]
    assert (
        run("key", "trust", "trust.json", "--revoke", gone[:8], "--threshold", "1", "-o", "next.json").code
        == 0
    )
    assert run("key", "follows", "next.json", "trust.json").code == 6
    assert run("key", "sign", "next.json", "--key", "b.pem").code == 0
    assert run("key", "follows", "next.json", "trust.json").code == 6
    assert run("key", "sign", "next.json", "--key", "a.pem", "--passphrase-file", "words").code == 0
    assert run("key", "follows", "next.json", "trust.json").code == 0
    assert "revoked" in run("key", "trust", "next.json").out
    assert run("bundle", "verify", bundle, "--trust", "next.json").code == 0
    (bundle / "labels.json").write_text("[]\n")
    done = run("predict", bundle, bundle / "golden/images/0.png", "--trust", "next.json")
    assert (done.code, done.out) == (6, "")
    assert "labels.json" in done.err
    text = json.dumps(
        [p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.suffix in (".sig", ".json")]
    )
    assert "PRIVATE" not in text
    assert "sesame" not in text
