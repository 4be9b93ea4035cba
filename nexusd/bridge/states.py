"""The states of a session and what leads from one to the other: all of it, here."""

from __future__ import annotations

import enum


class Status(enum.StrEnum):
    """What `session.json` shows as `state`."""

    JOINING = "joining"
    ACTIVE = "active"
    BACKOFF = "backoff"
    EVICTED = "evicted"
    EXPIRED = "expired"
    LEFT = "left"
    STOPPED = "stopped"


class Event(enum.Enum):
    """What can happen to a session."""

    ANSWERED = enum.auto()  # the server dealt with us as a member
    FAILED = enum.auto()  # a temporary failure
    PUT_OUT = enum.auto()  # not a member any more, and not in again yet
    GONE = enum.auto()  # the session does not exist, said twice
    LEFT = enum.auto()  # a hand left it
    REFUSED = enum.auto()  # we must not go on: a person has to decide


_S, _E = Status, Event
ENDED = frozenset({_S.EXPIRED, _S.LEFT, _S.STOPPED})
_ALIVE = (_S.JOINING, _S.ACTIVE, _S.BACKOFF, _S.EVICTED)

TABLE: dict[tuple[Status, Event], Status] = {
    **{(state, _E.ANSWERED): _S.ACTIVE for state in _ALIVE},
    (_S.JOINING, _E.FAILED): _S.BACKOFF,
    (_S.ACTIVE, _E.FAILED): _S.BACKOFF,
    (_S.BACKOFF, _E.FAILED): _S.BACKOFF,
    (_S.EVICTED, _E.FAILED): _S.EVICTED,
    **{(state, _E.PUT_OUT): _S.EVICTED for state in _ALIVE},
    **{(state, _E.GONE): _S.EXPIRED for state in _ALIVE},
    **{(state, _E.LEFT): _S.LEFT for state in _ALIVE},
    **{(state, _E.REFUSED): _S.STOPPED for state in _ALIVE},
    # A request that was under way when the session ended comes back later and changes nothing.
    **{(state, event): state for state in ENDED for event in Event},
}


def after(state: Status, event: Event) -> Status:
    """The next state; KeyError for what cannot happen."""
    return TABLE[state, event]
