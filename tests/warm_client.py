"""Ask the process of tests/warm.py for a command, with this one's folder, environment and streams; end as it ends.

python -I -S tests/warm_client.py SOCKET -m MODULE ARGUMENTS...
python -I -S tests/warm_client.py SOCKET -c CODE ARGUMENTS...
"""

import json
import os
import signal
import socket
import sys

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    address, *words = sys.argv[1:]
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    ignored = [number for number in ENDING if signal.getsignal(number) == signal.SIG_IGN]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.connect(address)
        said = json.dumps([words, dict(os.environ), ignored]).encode()
        socket.send_fds(asking, [said], [folder, 0, 1, 2])
        answer = asking.recv(20).decode()
        if answer == "no":
            os.execv(sys.executable, [sys.executable, *words])
        command = int(answer)
        for number in set(ENDING).difference(ignored):
            signal.signal(number, lambda number, _: os.kill(command, number))
        code = int(asking.recv(20))
    if code < 0:  # by a signal
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
