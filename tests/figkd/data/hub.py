"""A stand-in for the Hugging Face hub on this machine, from its documented API; for tests only."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What it serves, and what it was asked: (method, path)."""

    def __init__(self, name: str, files: Mapping[str, bytes]) -> None:
        self.name, self.files = name, files
        self.asked: list[tuple[str, str]] = []
        self.port = 0

    @property
    def endpoint(self) -> str:
        """For `HF_ENDPOINT`."""
        return f"http://127.0.0.1:{self.port}"

    def downloads(self) -> list[str]:
        """Files whose content was sent, sorted."""
        start = f"/datasets/{self.name}/resolve/"
        paths = {path for method, path in self.asked if method == "GET" and path.startswith(start)}
        return sorted(path[len(start) :].partition("/")[2] for path in paths)

    def about(self) -> dict[str, object]:
        """The answer of /api/datasets/NAME."""
        return {
            "_id": "1", "id": self.name, "author": self.name.partition("/")[0], "sha": COMMIT, "private": False,
            "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0, "cardData": {},
            "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": name} for name in self.files],
        }  # fmt: skip

    def below(self, folder: str, recursive: bool) -> list[dict[str, object]]:
        """The answer of /api/datasets/NAME/tree/COMMIT/folder."""
        inside = {n: c for n, c in self.files.items() if not folder or n.startswith(folder + "/")}
        start = len(folder) + 1 if folder else 0
        found = [self.entry(name) for name in inside if recursive or "/" not in name[start:]]
        folders = {name[: start + name[start:].index("/")] for name in inside if "/" in name[start:]}
        return [
            *found,
            *({"type": "directory", "oid": "0", "size": 0, "path": each} for each in sorted(folders)),
        ]

    def entry(self, name: str) -> dict[str, object]:
        """A file, as a tree lists it."""
        content = self.files[name]
        return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": name}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub on a port of the loopback interface within the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def _send(self, content: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            address = urlsplit(self.path)
            path, query = unquote(address.path), parse_qs(address.query)
            hub.asked.append((self.command, path))
            api, files = f"/api/datasets/{hub.name}", f"/datasets/{hub.name}/resolve/"
            if path in (api, f"{api}/revision/{COMMIT}"):
                return self._json(hub.about())
            if path.startswith(f"{api}/tree/{COMMIT}"):
                folder = path[len(f"{api}/tree/{COMMIT}") :].strip("/")
                recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
                found = hub.below(folder, recursive)
                return self._json(found) if found or not folder else self._missing("EntryNotFound")
            if path == f"{api}/paths-info/{COMMIT}":
                given = parse_qs(body.decode())
                paths = given.get("paths") or json.loads(body or b"{}").get("paths", [])
                return self._json([hub.entry(name) for name in paths if name in hub.files])
            if path.startswith(files):
                revision, _, name = path[len(files) :].partition("/")
                if revision == COMMIT and name in hub.files:
                    tag = f'"{hub.entry(name)["oid"]}"'
                    return self._send(hub.files[name], ETag=tag, X_Repo_Commit=COMMIT, Accept_Ranges="bytes")
                return self._missing("EntryNotFound" if revision == COMMIT else "RevisionNotFound")
            return self._missing("RevisionNotFound" if path.startswith(api + "/revision") else "RepoNotFound")

        def _json(self, value: object) -> None:
            self._send(json.dumps(value).encode(), Content_Type="application/json", X_Repo_Commit=COMMIT)

        def _missing(self, code: str) -> None:
            self._send(b'{"error": "not found"}', 404, X_Error_Code=code, X_Error_Message="not found")

        do_GET = do_HEAD = do_POST = _answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
