# Sent as text and run by the device's Python, whichever that is: it must parse as Python 2.7 too, to be able to say
# that it is too old. `order` is given: the arguments of `main`.
# It receives the archive if it is not there yet, and becomes the agent.
import errno
import grp
import hashlib
import json
import os
import pwd
import stat
import sys
import tempfile


def say(**message):  # type: (object) -> None
    os.write(1, ("figkd-agent " + json.dumps(message) + "\n").encode("ascii"))


# A folder is ours only if it holds this file, which is made with it.
MARK = ".figkd-device"
FORMAT = b"figkd-device 1\n"


class Refused(Exception):
    """A folder that cannot be used: why, and what to do."""

    def __init__(self, problem, fix):  # type: (str, str) -> None
        Exception.__init__(self, problem)
        self.fix = fix


def others_may_write(facts):  # type: (os.stat_result) -> bool
    group, world = facts.st_mode & stat.S_IWGRP, facts.st_mode & stat.S_IWOTH
    return bool(world or (group and not own_group(facts.st_gid)))


def own_group(gid):  # type: (int) -> bool
    """Whether a group is the user's own, with nobody else in it, as many systems make one for each user."""
    try:
        me, group = pwd.getpwuid(os.getuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == me.pw_name and me.pw_gid == gid and not set(group.gr_mem) - set([me.pw_name])


def check_parents(folder):  # type: (str) -> None
    """Nobody else may be able to put another folder in the place of one on the way."""
    parent = os.path.dirname(folder)
    while True:
        facts = os.lstat(parent)
        if facts.st_uid not in (0, os.getuid()):
            raise Refused("%s belongs to another user" % parent, "see who made it")
        if others_may_write(facts) and not facts.st_mode & stat.S_ISVTX:
            raise Refused("other users may write to %s" % parent, "chmod go-w %s there" % parent)
        if parent == os.path.dirname(parent):
            return
        parent = os.path.dirname(parent)


def check_own(path, kind):  # type: (str, object) -> None
    """Of this user, of the kind, and nobody else may write to it."""
    facts = os.lstat(path)
    if not kind(facts.st_mode):  # type: ignore[operator]
        raise Refused("%s is not what the agent made, or leads elsewhere" % path, "see who changed it")
    if facts.st_uid != os.getuid():
        raise Refused("%s belongs to another user" % path, "see who made it")
    if others_may_write(facts):
        raise Refused("other users may write to %s" % path, "chmod go-w %s there" % path)


def make(folder):  # type: (str) -> None
    """Make the folder with its mark in it at once; an empty one of the user's own is taken in its place."""
    parent = os.path.dirname(folder)
    missing = []
    while not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    check_parents(os.path.join(parent, "x"))
    for level in reversed(missing):
        os.mkdir(level, 0o700)
    unnamed = tempfile.mkdtemp(prefix=".figkd-", dir=os.path.dirname(folder))
    try:
        write(os.path.join(unnamed, MARK), FORMAT)
        os.rename(unnamed, folder)
    except (OSError, IOError) as error:
        for path, remove in ((os.path.join(unnamed, MARK), os.remove), (unnamed, os.rmdir)):
            if os.path.exists(path):
                remove(path)
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # else somebody has put one there
            raise


def marked(folder):  # type: (str) -> bool
    path = os.path.join(folder, MARK)
    if not os.path.lexists(path):
        return False
    check_own(path, stat.S_ISREG)
    return content(path) == FORMAT


def use(choice):  # type: (str) -> str
    """The folder by its real path, made if need be, and safe to work in."""
    asked, home = os.path.expanduser(choice), os.path.expanduser("~")
    plain = os.path.isabs(asked) and os.path.normpath(asked) == asked and not asked.startswith("//")
    if not plain or asked in ("/", home):
        raise Refused("it is not a folder below / or ~/, written without . and ..", "write its full path")
    folder = os.path.join(os.path.realpath(os.path.dirname(asked)), os.path.basename(asked))
    if not os.path.lexists(folder) or (os.path.isdir(folder) and not os.listdir(folder)):
        if os.path.lexists(folder):
            check_own(folder, stat.S_ISDIR)
        make(folder)
    check_parents(folder)
    check_own(folder, stat.S_ISDIR)
    if not marked(folder):
        raise Refused("it holds files, and no agent made it", "empty it if they are not needed")
    if not os.path.lexists(os.path.join(folder, "agent")):
        os.mkdir(os.path.join(folder, "agent"), 0o700)
    for name in ("agent", "blobs", "cache", "jobs"):
        if os.path.lexists(os.path.join(folder, name)):
            check_own(os.path.join(folder, name), stat.S_ISDIR)
    probe = tempfile.mkstemp(prefix=".probe-", dir=os.path.join(folder, "agent"))
    os.close(probe[0])
    os.remove(probe[1])
    return folder


def place(wanted):  # type: (str) -> str
    default = ["~/.cache/figkd-device", "%s/figkd-device-%d" % (tempfile.gettempdir(), os.getuid())]
    choices = [wanted] if wanted else default
    for choice in choices:
        full, fix = False, ""
        try:
            return use(choice)
        except Refused as refused:
            problem, fix = str(refused), refused.fix
            break
        except (OSError, IOError) as error:
            problem = error.strerror or str(error)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full:
                break
    say(type="error", what="folder", folder=os.path.expanduser(choice), problem=problem, full=full, fix=fix)
    sys.exit(0)


def write(path, data):  # type: (str, bytes) -> None
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def content(path):  # type: (str) -> bytes
    with open(path, "rb") as file:
        return file.read()


def intact(path, digest):  # type: (str, str) -> bool
    """Whether the agent lies there, whole and nobody else's to change."""
    try:
        check_own(path, stat.S_ISREG)
    except (Refused, OSError):
        return False
    return hashlib.sha256(content(path)).hexdigest() == digest


def main(oldest, folder, digest, size, silence_s):  # type: (list[int], str, str, int, float) -> None
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < tuple(oldest):
        say(type="error", what="python", found=version)
        sys.exit(0)
    os.umask(0o077)  # what the agent and its jobs make is this user's alone
    folder = place(folder)
    path = os.path.join(folder, "agent", digest + ".pyz")
    if not intact(path, digest):
        say(type="need")
        received = b""
        while len(received) < size:
            piece = os.read(0, min(65536, size - len(received)))
            if not piece:
                sys.exit(0)
            received += piece
        temporary = "%s.%d" % (path, os.getpid())
        try:
            write(temporary, received)
            os.rename(temporary, path)
        except (OSError, IOError) as error:
            if os.path.exists(temporary):
                os.remove(temporary)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            say(type="error", what="folder", folder=folder, problem=error.strerror, full=full)
            sys.exit(0)
        if not intact(path, digest):
            say(type="error", what="folder", folder=folder, problem="its disk damages files", full=False)
            sys.exit(0)
    os.utime(path, None)
    say(type="ready")
    os.execv(sys.executable, [sys.executable, path, "serve", folder, str(silence_s)])


main(**order)  # type: ignore[name-defined]
