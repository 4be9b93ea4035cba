"""JSON taken apart as text, and made safe to print."""

from __future__ import annotations

import json
import re
import tracemalloc
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusd import jsontext

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
HOSTILE = "\x00\x07\x1b[2J\x7f\x85\xa0\xad\u061c\u180e\u200b\u200e\u202e\u2028\u2029\u2066\ufeff\ufff9\U000e0041\ud800"


@pytest.mark.parametrize("char", [c for c in HOSTILE if c not in "[2J\xa0"])
def test_what_could_act_on_a_terminal_or_hide_text_is_escaped_and_means_the_same(char):
    shown = jsontext.quoted(f"a{char}b")
    assert char.encode("utf-8", "surrogatepass") not in shown
    assert json.loads(shown) == f"a{char}b"


@pytest.mark.parametrize("word", ["Grüße", "Привет", "שלום", "مرحبا", "こんにちは", "naïve café", "👍", "a\xa0b"])
def test_letters_stay_readable(word):
    assert jsontext.quoted(word).decode() == f'"{word}"'


def test_every_control_format_and_surrogate_character_of_unicode_is_escaped():
    missed = [
        f"U+{code:04X}"
        for code in range(0x110000)
        if unicodedata.category(char := chr(code)) in ("Cc", "Cs", "Zl", "Zp", "Cf") and char in jsontext.escaped(char)
    ]
    visible = {"U+0600", "U+0601", "U+0602", "U+0603", "U+0604", "U+0605", "U+06DD", "U+070F", "U+0890", "U+0891"}
    visible |= {"U+08E2", "U+110BD", "U+110CD", *(f"U+{c:04X}" for c in range(0x13430, 0x13440))}  # parts of scripts
    assert set(missed) <= visible


@given(st.text())
def test_any_string_is_one_line_of_printable_json(text):
    shown = jsontext.quoted(text).decode()
    assert json.loads(shown) == text
    assert len(shown.splitlines()) == 1


@given(st.dictionaries(st.text(), JSON))
def test_an_objects_members_are_what_a_decoder_finds(value):
    for ascii_only in (True, False):
        try:
            data = json.dumps(value, ensure_ascii=ascii_only).encode()
        except UnicodeEncodeError:
            continue
        found = jsontext.fields(data)
        assert {name: json.loads(text) for name, text in found.items()} == value


@given(st.dictionaries(st.text(), JSON))
def test_the_slow_way_finds_the_same_members_as_the_quick_one(value):
    data = json.dumps(value, indent=1).encode()
    assert {name: json.loads(text) for name, text in jsontext.split(data)} == value


@given(st.lists(JSON))
def test_an_arrays_elements_are_what_a_decoder_finds(value):
    data = json.dumps(value, ensure_ascii=True).encode()
    assert [json.loads(text) for text in jsontext.elements(data)] == value


@given(st.lists(JSON, min_size=1), st.data())
def test_of_a_cut_array_only_whole_elements_are_given(value, data):
    text = json.dumps(value).encode()
    cut = text[: data.draw(st.integers(1, len(text)))]
    found = [json.loads(part) for part in jsontext.elements(cut, cut=True)]
    assert found == value[: len(found)] or (len(found) > 0 and found[:-1] == value[: len(found) - 1])


@pytest.mark.parametrize("inside", ["a }, b", "a ], b", "a, b: c", '{\\"x\\": 1}, {', "}]}]}", ","])
def test_what_stands_in_a_string_that_was_cut_is_no_structure(inside):
    data = f'[{{"cursor":"1","text":"x"}},{{"cursor":"2","text":"{inside}'.encode()
    assert jsontext.elements(data, cut=True) == [b'{"cursor":"1","text":"x"}']
    last = data.partition(b"},")[2]
    assert dict(jsontext.split(last, cut=True)) == {"cursor": b'"2"'}


def test_numbers_keep_their_digits():
    digits = b"1.10", b"1e999", b"-0.0", b"12345678901234567890123", b"9" * 900
    for number in digits:
        assert jsontext.fields(b'{"n":' + number + b"}") == {"n": number}


def test_the_last_of_two_members_of_one_name_counts():
    assert jsontext.fields(b'{"a":1,"a":2}') == {"a": b"2"}
    assert jsontext.fields(b'{"a":1,"s":"\\ud800","a":2}')["a"] == b"2"


def test_a_lone_surrogate_that_is_escaped_stays_escaped():
    assert jsontext.fields(b'{"text":"a\\ud800b","n":1.10}') == {"text": b'"a\\ud800b"', "n": b"1.10"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b'{"a":1} x',
        b'{"a":NaN}',
        b'{"a":Infinity,"s":"\\ud800"}',
        b'{"a":-Infinity}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',  # a surrogate's three bytes are not UTF-8
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a" 1}',
        b'{"a":01}',
    ],
)
def test_what_is_not_one_whole_json_object_in_utf8_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        jsontext.fields(data)


@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_deepest_nesting_is_the_same_wherever_it_is_read(brackets):
    opening, closing = brackets

    def nested(levels: int) -> bytes:
        return b'{"x":' + opening * (levels - 1) + b"1" + closing * (levels - 1) + b"}"

    def deeper(levels: int, data: bytes) -> bool:
        if levels:
            return deeper(levels - 1, data)
        try:
            return bool(jsontext.fields(data))
        except ValueError:
            return False

    for stack in (0, 300):
        assert deeper(stack, nested(jsontext.DEEPEST))
        assert not deeper(stack, nested(jsontext.DEEPEST + 1))
        assert not deeper(stack, nested(200_000))


def test_brackets_in_strings_are_no_nesting():
    assert jsontext.fields(b'{"x":"' + b"[" * 100_000 + b'"}')["x"].count(b"[") == 100_000


def test_a_string_of_escapes_costs_no_more_than_its_length_times_a_few():
    data = b'["' + b'\\"' * 500_000 + b'"]'
    tracemalloc.start()
    try:
        assert len(list(jsontext.split(data))) == 1
        assert tracemalloc.get_traced_memory()[1] < 8 * len(data)
    finally:
        tracemalloc.stop()


def test_the_token_pattern_gives_back_nothing_it_has_taken():
    """Without possession each escape of a long string would be kept for going back, 64 bytes for each."""
    assert "*+" in jsontext._TOKEN.pattern.decode()


@pytest.mark.parametrize("data", [b"[1,2", b'{"a":1', b'["x', b"[[]"])
def test_an_end_without_its_bracket_is_an_error_unless_it_is_known_to_be_cut(data):
    with pytest.raises(ValueError, match="too early"):
        list(jsontext.split(data))
    list(jsontext.split(data, cut=True))


def test_the_remainder_is_what_stands_behind_a_name_at_the_outermost_level():
    data = b'{"x":{"messages":[0]},"s":"messages","messages": [1,'
    assert jsontext.remainder(data, "messages") == b"[1,"
    assert jsontext.remainder(data, "other") == b""
    assert jsontext.remainder(b'{"me\\u0073sages":[2]}', "messages") == b"[2]}"
    assert jsontext.remainder(b'{"a":"messages: [', "messages") == b""


@pytest.mark.parametrize("text", [b"1", b"null", None, b'"', b"[" * 100_000, b'"\xff"'])
def test_a_string_is_a_string_and_nothing_else(text):
    assert jsontext.string(text) is None
    assert jsontext.string(b'"a\\u00e9"') == "aé"


@given(st.text())
def test_white_space_between_tokens_stays_on_one_line(text):
    line = jsontext.escaped(json.dumps({"a": [text]}, indent=2, ensure_ascii=False))
    assert not re.search("[\n\r\t\v\f\x85\u2028\u2029]", line)
    assert json.loads(line) == {"a": [text]}
