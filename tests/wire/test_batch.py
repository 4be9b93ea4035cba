"""A poll's answer, message by message."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusd.errors import Fate, RequestError
from nexusd.wire import batch, calls
from nexusd.wire.fate import Answer

CALL = calls.poll("5e" * 24, "me")


def msg(cursor: object, text: str = "hi", **more: object) -> dict[str, object]:
    return {"id": f"m{cursor}", "agentId": "bob", "cursor": cursor, "verified": True, "text": text, **more}


def read(body: object, *, cut: bool = False) -> batch.Batch:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return batch.read(CALL, Answer(200, {}, data, cut))


def with_raw(raw: bytes) -> batch.Batch:
    """A batch of three, the middle one as given."""
    first, last = (json.dumps(msg(str(n))).encode() for n in (1, 3))
    return read(b'{"messages":[' + first + b"," + raw + b"," + last + b'],"nextCursor":"3"}')


def test_a_message_keeps_every_field_as_the_servers_own_text():
    found = read(b'{"messages":[{"cursor":"1","n":1.10,"new":{"x":[1e999]},"text":"a\\u00e9"}]}').messages[0]
    assert found.fields == {"cursor": b'"1"', "n": b"1.10", "new": b'{"x":[1e999]}', "text": b'"a\\u00e9"'}
    assert found.text == "aé"
    assert found.raw is None


def test_what_a_message_says_of_itself_is_read():
    found = read({"messages": [msg("7", expiresAt="1970-01-01T00:01:00Z")]}).messages[0]
    assert (found.cursor, found.id, found.agent_id, found.verified) == (7, "m7", "bob", True)
    assert found.expires_at == 60.0


@pytest.mark.parametrize("verified", [1, "true", None, "yes", [True]])
def test_verified_is_the_word_true_and_nothing_else(verified):
    assert read({"messages": [msg("1", verified=verified)]}).messages[0].verified is False


@pytest.mark.parametrize(
    ("reply", "cursor"),
    [
        ({}, None),
        ({"nextCursor": None}, None),
        ({"nextCursor": "12"}, 12),
        ({"nextCursor": 12}, 12),
        ({"nextCursor": "0"}, 0),
        ({"nextCursor": ""}, None),
        ({"nextCursor": -1}, None),
        ({"nextCursor": 1.5}, None),
        ({"nextCursor": True}, None),
        ({"nextCursor": "\uff11"}, None),
        ({"nextCursor": {"x": 1}}, None),
    ],
)
def test_the_next_cursor_comes_in_odd_forms(reply, cursor):
    assert read({"messages": [], **reply}).next_cursor == cursor


def test_a_next_cursor_beyond_any_number_hides_no_message():
    body = b'{"messages":[' + json.dumps(msg("1")).encode() + b'],"nextCursor":' + b"9" * 5000 + b"}"
    assert [m.cursor for m in read(body).messages] == [1]
    body = b'{"messages":[' + json.dumps(msg("1")).encode() + b'],"nextCursor":' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert [m.cursor for m in read(body).messages] == [1]


@pytest.mark.parametrize("members", [None, 5, {}, "x"])
def test_members_in_no_known_form_are_unknown(members):
    assert read({"messages": [], "members": members}).members is None


def test_members_are_objects():
    assert read({"messages": [], "members": [{"agentId": "a"}, 3, None]}).members == [{"agentId": "a"}]


@given(st.permutations([str(n) for n in range(12)]))
def test_order_is_the_cursors_and_nothing_else(cursors):
    found = read({"messages": [msg(c, sentAt=f"{99 - int(c)}") for c in cursors]}).messages
    assert [m.cursor for m in found] == list(range(12))


def test_one_without_a_cursor_stays_behind_the_one_it_came_after():
    found = read({"messages": [msg("3"), msg(None, "x"), msg("1"), msg(None, "y"), msg("2")]}).messages
    assert [(m.cursor, m.text) for m in found] == [(1, "hi"), (None, "y"), (2, "hi"), (3, "hi"), (None, "x")]


UNDECODABLE = {
    "deep nesting": b'{"cursor":"2","id":"m2","json":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": b'{"cursor":"2","id":"m2","n":NaN}',
    "Infinity": b'{"cursor":2,"id":"m2","n":-Infinity}',
    "invalid UTF-8": b'{"cursor":"2","id":"m2","text":"\xff\xfe"}',
    "bytes of a surrogate": b'{"cursor":"2","id":"m2","text":"\xed\xa0\x80"}',
    "single quotes": b'{"cursor":"2","id":"m2",\'x\':1}',
    "too large": b'{"cursor":"2","id":"m2","text":"' + b"x" * batch.LARGEST + b'"}',
    "a large one of escapes": b'{"cursor":"2","id":"m2","text":"' + b'\\"' * (batch.LARGEST // 2) + b'"}',
}


@pytest.mark.parametrize("what", UNDECODABLE)
def test_a_message_that_cannot_be_decoded_hides_no_other(what):
    raw = UNDECODABLE[what]
    first, bad, last = with_raw(raw).messages
    assert (first.cursor, first.text, last.cursor, last.text) == (1, "hi", 3, "hi")
    assert (bad.cursor, bad.id, bad.raw, bad.fields) == (2, "m2", raw, {})


@pytest.mark.parametrize("raw", [b"null", b"5", b'"x"', b"[]", b"{}", b'{"text":"x"}', b'{"cursor":"x"}'])
def test_an_element_without_a_cursor_hides_no_other(raw):
    first, odd, last = with_raw(raw).messages
    assert (first.cursor, odd.cursor, last.cursor) == (1, None, 3)
    assert (odd.raw is None) == raw.startswith(b"{")


def test_a_lone_surrogate_is_no_reason_to_be_undecodable():
    first, odd, last = with_raw(b'{"cursor":"2","text":"a\\ud800b","n":1.10}').messages
    assert (first.cursor, odd.cursor, last.cursor) == (1, 2, 3)
    assert odd.raw is None
    assert odd.fields["text"] == b'"a\\ud800b"'
    assert odd.fields["n"] == b"1.10"


@pytest.mark.parametrize("raw", [b'{"cursor":"2","cursor":"5"}', b'{"cursor":"2","x":"\\ud800","cursor":"5"}'])
def test_the_last_of_two_cursors_counts_as_in_every_decoder(raw):
    assert 5 in [m.cursor for m in with_raw(raw).messages]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'"x"',
        b'{"messages":null}',
        b'{"messages":{}}',
        b'{"messages":"x"}',
        b'{"messages":[',
        b'{"messages":[{"cursor":"1"}',
        b'{"error":"x"}',
        b"[" * 100000,
        b"\xff",
        b"[[1]]",
    ],
)
def test_what_is_no_list_of_messages_is_refused_as_a_whole(body):
    with pytest.raises(RequestError) as caught:
        read(body)
    assert (caught.value.fate, caught.value.code) == (Fate.MAYBE_SENT, "non_json_response")


def test_of_a_cut_answer_the_whole_messages_are_taken():
    body = json.dumps({"messages": [msg(str(n)) for n in range(1, 4)]}).encode()
    for length in range(body.index(b"m1"), len(body)):
        whole = body[:length].count(b"},") + body[:length].count(b"}]")  # only what follows says that it is whole
        if not whole:
            continue
        found = read(body[:length], cut=True)
        assert found.cut
        assert [m.cursor for m in found.messages] == list(range(1, whole + 1))
        assert all(m.raw is None for m in found.messages)


@pytest.mark.parametrize("inside", ["a }, b", "]}, {", '{"x": 1}, ', "[1, 2], "])
def test_a_message_that_was_cut_within_its_text_is_not_taken_for_whole(inside):
    body = json.dumps({"messages": [msg("1"), msg("2", inside + "and so on")]}).encode()
    cut = body[: body.index(b"and so on")]
    assert [m.cursor for m in read(cut, cut=True).messages] == [1]


def test_one_message_larger_than_all_that_is_read_is_passed_on_cut():
    body = b'{"messages":[{"cursor":"5","id":"m5","text":"' + b"a }, b" * 100
    found = read(body, cut=True)
    assert found.cut
    assert [(m.cursor, m.id) for m in found.messages] == [(5, "m5")]
    assert found.messages[0].raw == body.partition(b"[")[2]


def test_one_larger_than_all_that_is_read_and_without_a_place_stops_rather_than_loses():
    with pytest.raises(RequestError, match="too large"):
        read(b'{"messages":[{"text":"' + b"x" * 100, cut=True)


@given(st.binary(max_size=60))
def test_no_answer_breaks_more_than_itself(body):
    for data in (body, b'{"messages":[' + body + b"]}", b'{"messages":[{"cursor":"1"},{' + body + b"}]}"):
        for cut in (False, True):
            try:
                found = read(data, cut=cut)
            except RequestError:
                continue
            assert isinstance(found.messages, list)
