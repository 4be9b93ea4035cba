"""A disk that forgets what was not synced: a cycle's calls are recorded, and any legal image of a crash made of them.

Names are journalled: of the renames, new files and removals some first part is there, at least as far as the last sync
of a folder that they touched. What was written to a file since its last sync may be there, in part, or not at all.
"""

from __future__ import annotations

import builtins
import copy
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.faults.bench import MODULES, atomic

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.faults.bench import Server


class Op(NamedTuple):
    kind: str
    path: str = ""
    other: str = ""
    file: int = 0
    at: int = 0
    data: bytes = b""


class Recorder:
    """`os`, as the spool sees it; each call that changes the disk is written down. `forget`: syncs not made."""

    def __init__(self, root: Path, server: Server, forget: frozenset[str] = frozenset()) -> None:
        self.root = os.path.realpath(root)
        self.ops: list[Op] = []
        self.servers: list[tuple[int, Any]] = []
        self._server = server
        self._forget = forget
        self._files: dict[str, int] = {}
        self._open: dict[int, int | str] = {}
        self.base: dict[str, tuple[int, bytes, int]] = {}  # path -> file, bytes, time
        self.folders: set[str] = set()
        for folder, _, names in os.walk(self.root):
            self.folders.add(folder)
            for name in names:
                path = os.path.join(folder, name)
                self._files[path] = len(self._files) + 1
                with builtins.open(path, "rb") as file:
                    self.base[path] = (self._files[path], file.read(), os.stat(path).st_mtime_ns)
        self._next = len(self._files) + 1
        self.note_server()

    def note_server(self) -> None:
        server = self._server
        self.servers.append((len(self.ops), copy.deepcopy((server.shown, server.truth, server.last))))

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _real(self, path: str) -> str:
        return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))

    def _add(self, *args: Any, **more: Any) -> None:
        if len(self._server.truth) != len(self.servers[-1][1][1]):
            self.note_server()
        self.ops.append(Op(*args, **more))

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        fd = os.open(path, flags, mode)
        real = os.path.realpath(path)
        if os.path.isdir(real):
            self._open[fd] = real
            return fd
        if new:
            self._files[real], self._next = self._next, self._next + 1
            self._add("create", real, file=self._files[real])
        self._open[fd] = self._files.get(real, 0)
        return fd

    def write(self, fd: int, data: bytes) -> int:
        self._add("write", file=self._open[fd], at=os.fstat(fd).st_size, data=bytes(data))
        return os.write(fd, data)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)
        self._add("truncate", file=self._open[fd], at=size)

    def fsync(self, fd: int) -> None:
        known = self._open[fd]
        if isinstance(known, str):
            if "folder" not in self._forget:
                self._add("sync_folder", known)
        elif "fsync" not in self._forget:
            self._add("sync", file=known)

    def fdatasync(self, fd: int) -> None:
        if "fdatasync" not in self._forget:
            self._add("sync", file=self._open[fd])

    def rename(self, source: str, target: str) -> None:
        source, target = self._real(source), self._real(target)
        os.rename(source, target)
        self._add("rename", source, target)
        for path in [p for p in self._files if p == source or p.startswith(source + "/")]:
            self._files[target + path[len(source) :]] = self._files.pop(path)

    replace = rename

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(path, mode)
        self._add("mkdir", self._real(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(path)
        self._add("rmdir", self._real(path))

    def unlink(self, path: str) -> None:
        os.unlink(path)
        self._files.pop(self._real(path), None)
        self._add("unlink", self._real(path))

    def open_file(self, fd: int, mode: str) -> Any:
        """Instead of `open` in `atomic`."""
        file = builtins.open(fd, mode)  # noqa: SIM115 - given on as `open` would
        return _Written(self, file, self._open.get(fd, 0)) if "w" in mode else file

    # ---- images

    def image(self, into: Path, cut: int, chance: random.Random | None) -> Any:
        """What is on the disk after a crash behind `cut` calls. Without `chance` the least that a disk may keep."""
        names = [
            n for n, op in enumerate(self.ops[:cut]) if op.kind in ("create", "rename", "mkdir", "rmdir", "unlink")
        ]
        synced = {op.path: n for n, op in enumerate(self.ops[:cut]) if op.kind == "sync_folder"}  # the last of each
        certain = max((n for n in names if any(synced.get(f, -1) > n for f in _folders(self.ops[n]))), default=-1)
        kept = [n for n in names if n <= certain]
        if chance is not None:
            kept = names[: max(len(kept), chance.randrange(len(names) + 1))]
        paths = {path: file for path, (file, _, _) in self.base.items()}
        folders = set(self.folders)
        for n in kept:
            op = self.ops[n]
            match op.kind:
                case "create":
                    paths[op.path] = op.file
                case "mkdir":
                    folders.add(op.path)
                case "rmdir":
                    folders.discard(op.path)
                case "unlink":
                    paths.pop(op.path, None)
                case "rename" if op.path in paths:
                    paths[op.other] = paths.pop(op.path)
        contents = {file: data for file, data, _ in self.base.values()}
        for file in {op.file for op in self.ops[:cut] if op.file}:
            contents[file] = self._content(file, cut, contents.get(file, b""), chance)
        times = {file: at for file, _, at in self.base.values()}
        for folder in sorted(f for f in folders if f"{f}/".startswith(f"{self.root}/")):
            os.makedirs(str(into) + folder[len(self.root) :], 0o700, exist_ok=True)
        for path, file in paths.items():
            if not path.startswith(f"{self.root}/"):
                continue  # the client's own folder: another disk
            target = str(into) + path[len(self.root) :]
            fd = os.open(target, os.O_WRONLY | os.O_CREAT, 0o600)
            with builtins.open(fd, "wb") as out:
                out.write(contents.get(file, b""))
            if file in times:
                os.utime(target, ns=(times[file], times[file]))
        return next(server for at, server in reversed(self.servers) if at <= cut)

    def _content(self, file: int, cut: int, data: bytes, chance: random.Random | None) -> bytes:
        ops = [op for op in self.ops[:cut] if op.file == file and op.kind in ("write", "truncate", "sync")]
        certain = max((n for n, op in enumerate(ops) if op.kind == "sync"), default=-1)
        for n, op in enumerate(ops):
            if op.kind == "truncate":
                data = data[: op.at]
            elif op.kind == "write":
                part = op.data
                if n > certain:
                    part = (
                        b"" if chance is None else chance.choice([b"", part[: chance.randrange(len(part) + 1)], part])
                    )
                if part:
                    data = data[: op.at].ljust(op.at, b"\0") + part + data[op.at + len(part) :]
        return data


class _Written:
    def __init__(self, recorder: Recorder, file: Any, known: int) -> None:
        self._recorder, self._file, self._known = recorder, file, known

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def flush(self) -> None:
        self._file.flush()

    def write(self, data: bytes) -> int:
        self._recorder._add("write", file=self._known, data=bytes(data))
        return self._file.write(data)


def _folders(op: Op) -> tuple[str, str]:
    return os.path.dirname(op.path), os.path.dirname(op.other)


@contextmanager
def recorded(root: Path, server: Server, forget: frozenset[str] = frozenset()):
    """The spool's disk calls are written down inside."""
    recorder = Recorder(root, server, forget)
    for module in MODULES:
        module.os = recorder
    atomic.open = recorder.open_file
    try:
        yield recorder
    finally:
        recorder.note_server()
        for module in MODULES:
            module.os = os
        del atomic.open


def copied(home: Path, into: Path) -> None:
    """A home without its root: the configuration and the client's state."""
    into.mkdir()
    shutil.copy2(home / "config.toml", into / "config.toml")
    shutil.copytree(home / "client", into / "client")
