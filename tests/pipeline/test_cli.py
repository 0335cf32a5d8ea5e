"""The command line: every documented exit code, quick help, errors without tracebacks."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.core.errors import Exit
from tests.figkd.data.examined import check
from tests.pipeline import trees
from tests.pipeline.conftest import FONTS, ROOT, TINY, command, environment, figkd, quick_command, sets


def test_help_imports_nothing_heavy() -> None:
    """`--help` must answer at once; timing it would only measure the machine."""
    code = (
        "import sys, click; from pipeline.cli.entry import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'timm', 'numpy', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for name in (
        "run",
        "plan",
        "benchmark",
        "validate",
        "report",
        "doctor",
        "config",
        "init",
        "data",
        "download",
        "bundle",
        "predict",
        "key",
    ):
        assert f"\n  {name} " in done.stdout


def test_planning_and_cached_runs_import_no_framework(finished: object) -> None:
    """What makes the second run quick."""
    code = (
        "import sys, pipeline.cli as c\n"
        f"sys.argv = ['x', 'run', {str(FONTS)!r}, *{sets(TINY)!r}]\n"
        "try: c.main()\n"
        "except SystemExit as e: assert e.code == 0, e.code\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'timm'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), cwd=finished.folder  # type: ignore[attr-defined]
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nowhere.yaml"], "no such config file"),
        (["run", FONTS, "--set", "distill.epochz=1"], "did you mean 'epochs'?"),
        (["run", FONTS, "--until", "exprot"], "did you mean 'export'?"),
        (
            ["run", FONTS, "--set", "data.image_size=9", "--set", "teacher.model=timm/vit_tiny_patch16_224"],
            "9 x 9",
        ),
        (["rum", FONTS], "rum"),
        (["run"], "CONFIG"),
        (["validate", FONTS, "--model", "nowhere.onnx"], "no such file"),
        (["benchmark", FONTS, "--max-regression", "5%"], "needs --baseline"),
        (["report", FONTS], "not finished yet: data"),
        (["init", "nowhere"], "no such folder"),
        (["download", "stanford_dog", "nowhere"], "did you mean 'stanford_dogs'?"),
    ],
    ids=lambda value: " ".join(map(str, value[:1])) if isinstance(value, list) else str(value),
)
def test_wrong_usage_and_configs_exit_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    """One clear message, nothing made."""
    done = figkd(*arguments, cwd=tmp_path)
    assert done.code == Exit.CONFIG and said in done.err
    assert not (tmp_path / ".figkd" / "artifacts").exists()


def test_missing_data_exits_4(tmp_path: Path) -> None:
    """The environment lacks something: told with the fix, before anything is trained."""
    config = ROOT / "deploy_configs/image_folder.yaml"
    done = figkd("run", config, "--set", "data.root=nowhere", cwd=tmp_path)
    assert done.code == Exit.ENVIRONMENT and "nowhere" in done.err and "fix:" in done.err
    checked = figkd("doctor", config, "--set", "data.root=nowhere", cwd=tmp_path)
    assert checked.code == Exit.ENVIRONMENT and "nowhere" in checked.out


def test_a_failing_stage_exits_1_and_keeps_what_came_before(tmp_path: Path) -> None:
    """A learning rate that explodes: the message says so, the data stage's artifact stays."""
    changes = TINY | {"teacher.lr": 1e30, "teacher.grad_clip": "null"}
    done = figkd("run", FONTS, *sets(changes), "--until", "teacher", cwd=tmp_path)
    assert done.code == Exit.STAGE_FAILED
    assert "error: teacher: the loss is" in done.err and "lower the learning rate" in done.err
    assert len(list((tmp_path / ".figkd/artifacts/data").iterdir())) == 1
    assert not (tmp_path / ".figkd/artifacts/teacher").exists()
    assert list((tmp_path / ".figkd/drafts").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_exits_130_with_a_clean_store_and_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C (or a service stop) in the middle of training; the same command then finishes."""
    few = {"data.options": "{train_per_class: 8, val_per_class: 1, test_per_class: 1}", "teacher.epochs": 12}
    arguments = ("run", FONTS, *sets(TINY | few), "--until", "teacher")
    process = subprocess.Popen(
        quick_command(*arguments), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob(".figkd/scratch/teacher.*/state.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == Exit.INTERRUPTED, error
    assert "interrupted" in error and "Traceback" not in error
    assert list((tmp_path / ".figkd/drafts").iterdir()) == []
    assert not (tmp_path / ".figkd/artifacts/teacher").exists()
    done = figkd(*arguments, cwd=tmp_path)
    assert done.code == 0, done.err


def test_json_errors_are_json(tmp_path: Path) -> None:
    """Programs get one document on stdout, whatever happens."""
    done = figkd("run", "--json", "nowhere.yaml", cwd=tmp_path)
    assert done.code == 2 and done.json["error"]["what"] == "no such config file"


def test_doctor_tells_state_and_fix(tmp_path: Path) -> None:
    """Every finding has a state; what is absent comes with a fix."""
    done = figkd("doctor", FONTS, "--json", cwd=tmp_path)
    assert done.code == 0, done.out
    findings = {row["what"]: row for row in done.json}
    assert findings["back end onnxruntime"]["state"] == "ok"
    for row in done.json:
        assert row["state"] in ("ok", "absent", "fault")
        assert row["state"] == "ok" or row["fix"]


def test_config_show_schema_and_check(tmp_path: Path) -> None:
    """The config commands print what they promise."""
    shown = figkd("config", "show", FONTS, "--json", "--set", "distill.epochs=3", cwd=tmp_path)
    assert shown.json["distill"]["epochs"] == 3 and shown.json["export"]["opset"] == 20
    assert "properties" in json.loads(figkd("config", "schema", cwd=tmp_path).out)
    (tmp_path / "bad.yaml").write_text("name: x\n")
    checked = figkd("config", "check", FONTS, "bad.yaml", cwd=tmp_path)
    assert checked.code == 2 and f"{FONTS}: ok" in checked.out and "teacher: is required" in checked.err


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """`figkd-pipeline config show ... | head -1`."""
    done = subprocess.run(
        f"{' '.join(command('config', 'show', FONTS))} | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", cwd=tmp_path, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr and done.stdout.startswith("name:")


def test_unreadable_images_are_counted_and_told(tmp_path: Path) -> None:
    """Corrupt files never crash a run: they are left out, counted and listed."""
    root = trees.image_folder(tmp_path / "images")
    (root / "class_0" / "zero.jpg").write_bytes(b"")
    (root / "class_1" / "half.jpg").write_bytes((root / "class_1" / "000.jpg").read_bytes()[:200])
    config = ROOT / "deploy_configs/image_folder.yaml"
    done = figkd(
        "run",
        config,
        "--until",
        "data",
        "--set",
        f"data.root={root}",
        "--set",
        "data.image_size=32",
        cwd=tmp_path,
    )
    assert done.code == 4 or done.code == 0
    assert "1 files skipped" in done.err and "1 x empty file (class_0/zero.jpg)" in done.err, done.err


def test_download_from_a_mirror(tmp_path: Path) -> None:
    """Fetched, unpacked and usable; a second call finds it there."""
    published = trees.stanford40(tmp_path / "published")
    served = tmp_path / "served"
    for folder, name in (("ImageSplits", "Stanford40_ImageSplits"), ("JPEGImages", "Stanford40_JPEGImages")):
        shutil.make_archive(str(served / name), "zip", published, folder)
    with trees.server(served) as url:
        done = figkd("download", "stanford40", "here", "--url", url, cwd=tmp_path)
        assert done.code == 0, done.err
        assert done.out == "Stanford40_ImageSplits.zip, Stanford40_JPEGImages.zip unpacked in here\n"
        assert check("stanford40", tmp_path / "here") == []
    again = figkd("download", "stanford40", "here", "--quiet", cwd=tmp_path)
    assert (again.code, again.out) == (0, "stanford40 is already in here\n")


def test_downloads_that_cannot_be(tmp_path: Path) -> None:
    """What the mirror has is not the published file; what nobody serves is explained: exit 4, nothing unpacked."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "imagelabels.mat").write_bytes(b"moved")
    with trees.server(tmp_path / "served") as url:
        done = figkd("download", "flowers102", "here", "--url", url, cwd=tmp_path)
        assert done.code == Exit.ENVIRONMENT
        assert "imagelabels.mat has 5 bytes, published were 502" in done.err and "fix:" in done.err
        done = figkd("download", "stanford40", "here", "--url", url, cwd=tmp_path)
        assert done.code == Exit.ENVIRONMENT and "the server says 404" in done.err
    done = figkd("download", "stanford_cars", "here", cwd=tmp_path)
    assert done.code == Exit.ENVIRONMENT and "take a copy" in done.err and "<root>/cars_train" in done.err


def test_missing_data_says_how_to_download_it(tmp_path: Path) -> None:
    """The fix of a run without its data is the command that fetches it."""
    config = ROOT / "deploy_configs/image_folder.yaml"
    changes = {"data.dataset": "cub200", "data.root": "nowhere", "data.options": "{}"}
    done = figkd("run", config, *sets(changes), cwd=tmp_path)
    assert done.code == Exit.ENVIRONMENT
    assert "fix: figkd-pipeline download cub200 ROOT" in done.err and "<root>/images.txt" in done.err


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where the store should be: one line, no traceback."""
    (tmp_path / "occupied").write_text("")
    done = figkd("run", FONTS, *sets(TINY | {"store": "occupied/store"}), "--until", "data", cwd=tmp_path)
    assert done.code != 0 and "occupied" in done.err
