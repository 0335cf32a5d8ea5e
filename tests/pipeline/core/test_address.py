"""Addresses, and the commands that follow from them: what a config says never becomes shell."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pipeline.core.address import PASSWORD, URL, Device
from pipeline.devices.archive import agent_archive, remote_command


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://orin", ["orin"]),
        ("ssh://orin/", ["orin"]),
        ("ssh://me@10.0.0.7:2222", ["-p", "2222", "-l", "me", "10.0.0.7"]),
        ("ssh://[fe80::1%eth0]:22", ["-p", "22", "fe80::1%eth0"]),
    ],
)
def test_addresses(url: str, words: list[str]) -> None:
    """User, host and port are words of their own for ssh."""
    command = Device(url).command("true")
    assert command[-len(words) - 2 :] == [*words, "--", "true"]
    assert "BatchMode=yes" in command and "StrictHostKeyChecking=yes" in command


@pytest.mark.parametrize(
    "url",
    [
        "ssh://-oProxyCommand=x",
        "ssh://a b",
        "ssh://a;b",
        "ssh://$(x)",
        "ssh://a@-b",
        "orin",
        "ssh://",
        "ssh://a:b@c",
    ],
)
def test_what_is_no_address(url: str) -> None:
    """An option in a host's clothes among them."""
    assert not URL.match(url)


def test_a_password_is_noticed() -> None:
    assert PASSWORD.match("ssh://me:secret@orin") and not PASSWORD.match("ssh://me@orin:22")


def test_the_place_of_python_is_one_word() -> None:
    """Whatever is in it; only a leading ~/ is the shell's."""
    for python in ("/opt/my python/bin/python3", "x; rm -rf /", "$(id)"):
        assert shlex.split(remote_command(Device("ssh://orin", python=python)))[1] == python
    home = Device("ssh://orin", python="~/my venv/bin/python").python_word()
    assert home == "~/'my venv/bin/python'"


def test_an_ssh_config_is_named() -> None:
    assert Device("ssh://orin", ssh_config=Path("a b")).by_hand == "ssh -F 'a b' orin"


def test_the_archive_is_the_same_bytes_every_time() -> None:
    """Its digest is its name on the device: the same sources are sent once."""
    first = agent_archive()
    agent_archive.cache_clear()
    assert agent_archive().content == first.content and len(first.digest) == 64
