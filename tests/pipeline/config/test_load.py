"""Loading deploy configs: merging, overrides, and every problem told in one go with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_config
from pipeline.config.json_schema import json_schema
from pipeline.core.errors import ConfigError

MINIMAL = """\
name: demo
data: {dataset: fonts, image_size: 32}
teacher: {model: figkd/resnet_tiny}
student: {model: figkd/dsconv_nano}
targets:
  cpu: {engine: onnxruntime}
"""


def _write(folder: Path, text: str, name: str = "demo.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _error(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_defaults_fill_what_the_file_leaves_out(tmp_path: Path) -> None:
    """A short config is enough."""
    config = load_config(_write(tmp_path, MINIMAL))
    assert config.distill.method == "figkd"
    assert config.precision.modes == ["fp32", "fp16", "int8"]
    assert config.export.opset == 20


def test_overrides_are_typed_and_the_last_one_wins(tmp_path: Path) -> None:
    """`--set` reads YAML values and may reach into sections that the file does not have."""
    config = load_config(
        _write(tmp_path, MINIMAL),
        ["distill.epochs=3", "distill.epochs=4", "budgets.top1={min: 50}"],
    )
    assert config.distill.epochs == 4
    assert config.budgets.top1 is not None and config.budgets.top1.min == 50


def test_overrides_reach_into_lists(tmp_path: Path) -> None:
    """A position in a list can be set; one that does not exist is refused."""
    path = _write(tmp_path, MINIMAL + "precision: {modes: [fp32, int8]}\n")
    assert load_config(path, ["precision.modes.1=fp16"]).precision.modes == ["fp32", "fp16"]
    assert "not a position in a list of 2" in _error(path, "precision.modes.2=fp16")


def test_extends_merges_deeply_and_null_takes_back(tmp_path: Path) -> None:
    """The refining file wins key by key; null restores a default or drops an entry."""
    _write(tmp_path, MINIMAL + "distill: {epochs: 7, lr: 0.5}\n", "base.yaml")
    child = "extends: base.yaml\nname: child\ndistill: {lr: null, batch_size: 8}\n"
    child += "targets: {cpu: null, rtx: {engine: tensorrt_rtx}}\n"
    config = load_config(_write(tmp_path, child))
    assert (config.name, config.distill.epochs, config.distill.batch_size) == ("child", 7, 8)
    assert config.distill.lr == 1e-3
    assert list(config.targets) == ["rtx"]


def test_extends_in_a_circle_or_of_nothing_is_refused(tmp_path: Path) -> None:
    """Neither hangs nor tracebacks."""
    _write(tmp_path, "extends: b.yaml\n", "a.yaml")
    _write(tmp_path, "extends: a.yaml\n", "b.yaml")
    assert "extends itself: a.yaml -> b.yaml -> a.yaml" in _error(tmp_path / "a.yaml")
    assert "does not exist" in _error(_write(tmp_path, "extends: nowhere.yaml\n"))


def test_all_problems_are_told_in_one_go_with_file_and_line(tmp_path: Path) -> None:
    """Wrong key, type, range, names and contradictions of one file come out together, in the file's order."""
    path = _write(
        tmp_path,
        "nam: x\n"
        "data: {dataset: font, image_size: 4}\n"
        "teacher: {model: timm/resnet5, epochs: many}\n"
        "student: {model: figkd/dsconv_nan}\n"
        "distill: {metod: kd, lr: -1}\n"
        "precision: {modes: [int8], calibration_images: 0}\n"
        "targets: {cpu: {engine: onnx}}\n"
        "budgets: {top1: {max: 3}, latency_p99_ms: {max: 3, precision: [fp16]}}\n",
    )
    text = _error(path)
    assert "13 problems" in text
    for expected in (
        "name: is required and missing",
        f"{path}:1: nam: unknown key; did you mean 'name'?",
        f"{path}:2: data.dataset = 'font': unknown data set; did you mean 'fonts'?",
        f"{path}:2: data.image_size = 4: must be greater than or equal to 8",
        f"{path}:3: teacher.model = 'timm/resnet5': unknown model; did you mean 'timm/resnet50'",
        f"{path}:3: teacher.epochs = 'many': must be a valid integer",
        f"{path}:4: student.model = 'figkd/dsconv_nan': unknown model; did you mean 'figkd/dsconv_nano'",
        f"{path}:5: distill.metod: unknown key; did you mean 'method'?",
        f"{path}:5: distill.lr = -1: must be greater than 0",
        f"{path}:6: precision.calibration_images = 0: INT8 needs at least 32 training images",
        f"{path}:7: targets.cpu.engine = 'onnx': must be 'onnxruntime', 'tensorrt' or 'tensorrt_rtx'",
        f"{path}:8: budgets.top1.max = 3.0: makes no sense for top1",
        f"{path}:8: budgets.latency_p99_ms.precision = 'fp16': a budget on a precision that is not built",
    ):
        assert expected in text
    numbers = [int(line.split(":")[1]) for line in text.splitlines() if line.startswith(f"  {path}:")]
    assert numbers == sorted(numbers)


def test_a_wrong_override_is_told_as_such(tmp_path: Path) -> None:
    """The place of a problem from the command line is the command line."""
    path = _write(tmp_path, MINIMAL)
    assert "--set distill.epochz=3: distill.epochz: unknown key; did you mean 'epochs'?" in _error(
        path, "distill.epochz=3"
    )
    assert "not of the form key=value" in _error(path, "distill.epochs")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [", "not valid YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("name: a\nname: b\n", ":2: name stands twice (first on line 1)"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, text: str, expected: str) -> None:
    """Broken YAML, other documents and duplicate keys get one line each."""
    assert expected in _error(_write(tmp_path, text))


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    """A typo in the file's name is easy to see."""
    _write(tmp_path, MINIMAL)
    assert "files there: demo.yaml" in _error(tmp_path / "demmo.yaml")


def test_what_show_prints_loads_to_the_same_config(tmp_path: Path) -> None:
    """`config show` writes a valid, equal config."""
    config = load_config(_write(tmp_path, MINIMAL))
    again = _write(tmp_path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), "again.yaml")
    assert load_config(again) == config


def test_the_schema_accepts_the_shipped_configs_and_is_up_to_date() -> None:
    """Editors check the shipped files against the schema file beside them."""
    import jsonschema

    folder = Path(__file__).parents[3] / "deploy_configs"
    schema = json_schema()
    assert json.loads((folder / "deploy.schema.json").read_text()) == schema, "run `make docs`"
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in sorted(folder.rglob("*.yaml")):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema="), path
        assert (path.parent / first.split("=", 1)[1]).is_file()
        values = yaml.safe_load(path.read_text())
        if "targets" in values:
            values["targets"] = {k: v for k, v in values["targets"].items() if v is not None}
        validator.validate(values)
