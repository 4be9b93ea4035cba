"""What the daemon remembers of a session between two lives: `.nexusd/state.json`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import msgspec

from nexusd.errors import UserError
from nexusd.spool import atomic

if TYPE_CHECKING:
    from nexusd.spool.layout import SessionFolder

VERSION = 1


REMEMBERED = 20  # sessions that had this name before


class Place(msgspec.Struct, omit_defaults=True):
    """How far another session of this name was read: its id may come back, by a slip of the hand that is mended."""

    cursor: int | None = None
    last: str = ""
    highest: int | None = None
    epoch: int = 0
    reread: bool = False


class State(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One session's memory. Times are Unix seconds; cursors are numbers."""

    version: int = VERSION
    server: str = ""  # where it lives: it is not asked for anywhere else, whatever becomes of the local record
    name: str = ""  # whose folder it is in: one that is moved to another session's place brings files for its own
    digest: str = ""  # of server and session id: another session under an old name is noticed
    pointed_at: float | None = None  # since when it has this name; by the file system's clock
    joined: bool = False  # we were in; if the local record is gone now, a hand has left the session
    joining: str = ""  # the agent id of a join that was begun and never answered: it may have put us in
    doubted: bool = False  # we were out, and our name was taken: without our key nothing is sent or polled
    ended: Literal["", "expired", "left"] = ""  # no more requests
    asked_again: int = 0  # how often an expired session was asked for again
    seq: int = 0  # lines written to the inbox
    cursor: int | None = None  # everything up to here is in the inbox
    last: str = ""  # identity of the message at `cursor`: another one there means that the server restarted
    highest: int | None = None  # the highest cursor known from polls and answers
    epoch: int = 0  # counts the server's restarts, as far as they were noticed
    reread: bool = False  # a restart was noticed and what the server has now is not read yet
    echo: bool | None = None  # whether polls show our own messages; None: not learned yet
    ttl: float | None = None  # seconds
    expires_at: float | None = None  # by the server's clock
    last_poll_at: float | None = None
    last_message_at: float | None = None  # either way
    quiet: float = 0.0  # seconds without a message either way in which a daemon was at work: `renew_for` counts them
    verifies: bool = False  # polls show messages of ours as verified: then nothing else need tell that they are ours
    unverified: list[str] = []  # ids of messages of ours that went without a key: nothing else tells that they are ours
    rejoined_at: list[float] = []
    noticed: list[str] = []  # ids of notices that hold until their cause is over
    before: dict[str, Place] = {}  # by digest, the latest last

    def turned_to(self, digest: str) -> State:
        """What another session under this name begins with: the count of lines goes on, nothing else does.

        One that had the name before goes on where it was.
        """
        before = dict(self.before)
        if self.cursor is not None:
            before.pop(self.digest, None)
            before[self.digest] = Place(self.cursor, self.last, self.highest, self.epoch, self.reread)
        place = msgspec.structs.asdict(before.get(digest, Place()))
        kept = dict(list(before.items())[-REMEMBERED:])
        return State(seq=self.seq, digest=digest, before=kept, **place)


class _Versioned(msgspec.Struct):
    version: int = VERSION


def digest_of(server: str, session: str) -> str:
    """The id's digest. Ids have 128 bits or more, so it gives nothing away."""
    return hashlib.sha256(f"{server}\n{session}".encode()).hexdigest()


def load(folder: SessionFolder) -> State | None:
    """The state, or None where there is none or it cannot be read: the inbox then tells what matters most.

    UserError where a newer nexusd wrote it, by its version or by a value that this one does not know: going on would
    overwrite what this one does not understand.
    """
    data = atomic.read_small(folder.state)
    if not data:
        return None
    newer = UserError("newer_state", f"{folder.state} was written by a newer nexusd; run that one, or a later one")
    try:
        if msgspec.json.decode(data, type=_Versioned).version > VERSION:
            raise newer
        state = msgspec.json.decode(data, type=State)
        return None if state.seq < 0 or (state.cursor or 0) < 0 else state
    except msgspec.ValidationError as fault:
        if str(fault).startswith("Invalid enum value"):
            raise newer from None
        return None
    except (ValueError, RecursionError):
        return None


def save(folder: SessionFolder, state: State) -> None:
    """Replace the state, durably."""
    atomic.replace(folder.state, msgspec.json.encode(state) + b"\n")
