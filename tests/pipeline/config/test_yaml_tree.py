"""YAML becomes plain values within bounds: what PyYAML would say, or a fault with its key and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.text import MAX_BYTES
from pipeline.config.yaml_tree import MAX_DEPTH, MAX_KEY, MAX_TEXT, MAX_VALUES, Allowance, Refused, parse

CONFIGS = sorted((Path(__file__).parents[3] / "deploy_configs").rglob("*.yaml"))

_LETTERS = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(_LETTERS, max_size=20)
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(_LETTERS, min_size=1, max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


def _size(value: Any) -> int:
    """Nodes of a value, as YAML counts them."""
    if isinstance(value, dict):
        return 1 + sum(1 + _size(item) for item in value.values())
    return 1 + sum(_size(item) for item in value) if isinstance(value, list) else 1


def _keys(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = {(*path, str(key)): item for key, item in pairs}
    return set(inner).union(*(_keys(item, key) for key, item in inner.items()))


@settings(deadline=None)
@given(_TREES, st.booleans())
def test_plain_values_are_what_pyyaml_reads(value: Any, flow: bool) -> None:
    """Any tree of plain values survives, also shared parts, which become aliases; each key has its line."""
    text = yaml.safe_dump([value, value], default_flow_style=flow, allow_unicode=True)
    allowance = Allowance()
    tree = parse(text, allowance)
    assert tree.value == yaml.safe_load(text) and not tree.faults
    assert set(tree.lines) == _keys(tree.value)
    assert MAX_VALUES - allowance.values == _size(tree.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_what_pyyaml_reads(path: Path) -> None:
    """With the anchors and merges that they use."""
    text = path.read_text(encoding="utf-8")
    assert parse(text, Allowance()).value == yaml.safe_load(text)


def test_merged_keys_follow_yaml_and_keep_their_own_lines() -> None:
    """A key's own value wins, then the first of a list; a problem of a merged key is told where it is written."""
    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc:\n  <<: [*a, *b]\n  y: 3\n"
    tree = parse(text, Allowance())
    assert tree.value["c"] == {"x": 1, "y": 3, "z": 2} == yaml.safe_load(text)["c"]
    assert [tree.lines["c", key] for key in "xyz"] == [1, 5, 2]


def test_values_are_not_shared() -> None:
    """An override of one place must not change the others that have the same alias."""
    value = parse("a: &a {x: [1]}\nb: *a\n", Allowance()).value
    value["a"]["x"].append(2)
    assert value["b"] == {"x": [1]}


def _bomb(form: str, levels: int, wide: int) -> str:
    lines = [f"b0: &b0 {form.format('x') if form == '[{}]' else '{x: 1}'}"]
    for level in range(1, levels + 1):
        lines.append(f"b{level}: &b{level} {form.format(', '.join([f'*b{level - 1}'] * wide))}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (_bomb("[{}]", 9, 9), 5, "what aliases stand for"),
        (_bomb("{{<<: [{}]}}", 9, 9), 5, "what aliases stand for"),
        (_bomb("[{}]", 18, 1), 19, "nested too deeply"),
        ("a:\n - " + "[" * 40_000, 2, "nested too deeply"),
        ("a: " + "{b: " * 500 + "}" * 500, 1, "nested too deeply"),
        ("- " * 5000, 1, "nested too deeply"),
        ("? " * 5000, 1, "nested too deeply"),
        ("a: [" + "x," * 40_000 + "]", 1, "more than 5,000"),
        ("a: b\n" + "# \n" * 40_000, 1, "larger than"),
        ("a: 1\nb: &b [*b]", 2, "contains itself"),
        ("a: 1\nb: &b {c: {<<: *b}}", 2, "contains itself"),
        ("a: 1\nb: *nowhere", 2, "undefined alias"),
        ("a: &x 1\nb: &x 2", 2, "duplicate anchor"),
        ("a: 1\n---\nb: 1", 2, "another document"),
        ("a: 1\nb: {c: 1,\n  c: 2}", 3, r"b\.c stands twice \(first on line 2\)"),
        ("a: 1\nb: \x1b[31m", 2, r"control character U\+001B"),
        ('a: 1\nb: "\\UFFFFFFFF"', 2, "out of range"),
        ("%YAML " + "1" * 5000 + ".1\n---\na: 1", 1, "out of range"),
        ("a: 1\nb: [", 2, "not valid YAML"),
    ],
)
def test_what_is_too_large_or_no_yaml_is_refused_with_its_line(text: str, line: int, said: str) -> None:
    """Before anything is built of it; the second and third text are small and stand for 9^9 values."""
    with pytest.raises(Refused, match=said) as caught:
        parse(text, Allowance())
    assert caught.value.line == line and caught.value.fix


def test_the_bounds_themselves_are_allowed() -> None:
    """One value, one level and one character less than too many."""
    assert parse("[" + "x," * (MAX_VALUES - 1) + "]", Allowance()).value
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH, Allowance()).value
    assert len(parse("x" * MAX_TEXT, Allowance()).value) == MAX_TEXT
    assert not parse("k" * MAX_KEY + ": 1", Allowance()).faults
    assert parse("#" * MAX_BYTES, Allowance()).value is None


def test_an_allowance_is_spent_by_all_texts_of_a_config() -> None:
    """Files that extend each other are one config."""
    allowance = Allowance()
    half = "[" + "x," * (MAX_VALUES // 2 + 1) + "]"
    parse(half, allowance)
    with pytest.raises(Refused, match="more than 5,000"):
        parse(half, allowance)


@pytest.mark.parametrize(
    ("scalar", "said"),
    [
        ("2020-13-45", "is a date"),
        ("2020-01-01", "is a date"),
        ("2020-01-01T99:99:99Z", "is a date"),
        ("!!timestamp x", "is a date"),
        ("!!int abc", "is not an integer"),
        ("!!int ''", "is not an integer"),
        ("!!float x", "is not a number"),
        ("!!bool maybe", "is not true or false"),
        ("1" * 5000, "is too long for an integer"),
        ("1:" * 2000 + "1", "is too long for an integer"),
        ("." + "1" * 5000, "is too long for a number"),
        ("9223372036854775808", "is larger than any number"),
        ("0xffffffffffffffffff", "is larger than any number"),
        ("!!binary aGk=", "has the type !!binary"),
        ("!!python/name:os.system x", "has the type !!python/name"),
        ("!mine x", "has the type !mine"),
        ("=", "has the type !!value"),
        ("!!set {a}", "has the type !!set"),
        ("!!omap [a: 1]", "has the type !!omap"),
        ("!!map x", "has the type !!map"),
        ("!!seq {a: 1}", "has the type !!seq"),
        ("!!map [a]", "has the type !!map"),
        (r'"\0"', "has the control character U+0000"),
        (r'"\e[31m"', "has the control character U+001B"),
        (r'"\ud800"', "has the control character U+D800"),
        (r'"a\u2028b"', "has a line break"),
        ("|\n    a\n    b", "has a line break"),
        ("x" * (MAX_TEXT + 1), "is longer than 4,096 characters"),
        ("{<<: 5}", "must name a section"),
        ("{<<: [{x: 1}, 5]}", "must name a section"),
    ],
    ids=lambda text: text[:20],
)
def test_scalars_that_no_key_takes_are_faults_with_key_and_line(scalar: str, said: str) -> None:
    """YAML's own types and PyYAML's exceptions do not leak; the rest of the text is read."""
    tree = parse(f"a: 1\nb:\n  c: {scalar}\nd: [1]\n", Allowance())
    (fault,) = tree.faults
    assert said in fault.reason and fault.path[:2] == ("b", "c") and fault.line == 3 and fault.fix
    assert tree.value["a"] == 1 and tree.value["d"] == [1]
    assert "c" not in tree.value["b"] or "<<" in scalar  # only the merge is left out


def test_a_list_with_a_fault_is_left_out_whole() -> None:
    """Or its length would be told as a second problem."""
    tree = parse("a: [1, !!int x, !!int y]\n", Allowance())
    assert tree.value == {} and [fault.path for fault in tree.faults] == [("a", "1"), ("a", "2")]


@pytest.mark.parametrize(
    "key",
    [
        "1",
        "null",
        "~",
        "2020-01-01",
        "on",
        "=",
        "!!int x",
        "? [a]\n",
        "{a: b}",
        "? !!str [a]\n",
        "1.5",
        "? ''\n",
        "k" * (MAX_KEY + 1),
        r'"a\nb"',
        r'"\e[31m"',
    ],
)
def test_keys_that_are_no_plain_text_are_faults(key: str) -> None:
    """With the line; such a key cannot be set by mistake for another one."""
    tree = parse(f"a: 1\nb:\n  {key}: 1\n" if "?" not in key else f"a: 1\nb:\n  {key}  : 1\n", Allowance())
    (fault,) = tree.faults
    assert "key" in fault.reason and fault.path[0] == "b" and fault.line == 3
    assert tree.value == {"a": 1, "b": {}} and fault.path[1].isprintable()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "~"])
def test_nothing_is_none(text: str) -> None:
    """An empty value of an override takes a key back."""
    assert parse(text, Allowance()).value is None
