"""What nexusd stands on: folders, their owners and modes, space, file system, file watches and leases."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import TYPE_CHECKING

from nexusd.cli.service.findings import Finding, bad, ok, warn
from nexusd.spool.outbox import lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexusd.config.records import Config

SPACE, LITTLE = 64 << 20, 1 << 30  # bytes free: with less than the first nothing can be relied on
INODES, FEW = 1_000, 100_000
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.rclone", "vboxsf"}
TRANSIENT = {"tmpfs", "ramfs", "overlay"}
INSTANCES, WATCHES = 128, 8_192  # what inotify gave an account long ago; each session takes a watch


def examine(config: Config) -> Iterator[Finding]:
    """Look at root and client_dir, then at the kernel's limits."""
    for key, path in (("root", config.root), ("client_dir", config.client_dir), ("sessions.d", config.sessions_folder)):
        yield from _folder(key, path)
    for key, path in (("root", config.root), ("client_dir", config.client_dir)):
        yield from _space(key, _existing(path))
        yield _file_system(key, _existing(path))
    yield _leases(_existing(config.root))
    yield from _inotify(len(config.sessions))


def _folder(key: str, path: str) -> Iterator[Finding]:
    what = f"{key} {path}"
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            found = os.stat(path)
    except FileNotFoundError:
        if os.access(_existing(path), os.W_OK | os.X_OK):
            yield ok(what, "it is not there yet, and can be made")
        else:
            yield bad(what, f"it is not there, and {_existing(path)} cannot be written to", f"mkdir -p -m 700 {path}")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield bad(what, "it is no folder", f"mv {path} {path}.old")
        return
    before = []
    if found.st_uid != os.geteuid():
        before.append(
            bad(what, f"it belongs to uid {found.st_uid}, and we are {os.geteuid()}", f"chown -R {os.geteuid()} {path}")
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        before.append(warn(what, f"others may look into it (mode {mode:04o})", f"chmod 700 {path}"))
    if not os.access(path, os.W_OK | os.X_OK) or _read_only(path):
        before.append(
            bad(what, "it cannot be written to", f"chmod u+rwx {path}; mount -o remount,rw {_mount(path)[0]}")
        )
    yield from before or [ok(what, "it is ours, private and can be written to")]


def _read_only(path: str) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _space(key: str, path: str) -> Iterator[Finding]:
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    said = f"{free / (1 << 20):,.0f} MiB are free"
    remedy = (
        f"du -xh --max-depth=1 {_mount(path)[0]} | sort -h, then remove what is not needed; see keep_sent, keep_inbox"
    )
    yield _measured(f"{key}: space", free, SPACE, LITTLE, said, remedy)
    if found.f_files:  # some file systems count none
        yield _measured(
            f"{key}: inodes", found.f_favail, INODES, FEW, f"{found.f_favail:,} more files can be made", remedy
        )


def _measured(what: str, found: int, least: int, little: int, said: str, remedy: str) -> Finding:
    return bad(what, said, remedy) if found < least else warn(what, said, remedy) if found < little else ok(what, said)


def _file_system(key: str, path: str) -> Finding:
    mount, kind = _mount(path)
    what = f"{key}: file system"
    if kind in REMOTE:
        said = f"{kind} on {mount}: no events, no leases, and locks that others may not see"
        return warn(what, said, f"set {key} to a folder on a local disk")
    if kind in TRANSIENT:
        return warn(what, f"{kind} on {mount}: it is gone after a restart", f"set {key} to a folder on a disk")
    return ok(what, f"{kind} on {mount}")


def _mount(path: str) -> tuple[str, str]:
    """Where the file system of a path is mounted, and its type."""
    best = ("/", "unknown")
    with contextlib.suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, mount, kind, *_ = line.split(" ")
            mount = mount.encode().decode("unicode_escape") if "\\" in mount else mount
            if len(mount) >= len(best[0]) and f"{os.path.realpath(path)}/".startswith(f"{mount.rstrip('/')}/"):
                best = (mount, kind)
    return best


def _leases(path: str) -> Finding:
    """Whether the kernel tells if a file is still being written, tried on a file of our own."""
    what = "read leases"
    try:
        fd, name = tempfile.mkstemp(dir=path, prefix=".nexusd-")
    except OSError as fault:
        return bad(what, f"no file can be made in {path}: {fault.strerror}", f"df -h {path}; ls -ld {path}")
    try:
        busy = _lease_on(name)
        os.close(fd)
        done = _lease_on(name)
    finally:
        os.unlink(name)
    if (busy, done) == (False, True):
        return ok(what, "they tell when a file's writer is done")
    return warn(
        what,
        "there are none here: a file is taken when it has not changed for 200 ms",
        "write under another name that ends in .tmp, then rename; or set root to a folder on a local disk",
    )


def _lease_on(path: str) -> bool | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return lease(fd)
    finally:
        os.close(fd)


def _inotify(sessions: int) -> Iterator[Finding]:
    for name, least, wanted in (("max_user_instances", 1, INSTANCES), ("max_user_watches", sessions + 3, WATCHES)):
        what = f"inotify {name}"
        try:
            with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
                value = int(file.read())
        except (OSError, ValueError):
            yield warn(what, "it cannot be read", "none is needed: without events nexusd looks every five seconds")
            continue
        remedy = f"sysctl -w fs.inotify.{name}={max(wanted, 2 * least)}"
        if value < least:
            yield warn(what, f"{value}, and {least} are needed: files are found only every five seconds", remedy)
        elif value < wanted:
            yield warn(what, f"{value} is little when other programs watch files too", remedy)
        else:
            yield ok(what, f"{value}")


def _existing(path: str) -> str:
    """The path, or the nearest folder above that is there."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path
