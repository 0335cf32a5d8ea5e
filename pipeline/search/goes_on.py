"""Which trials a search may still go on with: what these began stays in the store."""

from __future__ import annotations

import re

from pipeline.core.errors import PipelineError
from pipeline.core.store import Store
from pipeline.results.rows.trials import read_trial
from pipeline.search.study import name_of_trial

_STUDY = re.compile(r"(?P<name>.+)-[0-9a-f]{12}", re.DOTALL)


def trials_in(store: Store) -> dict[str, bool]:
    """For each trial's config in a store: whether a search may go on with it.

    Others were promoted over a paused trial, and a failed or finished one has come to its end. Searches of the same
    name share the names of their configs: one that goes on is enough. What cannot be read counts as going on.
    """
    found: dict[str, bool] = {}
    for path in (store.root / "searches").glob("*/trials/*.json"):
        ours = _STUDY.fullmatch(path.parent.parent.name)
        if not ours or not path.stem.isdecimal():
            continue
        try:
            trial = read_trial(path.parent, int(path.stem))
            goes_on = trial is not None and trial.state == "proposed"
        except PipelineError:
            goes_on = True
        name = name_of_trial(ours["name"], int(path.stem))
        found[name] = found.get(name, False) or goes_on
    return found
