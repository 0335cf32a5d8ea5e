"""Protects: Hugging Face's own library reads the card, and the program in it gives the golden answers."""

from __future__ import annotations

import json
import os
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.publish import hugging_face
from export.publish.folder import write_folder
from export.publish.source import CannotExport, Source, open_source
from export.runtime.bundle import UNSIGNED
from tests.export.bundle.tiny import NAMES, bundle
from tests.export.publish.stand_in import plan_bundle

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")


def _written(tmp_path: Path, **changes: Any) -> tuple[Source, Path]:
    source = open_source(bundle(tmp_path / "made", **changes), UNSIGNED)
    out = tmp_path / "out"
    write_folder(out, hugging_face.repository(source), hugging_face.KIND, [source.manifest.release])
    return source, out


def test_the_hub_reads_the_card(tmp_path: Path) -> None:
    _, out = _written(tmp_path, licence="MIT")
    card = hub.ModelCard.load(out / "README.md")
    data = card.data
    assert isinstance(data, hub.ModelCardData)
    assert (data.license, data.pipeline_tag, data.library_name) == ("mit", "image-classification", "onnx")
    assert data.tags == ["onnx", "knowledge-distillation", "fp32"]
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("accuracy", 0.715, "fonts")
    assert data.model_name == "tiny"
    assert "# tiny for cpu" in card.text
    assert "run.pyz" not in card.text
    assert "its centre 8 x 8 as uint8. `preprocess.json` says it to the bit." in card.text


@pytest.mark.parametrize(
    ("licence", "expected"),
    [("NOASSERTION", ("unknown", None)), ("LicenseRef-Mine", ("other", "LicenseRef-Mine"))],
)
def test_licences_that_the_hub_does_not_list(
    tmp_path: Path, licence: str, expected: tuple[str, str | None]
) -> None:
    _, out = _written(tmp_path, licence=licence)
    data = hub.ModelCard.load(out / "README.md").data
    assert (data.license, data.license_name) == expected


def test_labels_and_file(tmp_path: Path) -> None:
    source, out = _written(tmp_path)
    config = json.loads((out / "config.json").read_bytes())
    assert config["id2label"] == {str(i): name for i, name in enumerate(NAMES)}
    assert config["label2id"]["eel"] == 4
    assert (out / "model.onnx").read_bytes() == source.bundle.read("engine/fp32.onnx")
    assert (out / "preprocess.json").read_bytes() == source.bundle.read("preprocess.json")
    assert (out / "LICENSES/Apache-2.0.txt").is_file()


@pytest.mark.parametrize("layout", ["uint8_nhwc", "float32_nchw"])
def test_the_program_in_the_card_answers_as_the_bundle(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = _written(tmp_path, layout=layout)
    program = (out / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    for number, name in enumerate(source.golden.images):
        (out / "photo.jpg").write_bytes(source.bundle.read(name))
        told: dict[str, Any] = {}
        with chdir(out):
            exec(compile(program, "README.md", "exec"), told)
        assert capsys.readouterr().out == f"{source.classes[source.golden.logits[number].argmax()]}\n"
        bound = 1e-3 if name.endswith(".png") else 0.5  # JPEG: decoded at full size here, scaled down there
        np.testing.assert_allclose(told["logits"], source.golden.logits[number], rtol=0, atol=bound)
    os.unlink(out / "photo.jpg")


def test_an_engine_for_one_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotExport, match="for one kind of GPU"):
        hugging_face.repository(open_source(plan_bundle(tmp_path / "plan"), UNSIGNED))
