"""`doctor`: what this machine and its devices have and lack."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from export.terminal import one_line
from pipeline.cli.options import JSON, SET, common, load
from pipeline.core.errors import Exit

if TYPE_CHECKING:
    from pipeline.run.findings import Finding

_MARKS = {"ok": ("ok", "green"), "absent": ("--", "yellow"), "fault": ("!!", "red")}
_FOUND_AT = 29


@click.command()
@click.argument("config_path", metavar="[CONFIG]", type=click.Path(path_type=Path), required=False)
@common(SET, JSON)
def doctor(config_path: Path | None, overrides: tuple[str, ...], as_json: bool) -> int:
    """Check what this machine and the devices of a config have, and what the config needs."""
    from dataclasses import asdict

    from pipeline.core.terminal import print_json
    from pipeline.run.doctor import examine

    findings = examine(load(config_path, overrides) if config_path else None)
    if as_json:
        print_json(json.dumps([asdict(f) for f in findings], indent=1))
    else:
        _print_findings(findings)
    faults = {bool(f.device) for f in findings if f.state == "fault"}
    if not faults:
        return int(Exit.OK)
    return int(Exit.DEVICE if True in faults else Exit.ENVIRONMENT)


def _print_findings(findings: Sequence[Finding]) -> None:
    from pipeline.core.terminal import stdout

    out = stdout()
    for place, group in itertools.groupby(findings, key=lambda finding: finding.device):
        if place:
            out.say("")
            out.say(Text(one_line(place), style="bold"))
        for finding in group:
            mark, colour = _MARKS[finding.state]
            out.say(
                f"{one_line(finding.what):<24} {finding.found}",
                label=f"{mark}  ",
                style=colour,
                hang=_FOUND_AT,
            )
            if finding.state == "ok":
                continue
            if finding.wanted:
                out.say(f"wanted: {finding.wanted}", indent=_FOUND_AT)
            if finding.fix:
                out.say(f"{'fix: ' if finding.state == 'fault' else ''}{finding.fix}", indent=_FOUND_AT)
