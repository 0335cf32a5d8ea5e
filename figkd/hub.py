"""Published weights where there is no network: out of the hub library's cache at once, not after rounds of retries."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies


@contextmanager
def cached_if_unreachable() -> Iterator[str]:
    """Within, `huggingface_hub` asks nobody and takes what its cache has, if its server's name cannot be resolved.

    Gives the name of the server if so, else ''. Behind a proxy nothing is concluded, since the proxy resolves names.
    """
    try:
        from huggingface_hub import constants
    except ImportError:
        yield ""
        return
    server = urlsplit(constants.ENDPOINT)
    host = server.hostname or ""
    if constants.HF_HUB_OFFLINE or getproxies() or _resolved(host, server.port or 443):
        yield ""
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield host
    finally:
        constants.HF_HUB_OFFLINE = False


def _resolved(host: str, port: int) -> bool:
    try:
        return bool(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return False
