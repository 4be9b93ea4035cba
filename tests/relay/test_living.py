"""What ends by itself, and that nothing stays behind."""

from __future__ import annotations

from nexusd.relay.ledger import NoLedger
from nexusd.relay.living import Living
from nexusd.relay.session import Member, Session


class Recorder(NoLedger):
    def __init__(self, *known: Session) -> None:
        self.known = known
        self.calls: list[tuple] = []

    def sessions(self):
        return self.known

    def renewed(self, session_id, ttl, expires_at) -> None:
        self.calls.append(("renewed", session_id, ttl))

    def ended(self, session_ids) -> None:
        self.calls.append(("ended", *session_ids))

    def left(self, session_id, agent_ids) -> None:
        self.calls.append(("left", session_id, *agent_ids))


def a_session(clock, name="s", ttl=60) -> Session:
    return Session(name, ttl, 50, clock.now, clock.now + ttl)


def test_a_session_that_is_over_goes_from_memory_and_ledger_without_being_asked_for(clock) -> None:
    ledger = Recorder()
    living = Living(clock, ledger)
    living.open(a_session(clock, "short", 60))
    living.open(a_session(clock, "long", 600))
    clock.pass_by(60)
    living.sweep()
    assert living.count() == (1, 0)
    assert ledger.calls == [("ended", "short")]
    assert list(living._sessions) == ["long"]


def test_a_year_of_renewals_leaves_one_heap_entry(clock) -> None:
    living = Living(clock, NoLedger())
    session = a_session(clock)
    living.open(session)
    for ttl in (60, 3600) * 500:
        living.extend(session, ttl)
        clock.pass_by(30)
        living.sweep()
    assert living.count() == (1, 0)
    clock.pass_by(3600)
    living.sweep()
    assert living.count() == (0, 0)
    assert living._due == []


def test_what_was_over_at_the_start_is_dropped_then(clock) -> None:
    over, alive = a_session(clock, "over"), a_session(clock, "alive", 3600)
    clock.pass_by(100)
    ledger = Recorder(over, alive)
    assert Living(clock, ledger).count() == (1, 0)
    assert ledger.calls == [("ended", "over")]


def test_nobody_is_called_silent_for_the_time_before_a_restart(clock) -> None:
    session = a_session(clock, ttl=86_400)
    session.members["bob"] = Member(b"", clock.now, clock.now)
    clock.pass_by(1000)
    ledger = Recorder(session)
    living = Living(clock, ledger, inactive_after=500)
    assert list(living.find("s").members) == ["bob"]
    clock.pass_by(500)
    assert list(living.find("s").members) == []
    assert ledger.calls == [("left", "s", "bob")]
