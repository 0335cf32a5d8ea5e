# Sent as text and run by the device's Python, whichever that is: it must parse as Python 2.7 too, to be able to say
# that it is too old. `order` is given: the arguments of `main`.
# It receives the archive if it is not there yet, and becomes the agent.
import errno
import hashlib
import json
import os
import sys
import tempfile


def say(**message):  # type: (object) -> None
    os.write(1, ("figkd-agent " + json.dumps(message) + "\n").encode("ascii"))


def place(wanted):  # type: (str) -> str
    default = ["~/.cache/figkd-device", "%s/figkd-device-%d" % (tempfile.gettempdir(), os.getuid())]
    choices = [wanted] if wanted else default
    for choice in choices:
        folder = os.path.abspath(os.path.expanduser(choice))
        try:
            if not os.path.isdir(folder + "/agent"):
                os.makedirs(folder + "/agent", 0o700)
            probe = tempfile.mkstemp(dir=folder)
            os.close(probe[0])
            os.remove(probe[1])
            if os.stat(folder).st_uid == os.getuid() and not (choice != wanted and os.path.islink(folder)):
                return folder
            problem = "it belongs to another user, or leads elsewhere"
        except (OSError, IOError) as error:
            problem = error.strerror or str(error)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full or choice == choices[-1]:
                say(type="error", what="folder", folder=folder, problem=problem, full=full)
                sys.exit(0)
    say(type="error", what="folder", folder=folder, problem=problem, full=False)
    sys.exit(0)


def content(path):  # type: (str) -> bytes
    with open(path, "rb") as file:
        return file.read()


def main(oldest, folder, digest, size, silence_s):  # type: (list[int], str, str, int, float) -> None
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < tuple(oldest):
        say(type="error", what="python", found=version)
        sys.exit(0)
    folder = place(folder)
    path = os.path.join(folder, "agent", digest + ".pyz")
    if not os.path.isfile(path) or hashlib.sha256(content(path)).hexdigest() != digest:
        say(type="need")
        received = b""
        while len(received) < size:
            piece = os.read(0, min(65536, size - len(received)))
            if not piece:
                sys.exit(0)
            received += piece
        temporary = "%s.%d" % (path, os.getpid())
        try:
            with open(temporary, "wb") as file:
                file.write(received)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except (OSError, IOError) as error:
            if os.path.exists(temporary):
                os.remove(temporary)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            say(type="error", what="folder", folder=folder, problem=error.strerror, full=full)
            sys.exit(0)
    os.utime(path, None)
    say(type="ready")
    os.execv(sys.executable, [sys.executable, path, "serve", folder, str(silence_s)])


main(**order)  # type: ignore[name-defined]
