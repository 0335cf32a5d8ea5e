"""What is installed on a device, as lines to read."""

from __future__ import annotations

from export.terminal import one_line
from pipeline.shipping.messages import Release, Status


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
    return lines


def _role(found: Status, release: Release) -> str:
    if release.id == found.active:
        return "serves" if found.serves == release.id else "active"
    if release.withdrawn:
        return "rolled back"
    if release.id == found.previous:
        return "previous"
    return "kept" if release.here else "removed"
