"""Protects: the search for mixed precision takes out what harms most, no more, and says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy.special import rel_entr, softmax

from export import graph
from export.engines.onnxruntime import CPU, OnnxRuntimeEngine
from export.errors import PrecisionError
from export.precision import int8_nodes, load_fp32, observe_file, quantise_for_tensorrt, ranges
from export.precision.sensitivity import Group, Score, groups, score_of, search


def group(name: str, macs: int = 1) -> Group:
    return Group(name, frozenset({name}), (name,), macs)


class Additive:
    """A network in which each group costs its own points, and counts how often it is asked."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.costs = costs
        self.asked: list[frozenset[str]] = []

    def __call__(self, returned: frozenset[str]) -> Score:
        self.asked.append(returned)
        lost = sum(cost for name, cost in self.costs.items() if name not in returned)
        return Score(90.0 - lost, lost / 10)


def test_nothing_is_touched_within_the_budget() -> None:
    """One evaluation, and the file stays as it was."""
    network = Additive({"a": 0.3, "b": 0.2})
    found = search([group("a"), group("b")], network, reference=90.0, max_drop=0.5)
    assert found.met and found.returned == () and network.asked == [frozenset()] and found.evaluations == 1


def test_the_worst_go_first_and_no_more_than_needed() -> None:
    """Groups leave INT8 by the harm that they do, until the budget holds."""
    network = Additive({"a": 0.2, "b": 3.0, "c": 0.1, "d": 1.0})
    found = search([group(n) for n in "abcd"], network, reference=90.0, max_drop=0.5)
    assert [s.group.name for s in found.returned] == ["b", "d"] and found.met
    assert found.before.top1 == pytest.approx(85.7) and found.after.top1 == pytest.approx(89.7)
    assert list(found.harms) == ["b", "d", "a", "c"]
    # All; all but one; again without b, which was most of the harm; and whether d or b can go back.
    assert len(network.asked) == found.evaluations == 1 + 4 + 3 + 2
    facts = found.facts(total_macs=4)
    assert [(r["group"], r["macs_percent"]) for r in facts["returned"]] == [("b", 25.0), ("d", 25.0)]


def test_a_budget_that_cannot_be_held() -> None:
    """The best that was seen is kept, with something in INT8, and it is said."""
    costs = {"a": 5.0, "b": 4.0, "c": 3.0}
    found = search([group(n) for n in costs], Additive(costs), reference=90.0, max_drop=0.5)
    assert not found.met and [s.group.name for s in found.returned] == ["a", "b"]
    one = search([group("a")], Additive({"a": 5.0}), reference=90.0, max_drop=0.5)
    assert not one.met and one.returned == ()


def test_returning_what_does_not_help_is_undone() -> None:
    """Where accuracy falls while groups leave INT8, the better state is kept."""
    tops = {frozenset(): 80.0, frozenset("a"): 85.0, frozenset("b"): 84.0, frozenset("c"): 81.0}
    tops[frozenset("ab")] = 83.0

    def score(returned: frozenset[str]) -> Score:
        return Score(tops[returned], 90.0 - tops[returned])

    found = search([group(n) for n in "abc"], score, reference=90.0, max_drop=1.0)
    assert [s.group.name for s in found.returned] == ["a"] and found.after.top1 == 85.0 and not found.met


@given(st.lists(st.floats(0, 4), min_size=2, max_size=8), st.floats(0.01, 5))
def test_laws_of_the_search(costs: list[float], budget: float) -> None:
    """Within the budget if it says so; nothing is out that could be in; at least one group stays INT8."""
    named = {str(i): cost for i, cost in enumerate(costs)}
    found = search([group(n) for n in named], Additive(named), reference=90.0, max_drop=budget)
    assert len(found.returned) < len(costs)
    if found.met:
        assert 90.0 - found.after.top1 <= budget + 1e-6
        out = {s.group.name for s in found.returned}
        for name in out:
            lost = sum(cost for other, cost in named.items() if other not in out - {name})
            assert lost > budget - 1e-6
    assert found.after.top1 >= found.before.top1 - 1e-9


def test_a_layer_that_ruins_everything_hides_the_others() -> None:
    """Beside it no harm can be seen; once it is gone, the others are measured again."""

    def score(returned: frozenset[str]) -> Score:
        if "ruin" not in returned:
            return Score(10.0, 2.0 - 0.01 * ("big" in returned) - 0.001 * ("bad" in returned))
        lost = 3.0 * ("bad" not in returned) + 0.1 * ("big" not in returned)
        return Score(90.0 - lost, lost / 100)

    found = search([group(n) for n in ("big", "bad", "ruin")], score, reference=90.0, max_drop=1.0)
    assert [s.group.name for s in found.returned] == ["ruin", "bad"] and found.met


def test_what_is_not_needed_goes_back() -> None:
    """The most expensive first: two cheap groups together make an expensive one unnecessary."""

    def score(returned: frozenset[str]) -> Score:
        x, y = "x" in returned, "y" in returned
        lost = 4.0 - 1.9 * ("dear" in returned) - 1.0 * x - 0.9 * y - 1.5 * (x and y)
        return Score(90.0 - max(lost, 0), 4 + lost)

    candidates = [group("dear", 100), group("x"), group("y"), group("z")]
    found = search(candidates, score, reference=90.0, max_drop=0.9)
    assert {s.group.name for s in found.returned} == {"x", "y"} and found.met


def test_progress_and_equal_names() -> None:
    """Progress never passes its total; groups of one name are told apart."""
    seen: list[tuple[int, int]] = []
    same = [Group("block", frozenset({n}), (n,), 1) for n in "ab"]
    found = search(
        same,
        Additive({"a": 2.0, "b": 1.0}),
        reference=90.0,
        max_drop=1.5,
        progress=lambda done, total, note: seen.append((done, total)),
    )
    assert list(found.harms) == ["block (a)", "block (b)"]
    assert all(done <= total for done, total in seen) and seen[-1][0] == seen[-1][1]
    assert found.facts(2)["harms"]["block (a)"]["top1"] == 89.0


def test_score_is_accuracy_and_divergence() -> None:
    """KL in nats as SciPy computes it; NaN is wrong everywhere; what does not fit is refused."""
    random = np.random.default_rng(0)
    exact, other = random.standard_normal((2, 50, 7)).astype(np.float32)
    labels = random.integers(0, 7, 50)
    found = score_of(other, labels, exact)
    kl = rel_entr(softmax(exact.astype(float), axis=1), softmax(other.astype(float), axis=1)).sum(axis=1)
    assert found.divergence == pytest.approx(kl.mean())
    assert found.top1 == pytest.approx(100 * (other.argmax(1) == labels).mean())
    assert score_of(exact, labels, exact).divergence == 0
    other[3, 2] = np.nan
    assert score_of(other, labels, exact).top1 == 0
    with pytest.raises(PrecisionError, match="do not fit"):
        score_of(other[:, :5], labels, exact)


def test_a_residual_block_is_one_group(files: Any) -> None:
    """Blocks with a shortcut are pieces; in a plain chain every convolution is; the names say which."""
    model = load_fp32(files.fp32)
    products = [n.name for n in model.graph.node if n.op_type == "Conv"]
    found = groups(model, products)
    assert [g.name for g in found] == [
        "backbone.0",
        "backbone.3.body",
        "backbone.4.body.0",
        "backbone.4.body.3",
        "backbone.5.body",
    ]
    assert [len(g.products) for g in found] == [1, 2, 1, 1, 2]
    assert sorted(p for g in found for p in g.products) == sorted(products)
    nodes = [name for g in found for name in g.nodes]
    assert len(nodes) == len(set(nodes))


def test_a_dense_block_is_split() -> None:
    """Twenty convolutions under one shortcut would be too dear to return together."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["t0"], "first")]
    nodes += [helper.make_node("Conv", [f"t{i}", "w"], [f"t{i + 1}"], f"c{i}") for i in range(20)]
    nodes += [
        helper.make_node("Add", ["t20", "t0"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["y"], "r"),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 8, 8])],
            [numpy_helper.from_array(np.zeros((4, 4, 1, 1), np.float32), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )
    graph.infer_shapes(model)
    found = groups(model, {n.name for n in nodes if n.op_type == "Conv"})
    assert [len(g.products) for g in found] == [1, 7, 7, 6]
    assert found[0].macs == 4 * 8 * 8 * 4


def test_a_broken_layer_is_found(files: Any, tmp_path: Any) -> None:
    """On a real net: weights of 1000 that meet a dead channel are harmless in FP32, and ruin a scale of INT8."""
    model = load_fp32(files.fp32)
    by_weight = {n.input[1]: n for n in model.graph.node if n.op_type == "Conv"}
    before = next(n for name, n in by_weight.items() if name.startswith("backbone.4.body.0"))
    after = next(n for name, n in by_weight.items() if name.startswith("backbone.4.body.3"))
    for name, value in ((before.input[1], 0.0), (before.input[2], 0.0), (after.input[1], 1000.0)):
        tensor = graph.constant(model, name)
        assert tensor is not None
        changed = tensor.copy()
        changed[(slice(None), 0) if value else 0] = value
        graph.set_initializer(model, name, changed)
    graph.save_model(model, tmp_path / "broken.onnx")
    seen = observe_file(tmp_path / "broken.onnx", files.train, histograms=False)
    found = ranges(seen, method="minmax")

    def logits(which: Any) -> Any:
        return OnnxRuntimeEngine(which.SerializeToString(), 1, CPU).infer(files.images[:200])

    exact = logits(model)

    def score(returned: frozenset[str]) -> Score:
        return score_of(logits(quantise_for_tensorrt(model, found, excluded=returned)), labels, exact)

    labels = exact.argmax(axis=1)
    candidates = groups(model, int8_nodes(quantise_for_tensorrt(model, found)))
    outcome = search(candidates, score, reference=100.0, max_drop=5.0)
    assert [s.group.name for s in outcome.returned] == ["backbone.4.body.3"] and outcome.met
    assert outcome.before.top1 < 60 and outcome.after.top1 >= 95
