"""The messages that a session holds."""

from __future__ import annotations

from nexusd.relay.session import Message, Session


def filled(*lifetimes: int) -> Session:
    session = Session("s", 60, 50, 0.0, 1e9)
    for cursor, lifetime in enumerate(lifetimes, 1):
        session.append(Message(f"m{cursor}", "alice", cursor, False, 0.0, float(lifetime), text="x"))
    return session


def test_what_has_expired_is_forgotten_and_cursors_still_find_the_rest() -> None:
    session = filled(10, 10, 20, 20)
    session.forget_expired(10)
    assert [m.cursor for m in session.messages] == [3, 4]
    assert [m.cursor for m in session.after(None, 10)] == [3, 4]
    assert [m.cursor for m in session.after(3, 10)] == [4]
    assert session.weight == sum(m.weight for m in session.messages)


def test_one_that_is_over_behind_a_longer_lived_one_is_hidden_and_goes_with_it() -> None:
    session = filled(30, 10, 30)
    session.forget_expired(15)
    assert [m.cursor for m in session.after(0, 15)] == [1, 3]
    session.forget_expired(30)
    assert session.messages == []
    assert session.weight == 0


def test_a_message_shows_only_what_it_has() -> None:
    shown = Message("m", "alice", 7, True, 0.0, 60.0, text="hi").as_reply()
    assert shown == {
        "id": "m",
        "agentId": "alice",
        "text": "hi",
        "cursor": "7",
        "verified": True,
        "sentAt": "1970-01-01T00:00:00.000Z",
        "expiresAt": "1970-01-01T00:01:00.000Z",
    }
