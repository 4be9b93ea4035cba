"""What the server answers, as records."""

from __future__ import annotations

import json

import pytest

from nexusd.errors import Fate, RequestError
from nexusd.wire import calls, records
from nexusd.wire.fate import Answer

CALL = calls.health()


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "agents",
    [["alice", "bob"], [{"agentId": "alice", "joinedAt": "x"}, {"agentId": "bob"}], ["alice", {"agentId": "bob"}]],
)
def test_agents_are_read_in_both_forms(agents):
    assert records.Session.of({"sessionId": "s", "agents": agents}).agents == ("alice", "bob")


@pytest.mark.parametrize("agents", [None, 3, "alice", {}, [None, 1, {"x": 1}, {"agentId": 3}, []]])
def test_agents_in_no_known_form_are_nobody(agents):
    assert records.Session.of({"sessionId": "s", "agents": agents}).agents == ()
    assert records.Session.of({"sessionId": "s"}).agents == ()


@pytest.mark.parametrize("raw", [{}, {"sessionId": None}, {"sessionId": ""}, {"sessionId": 5}])
def test_a_session_without_an_id_is_no_session(raw):
    with pytest.raises(KeyError, match="sessionId"):
        records.Session.of(raw)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("12", 12),
        (12, 12),
        ("0", 0),
        (0, 0),
        ("007", 7),
        ("9" * 30, int("9" * 30)),
        ("9" * 31, None),
        ("", None),
        (None, None),
        (True, None),
        (-1, None),
        ("-1", None),
        ("1_0", None),
        ("\uff11\uff12", None),
        (" 1", None),
        ("1\n", None),
        (1.0, None),
        ([1], None),
    ],
)
def test_a_cursor_is_a_whole_number_or_a_string_of_ascii_digits(value, number):
    assert records.cursor_number(value) == number


@pytest.mark.parametrize("ttl", [None, "60", True, 0, -5, [60], 1e999, 10**400, 1e30])
def test_a_time_to_live_that_makes_no_sense_is_unknown(ttl):
    assert records.Lease.of({"ttl": ttl}) == records.Lease(None, None)


def test_a_lease_takes_what_the_reply_says():
    lease = records.Lease.of({"ttl": 3660, "expiresAt": "1970-01-01T00:01:00Z"})
    assert lease == records.Lease(3660.0, 60.0)
    assert records.Lease.of({"ttl": 61.5}).ttl == 61.5


@pytest.mark.parametrize(
    "raw",
    [{}, {"id": "m"}, {"cursor": "1"}, {"id": "", "cursor": "1"}, {"id": 3, "cursor": "1"}, {"id": "m", "cursor": "x"}],
)
def test_an_accepted_message_has_an_id_and_a_cursor(raw):
    with pytest.raises(KeyError):
        records.Sent.of(raw)
    assert records.Sent.of({"id": "m", "cursor": 5}).cursor == 5


@pytest.mark.parametrize(
    ("more", "redacted"),
    [
        ({}, False),
        ({"redacted": True}, True),
        ({"redacted": False}, False),
        ({"warning": "text was redacted"}, True),
        ({"warnings": ["what looked like a secret was replaced"]}, True),
        ({"warning": "the session expires soon"}, False),
        ({"warnings": [{"code": "REDACTED"}]}, True),
        ({"warning": "slow down"}, False),
        ({"note": "nothing redacted"}, False),
    ],
)
def test_a_receipt_says_whether_the_text_was_redacted_however_the_server_says_it(more, redacted):
    assert records.Sent.of({"id": "m", "cursor": "1", **more}).redacted is redacted


@pytest.mark.parametrize(
    ("raw", "takes_json", "long_poll"),
    [
        ({}, False, False),
        ({"capabilities": None}, False, False),
        ({"capabilities": {"messageFormat": "json"}}, False, False),
        ({"capabilities": {"messageFormat": ["text"]}}, False, False),
        ({"capabilities": {"messageFormat": ["text", "json"]}}, True, False),
        ({"capabilities": {"messageFormat": ["json"], "longPoll": True}}, True, True),
        ({"capabilities": {"longPoll": 1}}, False, False),
    ],
)
def test_an_old_server_takes_text_only(raw, takes_json, long_poll):
    health = records.Health.of(raw)
    assert (health.takes_json, health.long_poll) == (takes_json, long_poll)


@pytest.mark.parametrize("uptime", [None, "5", True, 10**400])
def test_an_uptime_that_makes_no_sense_is_unknown(uptime):
    assert records.Health.of({"uptime": uptime}).uptime is None
    assert records.Health.of({"uptime": 5}).uptime == 5.0


def test_no_record_shows_a_secret():
    shown = "".join(
        map(
            repr,
            (
                records.Session.of({"sessionId": "SECRET", "sessionKey": "SECRET"}),
                records.Joined.of({"sessionId": "SECRET", "sessionKey": "SECRET"}),
                records.PairingCode.of({"code": "SECRET", "url": "SECRET"}),
                records.Sent.of({"id": "m", "cursor": "1", "x": "SECRET"}),
                records.Health.of({"x": "SECRET"}),
            ),
        )
    )
    assert "SECRET" not in shown
    assert "Session(" in shown


def test_a_record_keeps_fields_that_nobody_knows_yet():
    assert records.Joined.of({"sessionKey": "k", "new": {"x": 1}}).raw["new"] == {"x": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'"x"',
        b'{"a":NaN}',
        b"\xff",
        b"[" * 100_000,
        '{"a":1}'.encode("utf-16"),
        b"1" * 5000,
    ],
)
@pytest.mark.parametrize("status", [200, 201])
def test_a_success_that_cannot_be_read_may_have_been_acted_on(status, body):
    with pytest.raises(RequestError) as caught:
        records.json_object(CALL, Answer(status, {}, body))
    assert (caught.value.fate, caught.value.code) == (Fate.MAYBE_SENT, "non_json_response")


def test_an_answer_longer_than_was_read_is_not_believed():
    with pytest.raises(RequestError, match="longer than"):
        records.json_object(CALL, Answer(200, {}, b"{}", cut=True))
    assert records.json_object(CALL, Answer(200, {}, json.dumps({"a": 1}).encode())) == {"a": 1}


@pytest.mark.parametrize("raw", [{}, {"ok": True}, {"status": "ok", "uptime": 5}, {"error": None}])
def test_a_success_that_holds_nothing_of_the_protocol_is_none(raw):
    """A gateway's: nothing was renewed, and nobody has entered."""
    with pytest.raises(KeyError):
        records.Session.of(raw, "s")
    with pytest.raises(KeyError):
        records.Joined.of(raw)


@pytest.mark.parametrize("raw", [{"ttl": 60}, {"state": "active"}, {"expiresAt": None}, {"agents": []}])
def test_any_word_of_the_protocol_is_enough_for_a_success(raw):
    assert records.Session.of(raw, "s").session_id == "s"
    assert records.Joined.of({"status": "joined"}).session_key is None
    assert records.Joined.of({"agentsOnline": 2}).session_key is None


@pytest.mark.parametrize("other", ["t", "", None, 5])
def test_a_reply_about_another_session_is_none_about_this_one(other):
    with pytest.raises(KeyError):
        records.Session.of({"sessionId": other, "ttl": 60}, "s")
