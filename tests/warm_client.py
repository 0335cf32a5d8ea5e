"""Ask the process of tests/warm.py for a command, with this one's folder, environment and streams; end as it ends.

python -I -S tests/warm_client.py SOCKET -m MODULE ARGUMENTS...
python -I -S tests/warm_client.py SOCKET -c CODE ARGUMENTS...
"""

import json
import os
import signal
import socket
import sys


def main() -> int:
    address, *words = sys.argv[1:]
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.connect(address)
        said = json.dumps([words, dict(os.environ)]).encode()
        socket.send_fds(asking, [said], [folder, 0, 1, 2])
        answer = asking.recv(20).decode()
    if answer == "no":
        os.execv(sys.executable, [sys.executable, *words])
    if (code := int(answer)) < 0:  # by a signal
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
