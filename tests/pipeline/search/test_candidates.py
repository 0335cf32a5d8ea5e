"""Candidates are what their patterns mean, each once, bounded; a name that means nothing is refused with a near one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.core.errors import ConfigError
from pipeline.search.candidates import expand

FONTS = Path(__file__).parents[3] / "deploy_configs" / "fonts_cpu.yaml"


def test_names_patterns_widths_and_sizes() -> None:
    """In the order of the config, each once."""
    found = expand(
        ["figkd/dsconv_nano", "timm/mobilenetv3_small_{width}", "figkd/wrn_*", "figkd/wrn_40_1"],
        [64, 32, 64],
        ["050", "100"],
    )
    assert [each.id for each in found] == [
        f"{name}@{size}"
        for name in (
            "figkd/dsconv_nano", "timm/mobilenetv3_small_050", "timm/mobilenetv3_small_100", "figkd/wrn_16_2",
            "figkd/wrn_40_1", "figkd/wrn_40_2",
        )
        for size in (32, 64)
    ]  # fmt: skip


def test_a_network_of_ones_own_has_its_file(tmp_path: Path) -> None:
    """`code` names the file of each module."""
    (found,) = expand(["nets:small"], [32], code={"nets": tmp_path / "nets.py"})
    assert found.code == tmp_path / "nets.py"


@pytest.mark.parametrize(
    ("models", "widths", "said"),
    [
        (["figkd/dsconv_nan"], [], "did you mean 'figkd/dsconv_nano'"),
        (["figkd/xyz*"], [], "matches no network"),
        (["timm/mobilenetv3_small_{width}"], [], "nothing is given for {width}"),
        (["timm/mobilenetv3_small_{width}"], ["051"], "'timm/mobilenetv3_small_050'"),
        (["figkd/dsconv_nano"], ["050"], "no name holds {width}"),
        ([], [], "there is no candidate"),
    ],
)
def test_what_means_nothing_is_refused(models: list[str], widths: list[str], said: str) -> None:
    """With exit code 2 and a fix."""
    with pytest.raises(ConfigError) as caught:
        expand(models, [32], widths)
    assert said in str(caught.value)


def test_bounded() -> None:
    """More than 10,000 are refused before any is made."""
    with pytest.raises(ConfigError, match="at most 10,000"):
        expand(["timm/*"], list(range(8, 108)))


def test_the_config_is_checked_too(tmp_path: Path) -> None:
    """Unknown names, a number for a width, an unknown target; own networks are found beside the config."""
    for text, said in (
        ("scout.models=[figkd/dsconv_nan]", "did you mean"),
        ("scout.widths=[050]", "text in quotes"),
        ("scout.targets=[cpuu]", "did you mean 'cpu'"),
        ("scout.max_seconds=0.1", "below scout.min_seconds"),
        ("scout.code={nets: nowhere.py}", "no such file"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(FONTS, [text])
        assert said in str(caught.value)
    (tmp_path / "nets.py").write_text("")
    config = tmp_path / "own.yaml"
    config.write_text(f"extends: {FONTS}\nscout: {{models: ['nets:small']}}\n")
    assert load_config(config).scout.code == {"nets": tmp_path / "nets.py"}
