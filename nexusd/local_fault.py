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
    where = path
    named = os.fsdecode(fault.filename) if isinstance(fault.filename, str | bytes) else ""
    if named.startswith(f"{path}/"):
        where = named
    what, remedy = _told(fault, path)
    return f"{where}: {what}; {remedy}"


def _told(fault: OSError, path: str) -> tuple[str, str]:
    number = fault.errno
    if number in _FULL:
        if _no_inodes(path):
            return "no more files can be made there", f"remove some; to see how many there are: df -i {path}"
        return "the disk is full", f"free some space; to see how much there is: df -h {path}"
    if number == errno.EROFS:
        return "the file system is read-only", f"mount it writable again; to see why it is so: dmesg; findmnt -T {path}"
    if number in _RIGHTS:
        return f"this account (uid {os.geteuid()}) may not use it", f"give it back: chown -R {os.geteuid()} {path}"
    if number in _GONE:
        return "it is not there", f"mount its volume, or make it: mkdir -p -m 700 {path}"
    if number in _OPEN_FILES:
        return "too many files are open", "raise the limit: LimitNOFILE in the unit, or ulimit -n"
    if number == errno.EIO:
        return "the disk reports an error", "look at dmesg, and at the disk"
    if number == errno.ELOOP:
        return "a symbolic link stands there, which is never followed", "put the file or folder itself there"
    return fault.strerror or str(fault) or type(fault).__name__, f"look at it: ls -ld {path}; df {path}"


def _no_inodes(path: str) -> bool:
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return found.f_files > 0 and found.f_favail == 0 and found.f_bavail > 0
