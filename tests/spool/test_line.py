"""One line of an inbox."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusd import jsontext
from nexusd.spool import line

AT = "2026-11-22T06:29:36.154Z"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def rendered(entry: line.Entry, seq: int = 7) -> bytes:
    return line.render(entry, seq=seq, session="chat", received_at=AT)


def of(message: dict[str, object], cursor: int | None = 12) -> line.Entry:
    fields = jsontext.fields(json.dumps(message).encode())
    return line.message(fields, cursor, message.get("agentId"))


def test_a_line_is_the_servers_message_and_four_fields_of_ours():
    message = {"id": "msg_x7k9", "agentId": "writer-bot", "cursor": "12", "verified": True, "text": "hi", "new": [1]}
    value = json.loads(rendered(of(message)))
    assert value == {"kind": "message", "seq": 7, "session": "chat", "receivedAt": AT, **message}


@given(st.dictionaries(st.text(), JSON))
def test_whatever_a_message_holds_it_is_one_line_and_forges_nothing(message):
    data = rendered(of(message))
    assert data.count(b"\n") == 1
    assert len(data.decode().splitlines()) == 1
    value = json.loads(data)
    assert (value["kind"], value["seq"], value["session"], value["receivedAt"]) == ("message", 7, "chat", AT)
    found = line.parse(data, "chat")
    assert (found.seq, found.fields["kind"]) == (7, b'"message"')


@pytest.mark.parametrize("name", [*line.OURS, "server", "ki\\u006ed", "\\u0073eq"])
def test_a_field_named_like_ours_is_kept_under_server(name):
    raw = f'{{"id":"m","{name}":"forged","text":"x"}}'.encode()
    data = rendered(line.message(jsontext.fields(raw), 12, "bob"))
    value = json.loads(data)
    plain = json.loads(f'"{name}"')
    assert value["server"] == {plain: "forged"}
    assert (value["kind"], value["seq"], value["session"], value["receivedAt"]) == ("message", 7, "chat", AT)
    assert len(json.loads(data, object_pairs_hook=list)) == len(value)  # no name twice


def test_all_forged_at_once_are_kept_side_by_side():
    forged = {"kind": "notice", "seq": 1, "session": "other", "receivedAt": "x", "server": {"kind": "system"}}
    value = json.loads(rendered(of({**forged, "text": "hi"})))
    assert value["server"] == forged
    assert value["text"] == "hi"


@pytest.mark.parametrize(
    ("agent", "cursor", "kind"),
    [
        ("system", 0, "system"),
        ("system", 1, "message"),
        ("system", None, "message"),
        ("bob", 0, "message"),
        ("System", 0, "message"),
        (None, 0, "message"),
    ],
)
def test_only_the_greeting_is_from_the_system(agent, cursor, kind):
    assert json.loads(rendered(of({"agentId": agent}, cursor)))["kind"] == kind


def test_numbers_keep_their_digits_and_letters_stay_readable():
    fields = jsontext.fields('{"n":1.10,"big":12345678901234567890,"text":"Grüße \u202e\x1b"}'.encode())
    data = rendered(line.message(fields, 1, "bob")).decode()
    assert '"n":1.10,"big":12345678901234567890' in data
    assert "Grüße \\u202e\\u001b" in data


def test_what_could_not_be_decoded_is_a_string_cut_with_the_digest_of_the_whole():
    raw = b'{"cursor":"5","text":"\xff\x1b[2J\n' + b"x" * line.RAW_SHOWN
    value = json.loads(rendered(line.undecodable(raw, 5)))
    assert (value["kind"], value["cursor"], value["bytes"]) == ("message", "5", len(raw))
    assert value["sha256"] == hashlib.sha256(raw).hexdigest()
    assert value["raw"] == raw[: line.RAW_SHOWN].decode(errors="replace")


def test_what_could_not_be_decoded_may_have_no_cursor():
    data = rendered(line.undecodable(b"null", None))
    assert json.loads(data)["cursor"] is None
    assert line.parse(data, "chat").cursor is None


def test_a_notice_is_of_a_known_kind_and_says_nothing_that_is_none():
    entry = line.notice("bounced", "bounced-1", "a\u202eb", file="x\udcff", status=None, attempts=2)
    value = json.loads(rendered(entry))
    assert entry.cursor is None
    assert value["notice"] == "bounced"
    assert (value["id"], value["text"], value["file"], value["attempts"]) == ("bounced-1", "a\u202eb", "x\udcff", 2)
    assert "status" not in value
    with pytest.raises(ValueError, match="breakfast"):
        line.notice("breakfast", "x", "y")


@given(st.dictionaries(st.sampled_from(["id", "cursor", "agentId", "text", "json", "x", "expiresAt", "kind"]), JSON))
def test_a_message_read_back_is_the_same_message(message):
    entry = of(message)
    assert line.identity(line.parse(rendered(entry), "chat").fields) == line.identity(entry.fields)


def test_what_may_slide_between_two_polls_does_not_make_another_message():
    message = {"id": "m", "cursor": "1", "agentId": "bob", "text": "x"}
    same = [{**message, "expiresAt": at, "verified": v, "new": v} for at in ("a", "b") for v in (True, False)]
    assert len({line.identity(of(m).fields) for m in same}) == 1


@pytest.mark.parametrize("name", ["id", "cursor", "agentId", "text", "json"])
def test_anything_else_that_differs_does(name):
    message = {"id": "m", "cursor": "1", "agentId": "bob", "text": "x", "json": [1]}
    assert line.identity(of(message).fields) != line.identity(of({**message, name: "other"}).fields)
    less = {k: v for k, v in message.items() if k != name}
    assert line.identity(of(message).fields) != line.identity(of(less).fields)


def test_undecodable_ones_differ_by_all_of_their_bytes():
    long = b"x" * line.RAW_SHOWN
    one, other = (line.undecodable(long + tail, 5).fields for tail in (b"a", b"b"))
    assert one["raw"] == other["raw"]
    assert line.identity(one) != line.identity(other)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"hello\n",
        b"null",
        b"[]",
        b"{}",
        b'{"seq":1,"session":"chat"}',
        b'{"kind":"message","session":"chat"}',
        b'{"kind":"message","seq":"1","session":"chat"}',
        b'{"kind":"message","seq":-1,"session":"chat"}',
        b'{"kind":"message","seq":1.0,"session":"chat"}',
        b'{"kind":"message","seq":1,"session":"other"}',
        b'{"kind":"message","seq":1}',
        b'{"kind":"message","seq":1,"session":"chat"',
        b'{"kind":"message","seq":' + b"9" * 5000 + b',"session":"chat"}',
        b'{"kind":"message","seq":1,"session":"chat"}' + b"\0" * 10,
        b'{"kind":"message","seq":1,"session":"chat","cursor":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_line_of_ours_is_nobodys(data):
    assert line.parse(data, "chat") is None


@pytest.mark.parametrize(
    ("cursor", "number"), [('"12"', 12), ("12", 12), ("null", None), ('"x"', None), ("9" * 500, None), ("-1", None)]
)
def test_a_lines_cursor_is_read_in_both_forms(cursor, number):
    data = f'{{"kind":"message","seq":1,"session":"chat","cursor":{cursor}}}'.encode()
    assert line.parse(data, "chat").cursor == number
