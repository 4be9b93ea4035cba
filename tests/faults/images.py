"""A real file system on a disk that is written down (`logged`), and what it may be after the power went.

Writes behind the last flush are there, half there or not at all, each by chance.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.logged import Entry, entries, unmount

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

MAKE = {
    "ext4": (24, ["mkfs.ext4", "-q", "-F", "-b", "4096"]),
    "xfs": (300, ["mkfs.xfs", "-q", "-f"]),
    "btrfs": (128, ["mkfs.btrfs", "-q", "-f", "-m", "single"]),
}
STEP = {"ext4": 512, "xfs": 512, "btrfs": 4096}  # bytes that a disk writes whole or not; btrfs relies on its superblock
MEMORY = "/dev/shm"  # noqa: S108 - a private folder is made there


class Disk:
    """`place` is the mounted file system, until `cut`; `at` is how far its log has come."""

    def __init__(self, kind: str, home: Path) -> None:
        self.kind, self.home, self.place = kind, home, home / "place"
        self.log, self._file = home / "log", home / "disk"
        self.place.mkdir()
        size, make = MAKE[kind]
        with (home / "base").open("wb") as file:
            file.truncate(size << 20)
        done([*make, str(home / "base")])
        copied(home / "base", home / "live")
        self._file.touch()
        given = [sys.executable, "-m", "tests.faults.logged", str(home / "live"), str(self._file), str(self.log)]
        self._server = subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self._server.stdout.readline() != b"ready\n":
            pytest.skip(
                f"FUSE does not mount: NO IMAGE WAS TRIED ({self._server.stderr.read().decode()[-200:].strip()})"
            )
        self._mounted = False
        with contextlib.suppress(subprocess.CalledProcessError):
            done(["mount", "-o", "loop", str(self._file), str(self.place)])
            self._mounted = True
        if not self._mounted:
            self.cut()
            pytest.skip(f"{kind} is not to be loop-mounted here: NO IMAGE WAS TRIED")

    @property
    def at(self) -> int:
        return self.log.stat().st_size

    def cut(self) -> None:
        """The end of the live one."""
        if self._mounted:
            done(["umount", str(self.place)])
            self._mounted = False
        unmount(str(self._file))
        self._server.wait(10)
        self._server.stdout.close()
        self._server.stderr.close()

    def images(self, count: int, first: int, last: int, chance: random.Random) -> Iterator[int]:
        """For so many moments between two states of the log: it, while `place` is what that moment left."""
        log = list(entries(self.log.read_bytes()))
        ends = [0, *(entry.end for entry in log)]
        within = [n for n, end in enumerate(ends) if first <= end <= last]
        stable, image, flushed = self.home / "stable", self.home / "image", 0
        copied(self.home / "base", stable)
        for cut in sorted(chance.choices(within, k=count)):
            flush = max((n for n in range(flushed, cut) if log[n].data is None), default=flushed)
            written(stable, log[flushed:flush])
            flushed = flush
            copied(stable, image)
            written(image, (part for entry in log[flush:cut] if (part := torn(entry, chance, STEP[self.kind]))))
            done(["mount", "-o", "loop", str(image), str(self.place)])
            try:
                yield ends[cut]
            finally:
                done(["umount", str(self.place)])


def torn(entry: Entry, chance: random.Random, step: int) -> Entry | None:
    """What is left of a write that was not flushed."""
    kept = chance.choice([0, 0, len(entry.data or b""), chance.randrange(len(entry.data or b"") + 1)])
    return entry._replace(data=entry.data[: kept // step * step]) if entry.data is not None else None


def written(image: Path, log) -> None:
    """Writes, carried out."""
    with image.open("r+b", buffering=0) as file:
        for entry in log:
            if entry.data:
                os.pwrite(file.fileno(), entry.data, entry.at)


def copied(source: Path, target: Path) -> None:
    done(["cp", "--sparse=always", str(source), str(target)])


def done(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def disk(kind: str) -> Iterator[Disk]:
    """A disk with this file system; skips where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root: NO IMAGE WAS TRIED")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("there is no /dev/fuse: NO IMAGE WAS TRIED")
    if shutil.which(MAKE[kind][1][0]) is None:
        pytest.skip(f"{MAKE[kind][1][0]} is not installed: NO IMAGE WAS TRIED")
    with tempfile.TemporaryDirectory(prefix="images-", dir=MEMORY if os.path.isdir(MEMORY) else None) as home:
        made = Disk(kind, Path(home))
        try:
            yield made
        finally:
            if made._server.poll() is None:
                made.cut()
