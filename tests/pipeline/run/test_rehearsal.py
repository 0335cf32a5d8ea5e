"""Protects: the graph that is judged before training has the operators of the one that is exported after it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

import onnx
import pytest
from onnx import helper

from pipeline.config import load_config
from pipeline.core.errors import DeviceFault
from pipeline.core.store import Store
from pipeline.devices.known import KnownDevices
from pipeline.run import rehearsal
from pipeline.run.back_ends import Graph
from pipeline.run.planning import plan
from pipeline.run.preflight import preflight
from pipeline.run.rehearsal import graph_of, untrained
from tests.pipeline.conftest import FONTS, Finished
from tests.pipeline.run.test_back_ends import _One, facts_of


def test_random_weights_have_the_operators_of_trained_ones(finished: Finished) -> None:
    """Node by node, in order: what a parser refuses of the one it refuses of the other."""
    everyone = (finished.folder / ".figkd/artifacts/export").glob("*/student.onnx")
    exported = min(everyone, key=lambda path: path.stat().st_mtime_ns)  # other tests add theirs later
    before = untrained(load_config(FONTS, []))
    assert before is not None
    after = graph_of(exported)
    assert Counter(n.op_type for n in before.graph.node) == Counter(n.op_type for n in after.graph.node)
    assert before.opset_import[0].version == after.opset_import[0].version


def test_what_cannot_be_built_is_left_to_who_says_why() -> None:
    """The check of the networks has the message."""
    config = load_config(FONTS, [])
    student = config.student.model_copy(update={"model": "timm/no_such_net"})
    assert untrained(config.model_copy(update={"student": student})) is None


def test_the_graph_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several targets, and threads, share it."""
    made = []
    monkeypatch.setattr("pipeline.run.rehearsal.untrained", lambda config: made.append(1))
    graph = rehearsal.student(load_config(FONTS, []))
    assert graph() is graph() is None and made == [1]


def test_a_network_that_the_library_cannot_read_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after hours of it; nothing is exported for a back end whose operators nobody documents."""
    strange = helper.make_model(
        helper.make_graph([helper.make_node("Det", ["x"], ["y"], "odd")], "g", [], []),
        opset_imports=[helper.make_opsetid("", 20)],
    )
    asked = []

    def made(config: Any) -> Graph:
        def graph() -> onnx.ModelProto:
            asked.append(1)
            return strange

        return graph

    monkeypatch.setattr("pipeline.run.preflight.student", made)
    keys = [
        f"store={tmp_path}", "targets={orin: {engine: tensorrt, device: 'ssh://orin'}}", "budgets.engine_mb=null",
    ]  # fmt: skip
    config = load_config(FONTS, keys)
    for jetpack, refused in (("7.2 Orin", False), ("6.2", True)):
        known = cast(KnownDevices, _One(facts_of(jetpack, "python")))
        planned = plan(config, Store(config.store.folder), known=known)
        if refused:
            with pytest.raises(
                DeviceFault, match=r"operator Det at node odd is not supported by TensorRT 10\.3"
            ):
                preflight(config, planned, lambda text: None, known)
        else:
            preflight(config, planned, lambda text: None, known)
            assert not asked
