"""A file that is a disk, its writes and flushes written down: python -m tests.faults.logged IMAGE PLACE LOG.

PLACE, an empty file, shows IMAGE from "ready" on standard output until this ends. It speaks the FUSE protocol
(linux/fuse.h) for a file system that is one file: loop-mounted, each flush of the real file system arrives here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENT = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET: nobody waits for an answer
BIG_WRITES, MOST = 1 << 5, 128 << 10
HEAD, ENTRY = struct.Struct("<IIQQIIIHH"), struct.Struct("<QI")
FLUSHED = (1 << 64) - 1  # instead of an offset

libc = ctypes.CDLL(None, use_errno=True)


class Entry(NamedTuple):
    """A write, or a flush where `data` is None. `end`: the log's size behind it."""

    at: int
    data: bytes | None
    end: int


def entries(log: bytes) -> Iterator[Entry]:
    """What was written down."""
    place = 0
    while place < len(log):
        at, size = ENTRY.unpack_from(log, place)
        place += ENTRY.size + size
        yield Entry(at, None if at == FLUSHED else log[place - size : place], place)


def mount(source: str, target: str, kind: str, options: str) -> None:
    """mount(2). OSError."""
    if libc.mount(source.encode(), target.encode(), kind.encode(), 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def unmount(target: str) -> None:
    """umount2(2). OSError."""
    if libc.umount2(target.encode(), 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


class Disk:
    """Answers the kernel."""

    def __init__(self, image: str, log: str) -> None:
        self.image = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def answer(self, opcode: int, body: bytes) -> bytes:
        """The answer's body; OSError for a refusal."""
        match opcode:
            case 26:  # INIT
                return struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, BIG_WRITES, 12, 9, MOST, 1, 0, 0, 0, *[0] * 7)
            case 3 | 4:  # GETATTR, SETATTR
                size = os.fstat(self.image).st_size
                attributes = (1, size, size // 512, 0, 0, 0, 0, 0, 0, stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0)
                return struct.pack("<QII6Q10I", 3600, 0, 0, *attributes)
            case 14:  # OPEN
                return struct.pack("<QII", 0, 0, 0)
            case 15:  # READ
                _, at, size = struct.unpack_from("<QQI", body)
                return os.pread(self.image, size, at)
            case 16:  # WRITE
                _, at, size = struct.unpack_from("<QQI", body)
                data = body[-size:]
                os.pwrite(self.image, data, at)
                os.write(self.log, ENTRY.pack(at, size) + data)
                return struct.pack("<II", size, 0)
            case 20:  # FSYNC
                os.write(self.log, ENTRY.pack(FLUSHED, 0))
                return b""
            case 18 | 25 | 38:  # RELEASE, FLUSH, DESTROY
                return b""
        raise OSError(errno.ENOSYS, "not spoken here")

    def serve(self, fuse: int) -> None:
        """Until it is unmounted."""
        while True:
            try:
                request = os.read(fuse, MOST + 8192)
            except OSError as fault:
                if fault.errno == errno.ENODEV:
                    return
                if fault.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                raise
            _, opcode, unique, *_ = HEAD.unpack_from(request)
            if opcode in SILENT:
                continue
            try:
                body, error = self.answer(opcode, request[HEAD.size :]), 0
            except OSError as fault:
                body, error = b"", -(fault.errno or errno.EIO)
            os.write(fuse, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


def main() -> None:
    image, place, log = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    disk = Disk(image, log)
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mount("nexusd-test", place, "fuse", f"fd={fuse},rootmode=100000,user_id=0,group_id=0")
    print("ready", flush=True)
    disk.serve(fuse)


if __name__ == "__main__":
    main()
