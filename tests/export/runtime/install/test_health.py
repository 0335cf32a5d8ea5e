"""A release is committed only if whoever served takes it up and it answers well; the device judges that alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from export.runtime.install.errors import TakenBack
from export.runtime.install.health import Heartbeat, Rules, beat, fault, heartbeats, watcher
from export.runtime.install.recovery import recover
from export.runtime.install.site import Machine, Site
from tests.export.runtime.install.made import fine, site_at

NEW, OLD = "b" * 64, "a" * 64
WELL = Heartbeat("serve", NEW, "one", 5.0, 1000, 0, 2.0)
RULES = Rules(window_s=30, most_p99_ms=10.0)


@pytest.mark.parametrize(
    ("beats", "elapsed", "reason"),
    [
        ([WELL], 1, ""),
        ([WELL], 100, ""),
        ([replace(WELL, errors=11)], 1, "11 of 1000 requests failed in serve"),
        ([replace(WELL, errors=10)], 1, ""),
        ([replace(WELL, requests=49, errors=49)], 1, ""),
        (
            [replace(WELL, p99_ms=10.5)],
            1,
            "the 99th percentile of latency is 10.5 ms in serve, and 10 are allowed",
        ),
        ([replace(WELL, p99_ms=None)], 1, ""),
        ([replace(WELL, release=OLD)], 19, ""),
        ([replace(WELL, release=OLD)], 21, "serve did not take it up within 20 s"),
        ([replace(WELL, release=OLD, errors=500)], 1, ""),
        (
            [replace(WELL, release=OLD, refused=NEW, reason="no such GPU")],
            1,
            "serve could not load it: no such GPU",
        ),
        ([replace(WELL, release=NEW, refused=OLD)], 1, ""),
        ([], 4, ""),
        ([], 6, "serve gave no sign of life for 5 s"),
        ([replace(WELL, name="other")], 6, "serve gave no sign of life for 5 s"),
        ([WELL, replace(WELL, name="other", errors=500)], 1, "500 of 1000 requests failed in other"),
    ],
)
def test_what_is_wrong(beats: list[Heartbeat], elapsed: float, reason: str) -> None:
    assert fault(RULES, NEW, ["serve"], beats, elapsed) == reason


def _watched(
    tmp_path: Path, each_poll: Callable[[float], Heartbeat | None], rules: Rules = RULES
) -> tuple[list[str], float]:
    """Watch with a clock that only moves while it is waited; what was said, and for how long."""
    now = [5.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        found = each_poll(now[0] - 5.0)
        if found:
            beat(str(tmp_path / "root"), replace(found, at=now[0]))

    plain = site_at(tmp_path / "root")
    site = Site(plain.root, plain.disk, plain.verify, Machine("one", lambda: now[0], sleep))
    recover(site)
    first = each_poll(0.0)
    if first:
        beat(site.root, first)
    said: list[str] = []
    try:
        watcher(site, rules, fine, said.append)(NEW)
    except TakenBack as error:
        said.append(error.what)
    return said, now[0] - 5.0


def test_a_runtime_that_serves_well_is_watched_for_the_whole_window(tmp_path: Path) -> None:
    said, seconds = _watched(tmp_path, lambda at: replace(WELL, release=OLD if at < 3 else NEW))
    assert said == ["watched for 30 s in serve"] and 30 <= seconds < 31


def test_a_short_window_waits_until_everybody_serves_the_new_release(tmp_path: Path) -> None:
    _, seconds = _watched(
        tmp_path, lambda at: replace(WELL, release=OLD if at < 9 else NEW), Rules(window_s=1)
    )
    assert 9 <= seconds < 10


def test_a_failing_release_is_found_at_the_next_poll(tmp_path: Path) -> None:
    said, seconds = _watched(tmp_path, lambda at: replace(WELL, errors=500 if at >= 7 else 0))
    assert said[-1].startswith("500 of 1000") and 7 <= seconds < 7.5


def test_a_runtime_that_dies_is_found(tmp_path: Path) -> None:
    said, seconds = _watched(tmp_path, lambda at: WELL if at < 8 else None)
    assert said[-1] == "serve gave no sign of life for 5 s" and 12 < seconds < 14


def test_where_nothing_serves_nothing_is_waited_for(tmp_path: Path) -> None:
    said, seconds = _watched(tmp_path, lambda at: None)
    assert said == ["nothing serves here: the self-test alone decides"] and seconds == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b"[" * 5000, b'{"release":1}', b"x" * 20_000, b'{"at":1e999999}', None],
)
def test_a_heartbeat_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    site = site_at(tmp_path / "root")
    recover(site)
    path = tmp_path / "root/health/x.json"
    path.mkdir() if content is None else path.write_bytes(content)
    assert heartbeats(site, 5.0) == []


def test_heartbeats_of_another_boot_or_too_old_do_not_count(tmp_path: Path) -> None:
    site = site_at(tmp_path / "root")
    recover(site)
    beat(site.root, replace(WELL, name="a"))
    beat(site.root, replace(WELL, name="b", boot_id="zero"))
    beat(site.root, replace(WELL, name="c", at=-1.0))
    assert [one.name for one in heartbeats(site, 5.0)] == ["a"]
