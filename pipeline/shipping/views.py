"""What is installed on a device, as lines to read."""

from __future__ import annotations

from export.terminal import one_line
from pipeline.shipping.drift import ENOUGH, drift
from pipeline.shipping.messages import Outputs, Release, Status


def status_lines(device: str, found: Status) -> list[str]:
    """A device's releases, the newest first."""
    serves = found.serves[:12] if found.serves else "nothing"
    lines = [f"{device}: {serves} serves; {found.bytes / 1e6:.1f} MB in {one_line(found.root)}"]
    if found.trial:
        lines.append(f"  {found.trial[:12]}  on trial")
    for one in reversed(found.releases):
        lines.append(
            f"  {one.id[:12]}  {_role(found, one):<11}  {one_line(one.name)} {one_line(one.channel)}, "
            f"sequence {one.sequence}"
        )
    lines += [f"  {id[:12]}  failed       {one_line(why)}" for id, why in found.failed.items()]
    for runtime in found.runtimes:
        p99 = "" if runtime.p99_ms is None else f", p99 {runtime.p99_ms:.3g} ms"
        lines.append(
            f"  {one_line(runtime.name)} serves {one_line(runtime.release[:12]) or 'nothing'}: "
            f"{runtime.requests} requests, {runtime.errors} errors{p99}"
        )
    if found.outputs:
        lines += _answers(found.outputs)
    return lines


def _answers(found: Outputs) -> list[str]:
    """What was counted of a device's answers, against the reference of its bundle."""
    counted = found.counted.counts
    head = f"  answers in {found.days} days: {counted.images} images"
    if found.reference is None:
        return [f"{head}; the bundle has no reference"]
    seen = drift(found.reference.counts, counted)
    if seen.confidence is None or seen.classes is None:
        return [f"{head}, too few to compare ({ENOUGH} are needed on each side)"]
    lines = [f"{head}, {'NOT as' if seen.is_alarm else 'as'} on validation images"]
    for name, one in (("confidence", seen.confidence), ("classes", seen.classes)):
        mark = "  differs" if one.is_alarm else ""
        lines.append(f"    {name:<11} {100 * one.moved:.1f} % moved, p {one.p:.2g}{mark}")
    return lines


def _role(found: Status, release: Release) -> str:
    if release.id == found.active:
        return "serves" if found.serves == release.id else "active"
    if release.withdrawn:
        return "rolled back"
    if release.id == found.previous:
        return "previous"
    return "kept" if release.here else "removed"
