"""What an operating system's error on this machine means for a person: where, what, and the command that mends it."""

from __future__ import annotations

import errno
import os

from nexusd.errors import NexusError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_RIGHTS = (errno.EACCES, errno.EPERM)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV)
_OPEN_FILES = (errno.EMFILE, errno.ENFILE)


def said(fault: Exception, path: str) -> str:
    """One sentence for anything that went wrong below `path`, with what to do next."""
    if isinstance(fault, OSError):
        return sentence(fault, path)
    if isinstance(fault, NexusError):
        return str(fault)
    return f"a fault in nexusd: {type(fault).__name__}; it is tried again, and the log has more"


def sentence(fault: OSError, path: str) -> str:
    """The same for an error of the operating system."""
    where, place, hidden = _place(fault, path)
    if hidden and fault.errno in (errno.EISDIR, errno.ENOTDIR):
        what = "in its sessions a folder stands where a file belongs, or the other way"
        return f"{where}: {what}; find it, and move it away: ls -lR {where}/sessions"
    if fault.errno == errno.ENOTDIR and not os.path.isdir(stands := _existing(where)):
        where = stands
    what, remedy = _told(fault, place, where)
    if fault.errno in _GONE and (hidden or place != path):
        remedy = "bring it back"  # nobody knows here whether a file or a folder belongs there
    return f"{where}: {what}; {remedy}"


def _place(fault: OSError, path: str) -> tuple[str, str, bool]:
    """What a fault is about, the place that a person is to look at, and whether that hides the rest of the way.

    It may be elsewhere than where it was met: below `client_dir`, whose folders of sessions bear their secret ids.
    """
    for name in (fault.filename2, fault.filename):  # of two the second is the real one, the first only stood beside it
        named = os.fsdecode(name) if isinstance(name, str | bytes) else ""
        if named.startswith(f"{path}/"):
            hidden = named.startswith(f"{path}/sessions/")
            return path if hidden else named, path, hidden
        if named != path and os.path.isabs(named) and not named.startswith("/proc/"):
            elsewhere = named.rpartition("/sessions/")[0] or named
            return elsewhere, elsewhere, elsewhere != named
    return path, path, False


def _existing(path: str) -> str:
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _told(fault: OSError, path: str, where: str) -> tuple[str, str]:
    number = fault.errno
    if number in _FULL:
        if _no_inodes(path):
            return "no more files can be made there", f"remove some; to see how many there are: df -i {path}"
        return "the disk is full", f"free some space; to see how much there is: df -h {path}"
    if number == errno.EROFS:
        return "the file system is read-only", f"mount it writable again; to see why it is so: dmesg; findmnt -T {path}"
    if number in _RIGHTS:
        return f"this account (uid {os.geteuid()}) may not use it", f"give it back: {_given_back(path, where)}"
    if number == errno.EISDIR or (number == errno.ENOTDIR and os.path.lexists(where)):
        return (
            "it is a folder" if number == errno.EISDIR else "it is no folder",
            f"move it away: mv {where} {where}.old",
        )
    if number in _GONE:
        return "it is not there", f"mount its volume, or make it: mkdir -p -m 700 {path}"
    if number in _OPEN_FILES:
        return "too many files are open", "raise the limit: LimitNOFILE in the unit, or ulimit -n"
    if number == errno.EIO:
        return "the disk reports an error", "look at dmesg, and at the disk"
    if number == errno.ELOOP:
        return "a symbolic link stands there, which is never followed", "put the file or folder itself there"
    return fault.strerror or str(fault) or type(fault).__name__, f"look at it: ls -ld {path}; df {path}"


def _given_back(path: str, where: str) -> str:
    """The command that lets this account in again: at the outermost folder on the way that keeps it out."""
    way = ""
    for part in where.split("/")[1:-1]:
        way += f"/{part}"
        if os.path.lexists(way) and not os.access(way, os.X_OK):
            return f"chmod -R u+rwX {way}" if _is_ours(way) else f"ls -ld {way} says who may"
    return f"chmod -R u+rwX {path}" if _is_ours(where) else f"chown -R {os.geteuid()} {path}"


def _is_ours(path: str) -> bool:
    """Whether it belongs to this account, as far as that can be seen."""
    while path != os.path.dirname(path):
        try:
            return os.lstat(path).st_uid == os.geteuid()
        except OSError:
            path = os.path.dirname(path)
    return False


def _no_inodes(path: str) -> bool:
    try:
        found = os.statvfs(_existing(path))
    except OSError:
        return False
    return found.f_files > 0 and found.f_favail == 0 and found.f_bavail > 0
