"""From a dropped file to a message, or a refusal that says what to do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusd.bridge import outgoing
from nexusd.bridge.outgoing import Outgoing
from nexusd.errors import Refusal

LIMIT = 1 << 18


def read(name: str, data: bytes | str, limit: int = LIMIT) -> Outgoing:
    return outgoing.read(name, data if isinstance(data, bytes) else data.encode(), limit)


def refusal(name: str, data: bytes | str, limit: int = LIMIT) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(name, data, limit)
    assert str(caught.value)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("hello", "hello"),
        ("hello\n", "hello"),
        ("hello\n\n", "hello\n"),
        ("hello\r\n", "hello"),
        ("\nhello", "\nhello"),
        (" hello ", " hello "),
        ("a\nb\n", "a\nb"),
        ("\ufeffhello", "hello"),
        ("Grüße 👍", "Grüße 👍"),
        ("\x1b[2J\u202e", "\x1b[2J\u202e"),
        ("{}", "{}"),
    ],
)
@pytest.mark.parametrize("name", ["x", "x.txt", "x.md", "json", "x.jsonl", "x.JSON"])
def test_a_file_is_its_text_without_one_newline_at_its_end(name, data, text):
    assert read(name, data) == Outgoing(text=text)


@pytest.mark.parametrize("value", [{}, [], {"a": [1, None]}, "text", 5, 1.5, False, 0, ""])
def test_a_json_file_is_a_payload(value):
    assert read("x.json", json.dumps(value)) == Outgoing(payload=value)


@pytest.mark.parametrize(
    ("envelope", "message"),
    [
        ({"text": "a"}, Outgoing("a")),
        ({"json": [1]}, Outgoing(None, [1])),
        ({"text": "a", "json": {"b": 1}}, Outgoing("a", {"b": 1})),
        ({"text": "", "json": 1}, Outgoing(None, 1)),
        ({"text": None, "json": 0}, Outgoing(None, 0)),
        ({"text": "a", "json": None}, Outgoing("a")),
        ({"text": "a\n"}, Outgoing("a\n")),
    ],
)
def test_an_envelope_holds_one_of_them_or_both(envelope, message):
    assert read("x.msg.json", json.dumps(envelope)) == message


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("x", b"", "empty"),
        ("x", "\n", "empty"),
        ("x", "\r\n", "empty"),
        ("x", "\ufeff", "empty"),
        ("x.json", b"", "empty"),
        ("x.json", "null", "empty"),
        ("x.json", "\n", "not_json"),
        ("x.msg.json", "{}", "empty"),
        ("x.msg.json", '{"text":""}', "empty"),
        ("x.msg.json", '{"text":null,"json":null}', "empty"),
        ("x", b"\xff\xfe", "not_text"),
        ("x", b"a\x80", "not_text"),
        ("x", b"\xed\xa0\x80", "not_text"),
        ("x", b"a\0b", "not_text"),
        ("x", "hello".encode("utf-16"), "not_text"),
        ("x", "hello".encode("utf-16-le"), "not_text"),
        ("x.json", "{", "not_json"),
        ("x.json", "hello", "not_json"),
        ("x.json", "{'a':1}", "not_json"),
        ("x.json", "NaN", "not_json"),
        ("x.json", "[Infinity]", "not_json"),
        ("x.json", "[1e999]", "not_json"),
        ("x.json", "[-1e999]", "not_json"),
        ("x.json", "1" * 5000, "not_json"),
        ("x.json", '["\\ud800"]', "not_json"),
        ("x.json", "[" * 100_000, "not_json"),
        ("x.json", "[" * 5000 + "]" * 5000, "not_json"),
        ("x.json", '{"a":1} x', "not_json"),
        ("x.msg.json", "[]", "bad_envelope"),
        ("x.msg.json", '"text"', "bad_envelope"),
        ("x.msg.json", '{"text":5}', "bad_envelope"),
        ("x.msg.json", '{"text":"a","to":"bob"}', "bad_envelope"),
        ("x.msg.json", '{"Text":"a"}', "bad_envelope"),
    ],
)
def test_what_cannot_be_a_message_is_refused_by_its_kind(name, data, code):
    assert refusal(name, data).code == code


def test_the_largest_size_is_the_last_that_goes():
    assert read("x", b"x" * 100, 100).text == "x" * 100
    assert refusal("x", b"x" * 101, 100).code == "too_large"
    assert refusal("x.json", b"[" * 101, 100).code == "too_large"


def test_a_payload_for_a_server_without_json_is_written_out_behind_the_text():
    assert Outgoing("a").as_text() == Outgoing("a")
    assert Outgoing(None, {"b": "é"}).as_text() == Outgoing('{"b": "é"}')
    assert Outgoing("a", [1]).as_text() == Outgoing("a\n[1]")
    assert Outgoing(None, False).as_text() == Outgoing("false")


def test_all_that_a_message_says_can_be_searched():
    holds = Outgoing("secret-1", {"secret-2": ["secret-3"]}).holds()
    assert all(f"secret-{n}" in holds for n in (1, 2, 3))


@given(st.binary(max_size=200), st.sampled_from(["x", "x.json", "x.msg.json"]))
def test_any_bytes_are_a_message_that_can_be_sent_or_a_refusal(data, name):
    try:
        message = outgoing.read(name, data, 100)
    except Refusal:
        return
    json.dumps({"text": message.text, "json": message.payload}, allow_nan=False, ensure_ascii=False).encode()
    assert message.text or message.payload is not None
