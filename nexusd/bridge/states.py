"""The states of a session and what leads from one to the other: all of it, here."""

from __future__ import annotations

import enum


class Status(enum.StrEnum):
    """What `session.json` shows as `state`."""

    JOINING = "joining"
    ACTIVE = "active"
    BACKOFF = "backoff"  # the server, or the way to it
    BLOCKED = "blocked"  # something on this machine: the disk, a folder, a lock, a file of ours
    EVICTED = "evicted"
    EXPIRED = "expired"
    LEFT = "left"
    STOPPED = "stopped"


class Event(enum.Enum):
    """What can happen to a session."""

    ANSWERED = enum.auto()  # the server dealt with us as a member
    FAILED = enum.auto()  # a temporary failure of the server, or of the way to it
    BLOCKED = enum.auto()  # a failure on this machine; it is tried again until it has passed
    PUT_OUT = enum.auto()  # not a member any more, and not in again yet
    GONE = enum.auto()  # the session does not exist: said twice, and by three looks
    FOUND = enum.auto()  # it exists after all
    LEFT = enum.auto()  # a hand left it
    REFUSED = enum.auto()  # we must not go on: a person has to decide


_S, _E = Status, Event

# The whole list of what stops a session for good: nothing else does. Each outlives a restart of the daemon.
ENDED = frozenset(
    {
        _S.EXPIRED,  # it is over; asked for again for an hour, and at each start
        _S.LEFT,  # left by hand; a new local record opens it again
        _S.STOPPED,  # the name is somebody else's, or none is known; a person decides
    }
)
_ALIVE = (_S.JOINING, _S.ACTIVE, _S.BACKOFF, _S.BLOCKED, _S.EVICTED)

TABLE: dict[tuple[Status, Event], Status] = {
    **{(state, _E.ANSWERED): _S.ACTIVE for state in _ALIVE},
    **{(state, _E.FAILED): _S.BACKOFF for state in _ALIVE},
    (_S.EVICTED, _E.FAILED): _S.EVICTED,
    **{(state, _E.BLOCKED): _S.BLOCKED for state in _ALIVE},
    **{(state, _E.PUT_OUT): _S.EVICTED for state in _ALIVE},
    **{(state, _E.GONE): _S.EXPIRED for state in _ALIVE},
    **{(state, _E.FOUND): state for state in _ALIVE},
    **{(state, _E.LEFT): _S.LEFT for state in _ALIVE},
    **{(state, _E.REFUSED): _S.STOPPED for state in _ALIVE},
    # A request that was under way when the session ended comes back later and changes nothing.
    **{(state, event): state for state in ENDED for event in Event},
    (_S.EXPIRED, _E.FOUND): _S.JOINING,
}


def after(state: Status, event: Event) -> Status:
    """The next state; KeyError for what cannot happen."""
    return TABLE[state, event]
