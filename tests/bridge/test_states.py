"""The states of a session: the whole table."""

from __future__ import annotations

import pytest

from nexusd.bridge.states import ENDED, TABLE, Event, Status, after

S, E = Status, Event
ALIVE = [status for status in Status if status not in ENDED]


def test_every_state_has_an_answer_to_every_event():
    for status in Status:
        for event in Event:
            assert isinstance(after(status, event), Status)
    assert len(TABLE) == len(Status) * len(Event)


@pytest.mark.parametrize("status", sorted(ENDED))
@pytest.mark.parametrize("event", Event)
def test_an_end_is_an_end_whatever_comes_back_late(status, event):
    if (status, event) != (S.EXPIRED, E.FOUND):
        assert after(status, event) is status


def test_case_119a_a_session_that_was_believed_to_be_over_may_turn_out_not_to_be():
    assert after(S.EXPIRED, E.FOUND) is S.JOINING


@pytest.mark.parametrize("status", ALIVE)
def test_a_living_session_follows_what_happens(status):
    assert after(status, E.ANSWERED) is S.ACTIVE
    assert after(status, E.PUT_OUT) is S.EVICTED
    assert after(status, E.BLOCKED) is S.BLOCKED
    assert after(status, E.GONE) is S.EXPIRED
    assert after(status, E.LEFT) is S.LEFT
    assert after(status, E.REFUSED) is S.STOPPED


def test_a_failure_is_for_backing_off_but_does_not_hide_that_we_were_put_out():
    assert [after(status, E.FAILED) for status in (S.JOINING, S.ACTIVE, S.BACKOFF, S.BLOCKED)] == [S.BACKOFF] * 4
    assert after(S.EVICTED, E.FAILED) is S.EVICTED


def test_what_is_not_in_the_table_raises():
    with pytest.raises(KeyError):
        after("asleep", E.ANSWERED)


def test_the_words_are_those_of_the_contract():
    words = {"joining", "active", "backoff", "blocked", "expired", "evicted", "left", "stopped"}
    assert {status.value for status in Status} == words
    assert {status.value for status in ENDED} == {"expired", "left", "stopped"}
