"""What `store.remote` saves: a second machine runs the demonstration, alone and from a remote of each kind.

    python benchmarks/bench_sharing.py --output benchmarks/results/sharing.json

Each machine is a folder with a store of its own, on this one computer. The remotes are a folder, a real sshd and, where
the packages moto[server] and s3fs are, a server of S3's protocol, all on the loopback: figures of the pipeline
and the protocols, not of a network. The demonstration is the shrunk one of the tests.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a plain checkout

from pipeline.places.environment import cpu_model
from tests.pipeline.conftest import FONTS, TINY, command, environment, sets
from tests.pipeline.devices.sshd import ALIAS, PROGRAM, running_sshd

_MOVED = re.compile(r": ([\d.]+) MB (?:to|from) .*, ([\d.]+) s")


@dataclass(frozen=True)
class Row:
    """One run: what the remote was, and whether its store began empty beside an empty or a full remote."""

    remote: str
    run: str
    seconds: float
    moved_mb: float
    moving_s: float


def main() -> None:
    """Run, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="figkd-sharing-") as name, ExitStack() as servers:
        place = Path(name)
        rows.append(_run(place / "alone", "none", "alone", {}))
        for kind, values in _remotes(place, servers):
            for run in ("first", "second"):
                rows.append(_run(place / f"{kind}-{run}", kind, run, values))
    for row in rows:
        print(
            f"{row.remote:<8} {row.run:<8} {row.seconds:6.1f} s, {row.moved_mb:6.1f} MB in {row.moving_s:.1f} s"
        )
    if chosen.output:
        result = {
            "what": "a second machine runs the shrunk demonstration from a remote, all on one computer",
            "date": datetime.date.today().isoformat(),
            "machine": {"cpu": cpu_model(), "cores": os.cpu_count()},
            "rows": [asdict(row) for row in rows],
        }
        chosen.output.write_text(json.dumps(result, indent=1) + "\n")


def _remotes(place: Path, servers: ExitStack) -> Iterator[tuple[str, dict[str, object]]]:
    (place / "share").mkdir()
    yield "folder", {"store.remote": place / "share"}
    if PROGRAM and shutil.which("sftp"):
        (place / "sshd").mkdir()
        sshd = servers.enter_context(running_sshd(place / "sshd"))
        sshd.stop()
        with (sshd.place / "sshd_config").open("a") as file:
            file.write("Subsystem sftp internal-sftp\n")
        sshd.start()
        yield "ssh", {"store.remote": f"ssh://{ALIAS}{place}/ssh", "store.ssh_config": sshd.config}
    if importlib.util.find_spec("moto") and importlib.util.find_spec("s3fs"):
        servers.enter_context(_s3())
        yield "s3", {"store.remote": "s3://figkd/store"}


@contextmanager
def _s3() -> Iterator[None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            import s3fs

            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.1)
            s3fs.S3FileSystem().mkdir("figkd")
            yield
        finally:
            server.kill()


def _run(folder: Path, remote: str, run: str, values: dict[str, object]) -> Row:
    folder.mkdir()
    paths = environment() | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    started = time.monotonic()
    done = subprocess.run(
        command("run", FONTS, *sets(TINY | values)),
        cwd=folder,
        env=paths,
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - started
    if done.returncode or "WARNING: store.remote" in done.stderr:
        raise SystemExit(f"{remote} {run}: {done.returncode}\n{done.stderr}")
    moved = [(float(size), float(took)) for size, took in _MOVED.findall(done.stderr)]
    return Row(
        remote,
        run,
        round(seconds, 1),
        round(sum(size for size, _ in moved), 1),
        round(sum(took for _, took in moved), 1),
    )


if __name__ == "__main__":
    main()
