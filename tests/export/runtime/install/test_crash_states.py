"""A power cut at any moment leaves a verified model that was proven; each sync that matters is missed if left out.

Over the install code's own changes, on a model of a disk that loses whatever fsync(2) does not promise.
"""

from __future__ import annotations

import pytest

from export.runtime.install.primitive import rollback
from tests.export.runtime.install.crash_states import STORY, A, Act, B, Checker, install_act

SHORT = (install_act(A), install_act(B))
SYNCED = (install_act(A), install_act(B), Act("rollback", rollback, A))
_TREE = 8
"""Syncs of one release: three files, a signature, three folders, and the folder of all releases."""
REDUNDANT = {
    3: "content of the first state: nothing was installed yet that could be lost",
    4: "its name: likewise",
    5 + _TREE: "content of the first trial's state: nothing was committed yet",
    6 + _TREE: "the name of a trial's state: a link that is ahead of the state is set back by it",
    6 + _TREE + 2 + _TREE + 2: "the same for the second release",
}


def _numbers() -> list[int]:
    checker = Checker(most=1, nested=0)
    checker.play(SYNCED)
    return list(range(len(checker.disk.syncs)))


def test_a_power_cut_leaves_a_verified_model() -> None:
    checker = Checker(most=3, nested=0)
    checker.play(SHORT)
    assert not checker.problems, checker.problems[:5]
    assert checker.states > 500


@pytest.mark.slow
def test_ten_thousand_crash_states_leave_a_verified_model() -> None:
    checker = Checker(most=30, nested=5)
    checker.play(STORY)
    assert not checker.problems, checker.problems[:5]
    assert checker.states >= 10_000


@pytest.mark.slow
def test_each_sync_that_is_left_out_is_missed() -> None:
    """Or it is one of those whose loss is shown to harm nothing, with the reason."""
    found = {}
    for number in _numbers():
        checker = Checker(most=16, nested=0, left_out=number)
        checker.play(SYNCED, stop_at_first=True)
        if not checker.problems:
            found[number] = checker.disk.syncs[number]
    assert set(found) == set(REDUNDANT), found


def test_the_checker_misses_a_sync_of_a_file_of_the_bundle() -> None:
    """The harness sees what it is there to see: the first file of a release, not synced."""
    checker = Checker(most=8, nested=0, left_out=5)
    checker.play(SYNCED[:1])
    assert checker.disk.syncs[5].endswith("staging/next/bundle/engine/e")
    assert any("damaged" in problem for problem in checker.problems)
