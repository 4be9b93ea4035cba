"""Claimed files: between the outbox and their end in `sent/` or `failed/`.

What exists says how far a file has come; after a crash each step is simply taken again:

    sending/ULID/NAME                              claimed, never posted
    sending/ULID/NAME, ULID.json without outcome   may have been posted: look before posting it again
    sending/ULID/NAME, ULID.json with outcome      decided; note and move are still to do
    ULID.json with outcome, no NAME                moved; only the tidying is left
"""

from __future__ import annotations

import contextlib
import hashlib
import os
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
        """Take a file out of the outbox with one rename; None: somebody took it back first."""
        unique = ulid()
        home = os.path.join(self._folder.sending, unique)
        os.mkdir(home, 0o700)
        try:
            with atomic.held_folder(self._folder.outbox) as held:
                os.rename(os.path.join(held, name), os.path.join(home, name))
        except FileNotFoundError:
            os.rmdir(home)
            return None
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
                names = os.listdir(os.path.join(self._folder.sending, unique))
                if names:
                    found.append(self._claimed(unique, names[0], self._intent(unique)))
                else:
                    self._tidy(unique)
        return found

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
        atomic.replace(self._intent_path(claimed.ulid), msgspec.json.encode(claimed.intent) + b"\n")
        atomic.fsync_folder(os.path.dirname(self._path(claimed)))
        atomic.fsync_folder(self._folder.outbox)

    def finish(self, claimed: Claimed, outcome: Outcome) -> None:
        """Decide: from here on no crash can send it again. Then move it, with its note, to where it belongs."""
        if claimed.intent.outcome is None:
            claimed.intent.outcome = outcome
            atomic.replace(self._intent_path(claimed.ulid), msgspec.json.encode(claimed.intent) + b"\n")
        into = self._folder.sent if outcome.sent else self._folder.failed
        if os.path.lexists(self._path(claimed)):
            settle(self._path(claimed), into, claimed.name, outcome.note, sent=outcome.sent)
        else:  # an earlier try moved it and failed behind that
            atomic.fsync_folder(into)
        self._tidy(claimed.ulid)

    def _tidy(self, unique: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(os.path.join(self._folder.sending, unique))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._intent_path(unique))

    def _claimed(self, unique: str, name: str, intent: Intent) -> Claimed:
        status = os.lstat(os.path.join(self._folder.sending, unique, name))
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
        return os.path.join(self._folder.sending, claimed.ulid, claimed.name)


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
        if os.path.lexists(target):
            aside = f"{target}.{_free_number(target)}"
            with contextlib.suppress(FileNotFoundError):  # the note first: a crash in between is taken up again here
                os.rename(target + suffix, aside + suffix)
            os.rename(target, aside)
        atomic.replace(target + suffix, msgspec.json.encode(note) + b"\n", entry=False)
        os.rename(path, target)
        atomic.fsync_folder(held)
    atomic.fsync_folder(os.path.dirname(path))


def _free_number(target: str) -> int:
    """The first free number behind a name, found by doubling: the same name is dropped many times."""
    high = 1
    while os.path.lexists(f"{target}.{high}"):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if os.path.lexists(f"{target}.{middle}"):
            low = middle
        else:
            high = middle
    return high


def digest(body: bytes) -> str:
    """The digest that a receipt shows."""
    return hashlib.sha256(body).hexdigest()
