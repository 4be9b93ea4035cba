"""Where everything is: the one place that knows the names of folders and files.

A dropped file is in exactly one of these places, and each move is one rename:

    outbox/NAME                     dropped; taking it out again cancels it
    .nexusd/sending/ULID/NAME       claimed; with .nexusd/sending/ULID.json it may have been posted
    sent/NAME  failed/NAME          done; beside it NAME.receipt.json or NAME.error.json
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass

from nexusd.errors import UserError
from nexusd.spool import atomic

REPORT = "daemon.json"
NAME = re.compile(rf"(?!{re.escape(REPORT)}$)[a-z0-9][a-z0-9._-]{{0,63}}")
LONGEST_NAME = 200  # bytes of a dropped file's name; sent/NAME.receipt.json must still fit in 255
RECEIPT = ".receipt.json"
ERROR = ".error.json"
_UNFINISHED = ("~", ".tmp", ".part", ".swp", ".crdownload")


def is_unfinished(name: str) -> bool:
    """Whether the name says that somebody is still at work on the file."""
    return name.startswith(".") or name.endswith(_UNFINISHED)


@dataclass(frozen=True, slots=True)
class SessionFolder:
    """One session's folder; its name is ours, never the session id."""

    root: str
    name: str

    @property
    def path(self) -> str:
        """The folder itself."""
        return os.path.join(self.root, self.name)

    @property
    def inbox(self) -> str:
        """The inbox that is being appended to."""
        return os.path.join(self.path, "inbox.jsonl")

    def rotated_inbox(self, first_seq: int) -> str:
        """An earlier part of the inbox, named for its first line."""
        return os.path.join(self.path, f"inbox-{first_seq}.jsonl")

    def damaged_inbox(self, stamp: str) -> str:
        """Where bytes go that are neither a line of ours nor the beginning of one."""
        return os.path.join(self.path, f"inbox.damaged-{stamp}")

    @property
    def outbox(self) -> str:
        """Where files are dropped."""
        return os.path.join(self.path, "outbox")

    @property
    def sent(self) -> str:
        """Accepted files and their receipts."""
        return os.path.join(self.path, "sent")

    @property
    def failed(self) -> str:
        """Files that will not be sent, and why."""
        return os.path.join(self.path, "failed")

    @property
    def view(self) -> str:
        """What agents may read of the state."""
        return os.path.join(self.path, "session.json")

    @property
    def own(self) -> str:
        """The daemon's own."""
        return os.path.join(self.path, ".nexusd")

    @property
    def state(self) -> str:
        """The daemon's state."""
        return os.path.join(self.own, "state.json")

    @property
    def released(self) -> str:
        """An empty file for each name that a person lets pass the secret guard."""
        return os.path.join(self.own, "released")

    @property
    def sending(self) -> str:
        """Claimed files and their intents."""
        return os.path.join(self.own, "sending")

    def identity(self) -> tuple[int, int] | None:
        """Which folder the daemon's own one is, by device and inode; None where there is none."""
        try:
            found = os.stat(self.own, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino

    def make(self) -> None:
        """Make what is missing, 0700."""
        for path in (self.outbox, self.sent, self.failed, self.sending):
            atomic.private_folder(path)

    def mend(self) -> None:
        """Make what is missing in the folder, but not that itself: its volume may have been taken away just now."""
        for path in (self.outbox, self.sent, self.failed, self.sending):
            if not os.path.isdir(path):
                with contextlib.suppress(FileExistsError):  # a file in the way is told by whoever needs the folder
                    os.mkdir(path, 0o700)
                atomic.fsync_folder(os.path.dirname(path))

    def check(self) -> None:
        """UserError where the places of a file are not on one file system: a move between them is no rename then."""
        for path in (self.sent, self.failed, self.sending):
            if os.stat(path).st_dev != os.stat(self.outbox).st_dev:
                raise UserError(
                    "other_file_system", f"{path} is on another file system than {self.outbox}; they must be on one"
                )


def lock_file(root: str) -> str:
    """The lock that keeps one daemon to a root."""
    return os.path.join(root, ".nexusd", "lock")


def root_id_file(root: str) -> str:
    """Which root this is."""
    return os.path.join(root, ".nexusd", "id")


def report_file(root: str) -> str:
    """What the daemon says of itself, for `nexusd status`."""
    return os.path.join(root, REPORT)
