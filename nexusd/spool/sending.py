"""Claimed files: between the outbox and their end in `sent/` or `failed/`.

What exists says how far a file has come; after a crash each step is simply taken again:

    sending/ULID/NAME                              claimed, never posted
    sending/ULID/NAME, ULID.json without outcome   may have been posted: look before posting it again
    sending/ULID/NAME, ULID.json with outcome      decided; note and move are still to do
    ULID.json with outcome, no NAME                moved; only the tidying is left
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from nexusd.spool import atomic, layout, outbox
from nexusd.spool.ulid import born, is_ulid, ulid

if TYPE_CHECKING:
    from nexusd.spool.layout import SessionFolder


class Outcome(msgspec.Struct, kw_only=True):
    """How it ended: the folder, and the receipt or error that goes beside the file."""

    sent: bool
    note: dict[str, Any]


class Intent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """On the disk before the first byte goes out. Times are Unix seconds."""

    version: int = 1
    name: bytes = b""  # the file's
    sha256: str = ""
    cursor: int | None = None  # the highest known before the first POST: a witness is above it
    epoch: int = 0
    anchor: str = ""  # a message that the server showed before the first POST: while it does, it remembers that time
    attempts: int = 0  # POSTs begun
    posted_at: float | None = None  # the last of them
    doubtful: bool = False  # at least one of them may have landed
    doubts: int = 0  # how many of them may
    duplicate: bool = False  # posted again although nothing proved that the first had not landed
    outcome: Outcome | None = None


@dataclass(slots=True)
class Claimed:
    """A file that is ours to send."""

    ulid: str
    name: str
    intent: Intent
    dropped_at: float  # the file's modification time

    @property
    def claimed_at(self) -> float:
        """When it was claimed, in whichever life."""
        return born(self.ulid)


class Sending:
    """The claimed files of one session."""

    def __init__(self, folder: SessionFolder) -> None:
        self._folder = folder

    def claim(self, name: str) -> Claimed | None:
        """Take a file out of the outbox with one rename; None: somebody took it back first. OSError."""
        unique = ulid()
        home = os.path.join(self._folder.sending, unique)
        os.mkdir(home, 0o700)
        try:
            with atomic.held_folder(self._folder.outbox) as held:
                os.rename(os.path.join(held, name), os.path.join(home, name))
        except OSError as fault:
            os.rmdir(home)
            if isinstance(fault, FileNotFoundError):
                return None
            raise
        return self._claimed(unique, name, Intent())

    def pending(self) -> list[Claimed]:
        """What an earlier life left behind, oldest first."""
        found = []
        for unique in sorted(os.listdir(self._folder.sending)):
            if unique.endswith(".tmp"):  # died while replacing an intent
                os.unlink(os.path.join(self._folder.sending, unique))
            elif unique.endswith(".json"):
                if not os.path.isdir(os.path.join(self._folder.sending, unique.removesuffix(".json"))):
                    with contextlib.suppress(FileNotFoundError):  # tidied up a moment ago with its empty folder
                        os.unlink(os.path.join(self._folder.sending, unique))  # died while tidying up
            elif is_ulid(unique):  # anything else is somebody's own
                intent = self._intent(unique)
                name = os.fsdecode(intent.name) or self._oldest(unique)
                if name and os.path.lexists(self._at(unique, name)):
                    found.append(self._claimed(unique, name, intent))
                else:
                    self._tidy(unique)
        return found

    def _oldest(self, unique: str) -> str | None:
        """What was put there first: the file that was claimed, whatever somebody may have laid beside it."""

        def age(name: str) -> tuple[bool, int]:
            found = os.lstat(self._at(unique, name))
            return not stat.S_ISREG(found.st_mode), found.st_ctime_ns

        return min(os.listdir(os.path.join(self._folder.sending, unique)), key=age, default=None)

    def read(self, claimed: Claimed, limit: int) -> bytes | None:
        """The file's bytes, at most one more than `limit`; None while someone still writes. OSError, Refusal.

        The lease is held while reading, so what is read is whole.
        """
        fd = outbox.open_plain(self._path(claimed))
        with open(fd, "rb") as file:
            if outbox.lease(fd) is False:
                return None
            os.fsync(fd)  # before an intent speaks of it
            return file.read(limit + 1)

    def note(self, claimed: Claimed) -> None:
        """Put the intent on the disk, and with it the claim."""
        self._write(claimed)
        atomic.fsync_folder(os.path.dirname(self._path(claimed)))
        atomic.fsync_folder(self._folder.outbox)

    def finish(self, claimed: Claimed, outcome: Outcome) -> None:
        """Decide: from here on no crash can send it again. Then move it, with its note, to where it belongs."""
        if claimed.intent.outcome is None:
            claimed.intent.outcome = outcome
            self._write(claimed)
        into = self._folder.sent if outcome.sent else self._folder.failed
        if os.path.lexists(self._path(claimed)):
            settle(self._path(claimed), into, claimed.name, outcome.note, sent=outcome.sent)
        else:  # an earlier try moved it and failed behind that
            atomic.fsync_folder(into)
        self._tidy(claimed.ulid)

    def _write(self, claimed: Claimed) -> None:
        claimed.intent.name = os.fsencode(claimed.name)
        atomic.replace(self._intent_path(claimed.ulid), msgspec.json.encode(claimed.intent) + b"\n")

    def _tidy(self, unique: str) -> None:
        home = os.path.join(self._folder.sending, unique)
        try:
            os.rmdir(home)
        except FileNotFoundError:
            pass
        except OSError as fault:
            if fault.errno != errno.ENOTEMPTY:
                raise
            # What somebody else put there is not ours to send, nor to throw away.
            os.rename(home, os.path.join(self._folder.own, f"stray-{unique}"))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._intent_path(unique))

    def _claimed(self, unique: str, name: str, intent: Intent) -> Claimed:
        status = os.lstat(self._at(unique, name))
        return Claimed(unique, name, intent, status.st_mtime)

    def _intent(self, unique: str) -> Intent:
        """The intent; one that cannot be read must be taken for a POST in doubt."""
        data = atomic.read_small(self._intent_path(unique))
        if data is None:
            return Intent()
        try:
            return msgspec.json.decode(data, type=Intent)
        except (ValueError, RecursionError):
            return Intent(attempts=1, doubtful=True)

    def _intent_path(self, unique: str) -> str:
        return os.path.join(self._folder.sending, f"{unique}.json")

    def _path(self, claimed: Claimed) -> str:
        return self._at(claimed.ulid, claimed.name)

    def _at(self, unique: str, name: str) -> str:
        return os.path.join(self._folder.sending, unique, name)


def settle(path: str, into: str, name: str, note: dict[str, Any], *, sent: bool) -> None:
    """Move a file to `sent/` or `failed/` with its note beside it; an older one of that name steps aside.

    Only renames and a small write, so it works for links, pipes and folders too and reads nothing of them.
    """
    if len(os.fsencode(name)) > layout.LONGEST_NAME:
        short = os.fsencode(name)[:100].decode(errors="ignore")
        name = f"{short}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"
    if name.endswith(layout.ERROR):
        name += "_"  # as it is, it would be taken for another file's note, and be written over by that
    suffix = layout.RECEIPT if sent else layout.ERROR
    with atomic.held_folder(into) as held:
        target = os.path.join(held, name)
        if os.path.lexists(target) or os.path.isdir(target + suffix):
            aside = f"{target}.{_free_number(target, suffix)}"
            with contextlib.suppress(FileNotFoundError):  # the note first: a crash in between is taken up again here
                os.rename(target + suffix, aside + suffix)
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, aside)
        atomic.replace(target + suffix, msgspec.json.encode(note) + b"\n", entry=False)
        os.rename(path, target)
        atomic.fsync_folder(held)
    atomic.fsync_folder(os.path.dirname(path))


def _free_number(target: str, suffix: str) -> int:
    """The first free number behind a name, found by doubling: the same name is dropped many times.

    A note alone is none that is taken: it stepped aside in front of its file.
    """

    def taken(number: int) -> bool:
        return os.path.lexists(f"{target}.{number}") or os.path.isdir(f"{target}.{number}{suffix}")

    high = 1
    while taken(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if taken(middle):
            low = middle
        else:
            high = middle
    return high


def digest(body: bytes) -> str:
    """The digest that a receipt shows."""
    return hashlib.sha256(body).hexdigest()
