"""Without a network, weights come from the cache, or are told to be missing, at once; nothing here is downloaded."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from huggingface_hub import constants

from figkd import hub
from figkd.errors import ModelError
from figkd.hub import cached_if_unreachable
from figkd.models import build_model

RESOLVED: Any = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]


def _no_name(*_: object, **__: object) -> Any:
    raise socket.gaierror(-2, "Name or service not known")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "getproxies", dict)


def test_missing_weights_are_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """With the server, and with what helps; the name is looked up once, and no request is tried again."""
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: asked.append(where) or _no_name())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"not in the cache, and huggingface\.co cannot be reached"
    ) as caught:
        build_model("timm/mobilenetv3_small_100.lamb_in1k", 3, pretrained=True, image_size=64)
    assert len(asked) == 1 and "docs/models.md" in caught.value.fix
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("proxies", [{}, {"https": "http://proxy:3128"}])
def test_the_hub_is_asked_where_it_may_answer(
    proxies: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is known; and behind a proxy, which resolves names itself."""
    monkeypatch.setattr(hub, "getproxies", lambda: proxies)
    monkeypatch.setattr(socket, "getaddrinfo", _no_name if proxies else lambda *_, **__: RESOLVED)
    with cached_if_unreachable() as host:
        assert host == "" and constants.HF_HUB_OFFLINE is False


def test_who_works_offline_on_purpose_goes_on_doing_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with cached_if_unreachable() as host:
        assert host == "" and constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is True
