"""Protects: a text names one artifact, in a registry or in a folder, and never two."""

from __future__ import annotations

import pytest

from export.publish.reference import BadReference, LayoutPath, Reference, parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("registry.example.com/team/photos:1", Reference("registry.example.com", "team/photos", "1", "")),
        ("localhost/photos", Reference("localhost", "photos", "latest", "")),
        ("LOCALHOST:5000/photos", Reference("localhost:5000", "photos", "latest", "")),
        (f"[::1]:5000/a/b@{DIGEST}", Reference("[::1]:5000", "a/b", "latest", DIGEST)),
        (f"ghcr.io/a/b:v1@{DIGEST}", Reference("ghcr.io", "a/b", "v1", DIGEST)),
        ("docker.io/photos", Reference("registry-1.docker.io", "library/photos", "latest", "")),
        ("out", LayoutPath("out", "latest")),
        ("out/photos:2", LayoutPath("out/photos", "2")),
        ("./r.io/photos", LayoutPath("./r.io/photos", "latest")),
        ("/tmp/x:1", LayoutPath("/tmp/x", "1")),
        ("oci:r.io/photos:3", LayoutPath("r.io/photos", "3")),
    ],
)
def test_what_is_read(text: str, expected: Reference | LayoutPath) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "oci:", ":1", "r.io/", "r.io/UPPER", "r.io/a b", "r.io/../x", "r.io//x", "r.io/x:", "r.io/x:a/b",
        "r.io/x@sha256:12", "r.io/x@", "r.io/x@md5:" + "a" * 64, "user@r.io/x", "r.io:port/x", "r.io/" + "a" * 256,
        "https://r.io/x", "r.io/x\n",
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    with pytest.raises(BadReference):
        parse(text)


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.0.0.1:1", True), ("127.9.9.9", True), ("[::1]:5", True), ("127.0.0.1.evil.com", False),
     ("localhost.evil.com", False), ("r.io", False)],
)  # fmt: skip
def test_what_is_this_machine(host: str, here: bool) -> None:
    assert Reference(host, "x", "1", "").loopback is here
