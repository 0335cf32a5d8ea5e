"""Ask the process of tests/warm.py for a command, with this one's folder, environment and streams; end as it ends.

python -I -S tests/warm_client.py SOCKET ARGUMENTS...
"""

import json
import os
import socket
import sys


def main() -> int:
    address, *arguments = sys.argv[1:]
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.connect(address)
        said = json.dumps([arguments, dict(os.environ)]).encode()
        socket.send_fds(asking, [said], [folder, 0, 1, 2])
        answer = asking.recv(20).decode()
    if answer == "no":
        os.execv(sys.executable, [sys.executable, "-m", "pipeline.cli", *arguments])
    return int(answer)


if __name__ == "__main__":
    sys.exit(main())
