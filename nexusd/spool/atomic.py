"""Files that are there whole or not at all.

Source of the recipe: write aside, fsync, rename over, fsync the folder; leaving out the last step is how a rename gets
lost to a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nexusd.errors import UserError
from nexusd.spool import spare

if TYPE_CHECKING:
    from collections.abc import Iterator


def fsync_folder(path: str) -> None:
    """Make the folder's entries durable: renames, new files, removals."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def held_folder(path: str) -> Iterator[str]:
    """Hold a folder open; gives a path that goes on naming it, whatever is put in its place meanwhile.

    UserError where a link or something else stands there: what is behind it is not ours to read, move or write.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as fault:
        if fault.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        raise UserError("folder_not_ours", f"{path} is not a folder but a link or a file; move it away") from None
    held = f"/proc/self/fd/{fd}"
    try:
        yield held
    except OSError as fault:  # for people it is about the place itself
        for name in ("filename", "filename2"):
            if isinstance(met := getattr(fault, name), str) and met.startswith(f"{held}/"):
                setattr(fault, name, path + met.removeprefix(held))
        raise
    finally:
        os.close(fd)


def replace(path: str, data: bytes, *, durable: bool = True, entry: bool = True) -> None:
    """Put `data` in place of the file at `path` (mode 0600), whole or not at all.

    `durable` False skips the fsyncs: for views of the state that are made anew anyway. `entry` False leaves the fsync
    of the folder to the caller. A link at `path` is replaced, not followed.
    """
    folder = os.path.dirname(path) or "."
    # As mkstemp does it, whose import would cost every hand command 8 ms.
    aside = os.path.join(folder, f".{os.urandom(8).hex()}.tmp")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(fd)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
    if durable and entry:
        fsync_folder(folder)


def replace_or_overwrite(path: str, data: bytes) -> None:
    """Replace a view of the state, without fsync; on a full disk it is written over the old one, which has its place.

    Then a reader may see it half written, and looks again. Where no file can be opened any more, one that was kept for
    this is given up for a moment. OSError.
    """
    try:
        replace(path, data, durable=False)
    except OSError as fault:
        if fault.errno in (errno.EMFILE, errno.ENFILE):
            with spare.lent() as one_is_left:
                if not one_is_left:
                    raise
                replace(path, data, durable=False)
            return
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise fault from None  # there is no old one, and that is not what is wrong
        try:
            if os.pwrite(fd, data, 0) < len(data):
                raise
            os.ftruncate(fd, len(data))
        finally:
            os.close(fd)


def private_folder(path: str) -> None:
    """Make the folder and its parents, 0700 whatever the umask; one that exists is left as it is. OSError."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and parent != path:
        private_folder(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
    if parent:
        fsync_folder(parent)


def read_small(path: str, limit: int = 1 << 20) -> bytes | None:
    """A regular file's bytes (at most `limit`), or None where there is none; a link or FIFO is never followed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        with open(fd, "rb") as file:
            return file.read(limit)
    except OSError as fault:  # which has no name, or the descriptor's
        raise OSError(fault.errno, fault.strerror, path) from None
