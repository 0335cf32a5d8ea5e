"""Protects: what comes from a registry is what was pushed and signed, or nothing is written.

A registry answers here as an attacker's would. Tries with a real one: `test_docker_registry.py`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.bundle.keys import new_key, sign
from export.bundle.signing import sign_bundle
from export.publish.docker_auth import Login, LoginFault
from export.publish.folder import InTheWay
from export.publish.layout import Layout
from export.publish.modelpack import artifact_of, digest_of
from export.publish.reference import LayoutPath, Reference
from export.publish.registry import Registry, RegistryFault
from export.publish.registry_login import Authority
from export.publish.source import Source, open_source
from export.publish.transfer import pull, push
from export.runtime.bundle import UNSIGNED, BundleRefused, Trust, ecdsa
from export.runtime.bundle.trust import Key
from tests.export.bundle.tiny import bundle
from tests.export.publish.hostile import Answer, Asked, Rule, serving

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl program here")
LOGIN = Login("me", "secret")
SENT = "Basic " + base64.b64encode(b"me:secret").decode()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_source(bundle(tmp_path_factory.mktemp("bundle")), UNSIGNED)


def _registry(host: str, login: Login | None = None, **options: Any) -> Registry:
    reference = Reference(host, "team/tiny", "1", "")
    options = {"timeout": 5, "wait": lambda seconds: None, **options}
    return Registry(reference, Authority(login, loopback=True), **options)


def _store(source: Source) -> dict[str, bytes]:
    """What a registry that holds the bundle answers, by the end of the path."""
    artifact = artifact_of(source)
    blobs = {
        f"blobs/{blob.digest}": content if isinstance(content, bytes) else source.bundle.read(content)
        for blob, content in artifact.blobs.items()
    }
    return {"manifests/1": artifact.manifest, **blobs}


def _honest(store: dict[str, bytes]) -> Rule:
    def rule(asked: Asked) -> Answer:
        data = store.get(asked.path.removeprefix("/v2/team/tiny/"))
        return Answer(404) if data is None else Answer(200, data)

    return rule


def _refused(rule: Rule, tmp_path: Path, match: str, kind: type[Exception] = BundleRefused) -> None:
    out = tmp_path / "out"
    with serving(rule) as (host, _), pytest.raises(kind, match=match):
        pull(_registry(host), out, UNSIGNED)
    assert not out.exists() or os.listdir(out) == []


def test_an_honest_registry_gives_the_bundle(source: Source, tmp_path: Path) -> None:
    with serving(_honest(_store(source))) as (host, asked):
        found = pull(_registry(host), tmp_path / "out", UNSIGNED)
        assert found.manifest.data == source.manifest.data
        fetched = len(asked)
        assert pull(_registry(host), tmp_path / "out", UNSIGNED).folder == found.folder
        assert len(asked) == fetched + 2  # the two manifests: the rest is there
        (tmp_path / "out" / Path(found.folder).name / "labels.json").write_text("[]")
        with pytest.raises(InTheWay):
            pull(_registry(host), tmp_path / "out", UNSIGNED)


def _changed(source: Source, change: Callable[[dict[str, Any]], None]) -> dict[str, bytes]:
    store = _store(source)
    manifest = json.loads(store["manifests/1"])
    change(manifest)
    return store | {"manifests/1": json.dumps(manifest).encode()}


def _path(path: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["layers"][-1]["annotations"]["org.cncf.model.filepath"] = path

    return change


@pytest.mark.parametrize(
    "path",
    ["../evil", "/etc/evil", "tiny/../../evil", "tiny/a/../b", "tiny/.git/x", "tiny//x", "tiny/", "", None, 7, ["a"],
     "tiny/con", "x\x00y/z", "tiny", "a.12345678.sig/x/y/..", "other/labels.json"],
)  # fmt: skip
def test_paths_that_leave_the_folder_are_refused(source: Source, tmp_path: Path, path: Any) -> None:
    _refused(_honest(_changed(source, _path(path))), tmp_path, "registry")


def _broken(manifest: dict[str, Any], how: str) -> None:
    last = manifest["layers"][-1]
    if how == "twice":
        manifest["layers"].append(last)
    elif how == "missing":
        manifest["layers"].pop()
    elif how == "kind":
        manifest["artifactType"] = "application/x"
    elif how == "no layers":
        del manifest["layers"]
    elif how == "digest":
        last["digest"] = "sha256:12"
    elif how == "size":
        last["size"] = -1
    elif how == "huge":
        last["size"] = 1 << 50
    elif how == "text":
        last["size"] = "12"
    elif how == "many":
        manifest["layers"] = [last] * 5000
    elif how == "swapped":
        last["digest"] = manifest["layers"][0]["digest"]
        last["size"] = manifest["layers"][0]["size"]
    elif how == "no manifest":
        manifest["layers"].pop(0)


@pytest.mark.parametrize(
    "how",
    [
        "twice",
        "missing",
        "kind",
        "no layers",
        "digest",
        "size",
        "huge",
        "text",
        "many",
        "swapped",
        "no manifest",
    ],
)
def test_manifests_that_describe_no_bundle_are_refused(source: Source, tmp_path: Path, how: str) -> None:
    store = _changed(source, lambda manifest: _broken(manifest, how))
    _refused(_honest(store), tmp_path, "registry|model|file")


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 5000, b'{"layers": 1}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, body: bytes) -> None:
    _refused(lambda asked: Answer(200, body), tmp_path, "registry")


@pytest.mark.parametrize("which", ["engine/fp32.onnx", "manifest.json", "labels.json"])
@pytest.mark.parametrize("how", ["other", "short", "long", "endless", "cut"])
def test_blobs_that_are_others_are_refused(source: Source, tmp_path: Path, which: str, how: str) -> None:
    store = _store(source)
    data = source.bundle.read(which)
    key = f"blobs/{digest_of(data)}"
    honest = _honest(store)

    def rule(asked: Asked) -> Answer:
        if not asked.path.endswith(key):
            return honest(asked)
        return {
            "other": Answer(200, data[:-1] + bytes([data[-1] ^ 1])),
            "short": Answer(200, data[:-1]),
            "long": Answer(200, data + b"x"),
            "endless": Answer(200, b"x" * 65536, endless=True),
            "cut": Answer(200, data[:-1], length=len(data)),
        }[how]

    if how == "cut":
        _refused(rule, tmp_path, "stops in the middle|fewer", Exception)
    else:
        _refused(rule, tmp_path, "blob")


def test_a_manifest_without_an_end_is_refused(tmp_path: Path) -> None:
    _refused(lambda asked: Answer(200, b"x" * 65536, endless=True), tmp_path, "more than 4,194,304 bytes")


def test_a_digest_is_held_to(source: Source, tmp_path: Path) -> None:
    answer = Answer(200, artifact_of(source).manifest)
    with serving(lambda asked: answer) as (host, _), pytest.raises(BundleRefused, match="digest differs"):
        pull(_registry(host), tmp_path, UNSIGNED, "sha256:" + "0" * 64)


@needs_openssl
def test_signatures_travel_and_nothing_large_is_fetched_without_them(tmp_path: Path) -> None:
    made = bundle(tmp_path / "made")
    public = new_key(tmp_path / "key.pem", None)
    trust = Trust(1, 1, {ecdsa.key_id(public): Key(public)})
    unsigned = _store(open_source(made, UNSIGNED))
    with (
        serving(_honest(unsigned)) as (host, asked),
        pytest.raises(BundleRefused, match="0 of the 1 signatures"),
    ):
        pull(_registry(host), tmp_path / "no", trust)
    assert (len(asked), (tmp_path / "no").exists()) == (2, False)  # its two manifests
    signature = sign_bundle(made, public, lambda message: sign(tmp_path / "key.pem", None, message))
    with serving(_honest(_store(open_source(made, trust)))) as (host, _):
        found = pull(_registry(host), tmp_path / "out", trust)
    assert found.signers == (ecdsa.key_id(public),)
    assert (tmp_path / "out" / signature.name).read_bytes() == signature.read_bytes()


def _elsewhere(source: Source, other: str, **changes: Any) -> Rule:
    honest = _honest(_store(source))

    def rule(asked: Asked) -> Answer:
        if asked.headers.get("Authorization") != SENT:
            return Answer(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        if "/blobs/" in asked.path:
            return Answer(307, headers={"Location": f"http://{other}{asked.path}", **changes})
        return honest(asked)

    return rule


def test_who_is_logged_in_is_not_said_elsewhere(source: Source, tmp_path: Path) -> None:
    """Registries redirect blobs to stores of others, who must not learn the login; nor may they ask for it."""
    with serving(_honest(_store(source))) as (other, there):
        with serving(_elsewhere(source, other)) as (host, asked):
            pull(_registry(host, LOGIN), tmp_path / "out", UNSIGNED)
            assert asked[-1].headers["Authorization"] == SENT
        assert there
        assert not any("Authorization" in one.headers for one in there)
    asks = Answer(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
    with serving(lambda asked: asks) as (other, there), serving(_elsewhere(source, other)) as (host, _):
        with pytest.raises(RegistryFault):
            pull(_registry(host, LOGIN), tmp_path / "again", UNSIGNED)
        assert not any("Authorization" in one.headers for one in there)


@pytest.mark.parametrize("location", ["", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://a:b@127.0.0.1/"])
def test_redirects_to_what_is_no_web_address_are_refused(tmp_path: Path, location: str) -> None:
    _refused(lambda asked: Answer(307, headers={"Location": location}), tmp_path, "sends to", RegistryFault)


def test_redirects_end(tmp_path: Path) -> None:
    _refused(lambda asked: Answer(307, headers={"Location": asked.path}), tmp_path, "for ever", RegistryFault)


def test_a_token_is_fetched_and_used(source: Source, tmp_path: Path) -> None:
    honest = _honest(_store(source))

    def rule(asked: Asked) -> Answer:
        if asked.path.startswith("/token"):
            assert asked.headers["Authorization"] == SENT
            return Answer(200, b'{"token": "t0k"}')
        if asked.headers.get("Authorization") != "Bearer t0k":
            host = asked.headers["Host"]
            realm = f'Bearer realm="http://{host}/token",service="s",scope="x"'
            return Answer(401, headers={"WWW-Authenticate": realm})
        return honest(asked)

    with serving(rule) as (host, asked):
        pull(_registry(host, LOGIN), tmp_path, UNSIGNED)
        tokens = [one.path for one in asked if one.path.startswith("/token")]
    assert tokens == ["/token?service=s&scope=repository%3Ateam%2Ftiny%3Apull"]


@pytest.mark.parametrize(
    ("challenge", "token"),
    [
        ('Bearer realm="http://evil.example/token"', b"{}"),
        ('Bearer realm="file:///etc/passwd"', b"{}"),
        ("Digest realm=x", b"{}"),
        ("", b"{}"),
        ('Bearer realm="HERE/token"', b"[]"),
        ('Bearer realm="HERE/token"', b'{"token": "a b\\r\\nX: y"}'),
        ('Bearer realm="HERE/token"', b'{"token": 7}'),
    ],
)
def test_logins_that_are_no_logins_are_refused(tmp_path: Path, challenge: str, token: bytes) -> None:
    """Also: a password goes to nobody without TLS."""

    def rule(asked: Asked) -> Answer:
        if asked.path.startswith("/token"):
            return Answer(200, token)
        said = challenge.replace("HERE", f"http://{asked.headers['Host']}")
        return Answer(401, headers={"WWW-Authenticate": said} if said else {})

    with serving(rule) as (host, _), pytest.raises(LoginFault):
        pull(_registry(host, LOGIN), tmp_path, UNSIGNED)


def test_a_busy_registry_is_asked_again(source: Source, tmp_path: Path) -> None:
    honest, waits = _honest(_store(source)), []
    answers = iter([Answer(503, headers={"Retry-After": "7"}), Answer(429)])
    with serving(lambda asked: next(answers, None) or honest(asked)) as (host, _):
        pull(_registry(host, wait=waits.append), tmp_path, UNSIGNED)
    assert waits == [7.0, 2.0]
    said = Answer(500, b'{"errors": [{"message": "bad \\u001b[31m day"}]}')
    wanted = r"answers 500 for team/tiny: 'bad \\x1b\[31m day'"
    with serving(lambda asked: said) as (host, _), pytest.raises(RegistryFault, match=wanted):
        pull(_registry(host, wait=waits.append), tmp_path, UNSIGNED)


def test_who_is_not_there_is_said() -> None:
    with (
        serving(lambda asked: Answer(404)) as (host, _),
        pytest.raises(RegistryFault, match=f"there is no {host}"),
    ):
        _registry(host).manifest()
    with pytest.raises(RegistryFault, match="cannot be reached"):
        _registry(host).manifest()


def test_a_wrong_password_is_said(source: Source) -> None:
    no = Answer(401, b'{"errors": [{"code": "UNAUTHORIZED"}]}', {"WWW-Authenticate": "Basic realm=x"})
    with (
        serving(lambda asked: no) as (host, _),
        pytest.raises(RegistryFault, match="not let the user 'me' do that"),
    ):
        push(source, _registry(host, LOGIN))
    with serving(lambda asked: no) as (host, _), pytest.raises(LoginFault, match="wants a login"):
        push(source, _registry(host))


def test_an_upload_elsewhere_says_no_login(source: Source) -> None:
    with serving(lambda asked: Answer(201)) as (other, there):

        def rule(asked: Asked) -> Answer:
            if asked.headers.get("Authorization") != SENT:
                return Answer(401, headers={"WWW-Authenticate": "Basic"})
            if asked.method == "POST":
                return Answer(202, headers={"Location": f"http://{other}/up?x=1"})
            return Answer(404 if asked.method == "HEAD" else 201)

        with serving(rule) as (host, _):
            done = push(source, _registry(host, LOGIN))
    assert (done.present, done.uploaded) == (0, len(there))
    assert there[0].path.startswith("/up?x=1&digest=sha256%3A")
    assert not any("Authorization" in one.headers for one in there)


def test_a_layout_keeps_what_it_holds(source: Source, tmp_path: Path) -> None:
    for tag in ("1", "2", "1"):
        layout = Layout(LayoutPath(str(tmp_path / "layout"), tag))
        layout.prepare()
        done = push(source, layout)
        assert (done.uploaded == 0) is not (done.present == 0)
    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    assert [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]] == [
        "2",
        "1",
    ]
    found = pull(layout, tmp_path / "out", UNSIGNED)
    assert found.manifest.data == source.manifest.data
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    for place in ("mine", "mine/file"):
        with pytest.raises(InTheWay):
            Layout(LayoutPath(str(tmp_path / place), "1")).prepare()


@pytest.mark.parametrize(
    "index", [b"", b"[]", b'{"manifests": [7]}', b'{"manifests": [{"digest": "sha256:../../x", "size": 1}]}']
)
def test_a_layout_that_is_none_is_refused(source: Source, tmp_path: Path, index: bytes) -> None:
    layout = Layout(LayoutPath(str(tmp_path), "1"))
    layout.prepare()
    (tmp_path / "index.json").write_bytes(index)
    with pytest.raises(BundleRefused, match="index"):
        pull(layout, tmp_path / "out", UNSIGNED)
