"""What an answer means: every row of the table."""

from __future__ import annotations

import json

import pytest

from nexusd.errors import Fate
from nexusd.wire import calls, fate
from nexusd.wire.fate import Answer, fate_of

SESSION, KEY = "5e" * 24, "k" * 64
CALL = calls.send(SESSION, "me", KEY, text="hi")


@pytest.mark.parametrize("status", [None, 200, 404, 500])
@pytest.mark.parametrize("code", [None, "session_not_found"])
def test_what_was_not_written_was_not_sent_whatever_else_is_known(status, code):
    assert fate_of(status, code, written=False) is Fate.NOT_SENT


@pytest.mark.parametrize("status", [None, 200, 201, 204, 299, 408, 500, 501, 502, 503, 504, 520, 599])
@pytest.mark.parametrize("code", [None, "internal_error"])
def test_a_lost_or_unreadable_answer_leaves_open_whether_it_was_sent(status, code):
    assert fate_of(status, code) is Fate.MAYBE_SENT


@pytest.mark.parametrize("status", [100, 101, 103, 300, 301, 302, 304, 307, 308])
def test_redirects_were_not_acted_on(status):
    assert fate_of(status) is Fate.NOT_SENT


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, None),
        (429, "rate_limit_exceeded"),
        (412, None),
        (412, "x"),
        (403, "cooldown_active"),
        (400, "cooldown_active"),
    ],
)
def test_too_much_at_the_moment_is_to_wait(status, code):
    assert fate_of(status, code) is Fate.WAIT


def test_only_the_protocols_own_word_says_that_a_session_is_gone():
    assert fate_of(404, "session_not_found") is Fate.GONE
    assert fate_of(404) is Fate.NOT_SENT
    assert fate_of(404, "agent_not_found") is Fate.REFUSED
    assert fate_of(403, "session_not_found") is Fate.REFUSED
    assert fate_of(410, "session_not_found") is Fate.NOT_SENT


@pytest.mark.parametrize("status", [400, 422])
def test_case_107_a_messages_content_is_refused_only_in_the_protocols_own_words(status):
    assert fate_of(status, "invalid_body") is Fate.REFUSED
    assert fate_of(status, "payload_too_large") is Fate.REFUSED
    assert fate_of(status) is Fate.NOT_SENT
    assert fate_of(status, "blocked_by_policy") is Fate.NOT_SENT


@pytest.mark.parametrize("code", [None, "payload_too_large", "Request Entity Too Large"])
def test_what_is_too_large_is_refused_whoever_says_so(code):
    assert fate_of(413, code) is Fate.REFUSED


@pytest.mark.parametrize("status", [401, 403, 404, 409])
def test_case_106_a_membership_ends_only_with_the_protocols_own_word(status):
    for code in ("forbidden", "agent_not_in_session", "invalid_session_key", "agent_id_taken", "session_full"):
        assert fate_of(status, code) is Fate.REFUSED
    for code in (None, "unauthorized", "Forbidden", "FORBIDDEN", "access_denied", "content_blocked", ""):
        assert fate_of(status, code) is Fate.NOT_SENT


@pytest.mark.parametrize("status", [402, 405, 406, 407, 410, 411, 414, 415, 418, 421, 423, 431, 451, 499])
@pytest.mark.parametrize("code", [None, "forbidden", "session_not_found", "invalid_body", "gone"])
def test_case_107_any_other_refusal_was_said_by_something_in_between(status, code):
    assert fate_of(status, code) is Fate.NOT_SENT


def test_case_111_a_session_that_holds_all_it_can_is_to_wait():
    assert fate_of(503, "session_memory_full") is Fate.WAIT
    assert fate_of(503, "unavailable") is Fate.MAYBE_SENT


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_has_a_fate_and_no_success_is_a_refusal(status):
    assert isinstance(fate_of(status), Fate)
    assert (fate_of(status) is Fate.MAYBE_SENT) == (200 <= status < 300 or status == 408 or status >= 500)


def answer(status: int, body: object = b"", **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def test_the_servers_words_and_code_are_passed_on():
    fault = fate.refused(CALL, answer(403, {"error": "forbidden", "message": "not a member", "details": [1]}))
    assert (fault.fate, fault.code, str(fault), fault.status) == (Fate.REFUSED, "forbidden", "not a member", 403)
    assert fault.body == {"error": "forbidden", "message": "not a member", "details": [1]}


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b'{"error":1}', b'{"error":{"code":"x"}}', b"[" * 100_000, b"\xff", b"1" * 5000],
)
def test_without_the_protocols_error_object_a_proxy_has_spoken(body):
    fault = fate.refused(CALL, answer(404, body))
    assert (fault.fate, fault.code, fault.body) == (Fate.NOT_SENT, "non_json_response", None)
    assert fate.refused(CALL, answer(429, body)).code == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": " 7 "}, 7.0),
        ({"retry_after": "99999999999999999999999"}, fate.LONGEST_WAIT),
        ({"retry_after": "9" * 400}, fate.LONGEST_WAIT),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "7.5"}, None),
        ({"retry_after": "\uff17"}, None),
        ({"retry_after": "soon"}, None),
        ({}, None),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:29:00 GMT"}, 0.0),
        ({"retry_after": "Wed, 21 Oct 2099 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 300.0),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),  # by whose clock?
        ({"retry_after": "Wed, 99 Oct 99999 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
)
def test_how_long_to_wait_is_read_in_every_form_and_never_believed_beyond_five_minutes(headers, seconds):
    assert fate.refused(CALL, answer(429, **headers)).retry_after == seconds


@pytest.mark.parametrize("date", ["", "yesterday", "Wed, 99 Oct 2026 07:28:00 GMT"])
def test_a_date_that_cannot_be_read_is_no_date(date):
    assert Answer(200, {"date": date}).server_time is None
    assert Answer(200).server_time is None
    assert Answer(200, {"date": "Thu, 01 Jan 1970 00:01:00 GMT"}).server_time == 60.0


def test_no_error_holds_a_secret_of_its_call():
    body = {"error": "forbidden", "message": f"{SESSION} {KEY}", "details": [{SESSION: [KEY]}, 1, None]}
    fault = fate.refused(CALL, answer(403, body))
    shown = f"{fault} {fault.body} {fault!r}"
    assert SESSION not in shown
    assert KEY not in shown
    assert "[secret]" in shown
    fault = fate.unanswered(CALL, "answer_lost", f"cannot reach http://x/v1/sessions/{SESSION}", written=True)
    assert str(fault) == "cannot reach http://x/v1/sessions/[secret]"


def test_words_from_outside_are_printable_and_short():
    fault = fate.refused(CALL, answer(403, {"error": "x", "message": "\x1b[2J\n" + "y" * 10_000}))
    assert str(fault).isprintable()
    assert len(str(fault)) == 500
    assert str(fault).startswith("\ufffd[2J\ufffdy")


def test_a_secret_is_removed_before_the_words_are_cut():
    words = "x" * 480 + KEY
    assert "kkkkkk" not in fate.conceal(CALL, words)


def test_a_redirect_says_so_without_its_target():
    fault = fate.refused(CALL, answer(301, location="https://evil.example/"))
    assert fault.fate is Fate.NOT_SENT
    assert "redirect (301)" in str(fault)
    assert "evil" not in str(fault)
