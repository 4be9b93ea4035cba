"""Whether a message in a poll is the one whose answer was lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusd.bridge import witness
from nexusd.bridge.outgoing import Outgoing
from nexusd.bridge.sift import Known
from nexusd.wire import batch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def msg(cursor: int, text: str | None = "hello", **more: object) -> batch.Message:
    fields = {"cursor": str(cursor), "id": f"m{cursor}", "agentId": "me", "verified": True, **more}
    if text is not None:
        fields["text"] = text
    return batch.message(json.dumps(fields).encode())


def find(messages: list[batch.Message], sent: Outgoing, *, keyed: bool = True, above: int | None = 5):
    known = Known(None, "", frozenset, agent="me", keyed=keyed, greeted=True)
    ours = witness.candidates(batch.Batch(messages), known, above=above)
    found = witness.find(ours, sent)
    return None if found is None else (found[0].cursor, found[1])


HELLO = Outgoing("hello")


def test_a_witness_is_ours_above_the_intent_and_equal():
    assert find([msg(6)], HELLO) == (6, False)


@pytest.mark.parametrize(
    "message",
    [
        msg(5),
        msg(4),
        msg(6, "hello "),
        msg(6, "Hello"),
        msg(6, None),
        msg(6, agentId="bob"),
        msg(6, agentId=None),
        msg(6, verified=False),
        msg(6, json={"a": 1}),
        batch.message(b'{"text":"hello","agentId":"me","verified":true}'),
        batch.message(b'{"cursor":"6","agentId":"me","verified":true,"text":"hello","n":NaN}'),
    ],
)
def test_anything_else_is_none(message):
    assert find([message], HELLO) is None


def test_without_a_key_an_unverified_message_is_ours():
    assert find([msg(6, verified=False)], HELLO, keyed=False) == (6, False)


def test_with_no_cursor_known_the_first_message_counts_and_the_greeting_too():
    assert find([msg(0)], HELLO, above=None) == (0, False)


def test_of_several_equal_ones_the_first_is_ours():
    assert find([msg(6), msg(7), msg(8)], HELLO) == (6, False)


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ([1.0, 1e3, -0.0], [1, 1000, 0]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (12345678901234567890, 12345678901234567000),
        (10**20, 1e20),
        ([None, {"x": "é"}], [None, {"x": "é"}]),
    ],
)
def test_a_payload_is_the_same_however_the_server_writes_it_down(sent, seen):
    assert find([msg(6, None, json=seen)], Outgoing(None, sent)) == (6, False)


@pytest.mark.parametrize(
    ("sent", "seen"), [(1, True), (0, False), (1, "1"), ([1, 2], [2, 1]), ({}, []), (1, 2), (False, 0), (1.5, 1)]
)
def test_another_payload_is_another(sent, seen):
    assert find([msg(6, None, json=seen)], Outgoing(None, sent)) is None


def test_a_text_and_a_payload_must_both_be_there():
    both = Outgoing("hello", [1])
    assert find([msg(6, json=[1])], both) == (6, False)
    assert find([msg(6)], both) is None
    assert find([msg(6, None, json=[1])], both) is None


def test_a_payload_that_went_as_text_is_found_as_text():
    assert find([msg(6, '{"a": 1}')], Outgoing(None, {"a": 1})) == (6, False)


LONG = "the key of the door is abcdef123456, keep it well"


@pytest.mark.parametrize(
    "seen",
    [
        "the key of the door is [REDACTED:token], keep it well",
        "the key of the door is [REDACTED], keep it well",
        "[REDACTED:x] of the door is [REDACTED:token], keep it [REDACTED]",
        "the key of the door is [REDACTED][REDACTED], keep it well",
        "the key of the door is [REDACTED:token]",
    ],
)
def test_a_redacted_text_is_a_witness_if_it_is_the_only_one(seen):
    sent = Outgoing(LONG)
    assert find([msg(6, seen)], sent) == (6, True)
    assert find([msg(6, seen), msg(7, seen)], sent) is None
    assert find([msg(6, seen), msg(7, LONG)], sent) == (7, False)
    assert find([msg(6, seen), msg(7, "something else")], sent) == (6, True)


@pytest.mark.parametrize(
    "seen",
    [
        "[REDACTED:token]",
        "the key [REDACTED]",  # too little is left of it to say anything
        "another key of the door is [REDACTED:token], keep it well",
        "the key of the door is [REDACTED:token], keep it ill",
        "keep it well the key of the door is [REDACTED]",
        "the key of the door is [REDACTED:[x]], keep it well",
        "the key of the door is abcdef123456, keep it well [REDACTED] and more",
        "the key of the door is [REDACTED] is [REDACTED] is [REDACTED] is [REDACTED], keep it well",
    ],
)
def test_a_redacted_text_that_does_not_fit_is_none(seen):
    assert find([msg(6, seen)], Outgoing(LONG)) is None


def test_sixteen_bytes_that_are_left_are_just_enough():
    assert find([msg(6, "x" * 14 + "[REDACTED]")], Outgoing("x" * 14 + "secret")) is None
    left = "x" * witness.LITERAL
    assert find([msg(6, left + "[REDACTED]")], Outgoing(left + "secret")) == (6, True)


def test_parts_that_are_left_may_not_overlap():
    seen = "a" * 20 + "[REDACTED]" + "a" * 20
    assert find([msg(6, seen)], Outgoing("a" * 30)) is None
    assert find([msg(6, seen)], Outgoing("a" * 40)) == (6, True)


@given(JSON, st.text())
def test_every_message_is_its_own_witness(payload, text):
    sent = Outgoing(text or None, payload)
    try:
        seen = msg(6, sent.text, **({} if payload is None else {"json": payload}))
        assert find([seen], sent) == (6, False)
    except UnicodeEncodeError:
        assert any("\ud800" <= c <= "\udfff" for c in f"{text}{payload}")


@given(st.text(min_size=40), st.data())
def test_any_part_may_be_redacted(text, data):
    begin = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(begin + 1, len(text)))
    left = text[:begin] + text[end:]
    if len(left.encode(errors="replace")) < witness.LITERAL or "[REDACTED" in text:
        return
    assert find([msg(6, f"{text[:begin]}[REDACTED:x]{text[end:]}")], Outgoing(text)) is not None
