from __future__ import annotations

import json
import urllib.parse

import pytest

from nexusd.secrets import SHORTEST, Secrets


@pytest.fixture
def secrets() -> Secrets:
    known = Secrets()
    known.add("abcdef123456", "a+b/c d=e")
    return known


def test_a_secret_is_found_and_removed_wherever_it_stands(secrets):
    for text in ("abcdef123456", "xabcdef123456y", "https://x/v1/sessions/abcdef123456/messages?after=1"):
        assert secrets.inside(text)
        assert "abcdef123456" not in secrets.removed(text)
        assert "[secret]" in secrets.removed(text)


def test_every_occurrence_is_removed(secrets):
    assert secrets.removed("abcdef123456 abcdef123456") == "[secret] [secret]"


def test_a_secret_is_known_as_it_looks_in_a_url_too(secrets):
    assert secrets.removed("?key=a%2Bb%2Fc%20d%3De&x") == "?key=[secret]&x"


def test_other_text_is_left_alone(secrets):
    for text in ("", "abcdef", "ABCDEF12345", "hello"):
        assert not secrets.inside(text)
        assert secrets.removed(text) == text


@pytest.mark.parametrize("value", [None, "", "a", "x" * (SHORTEST - 1)])
def test_what_is_too_short_to_be_one_tears_no_holes_into_words(value):
    known = Secrets()
    known.add(value)
    assert not known.inside("a xxxxxxxxxx")
    known.add("x" * SHORTEST)
    assert known.inside("a xxxxxxxxxx")


def test_of_a_secret_that_begins_like_another_nothing_is_left():
    known = Secrets()
    known.add("abcdef123456")
    known.add("abcdef123456-and-more")
    assert known.removed("abcdef123456-and-more") == "[secret]"


@pytest.mark.parametrize(
    "text", ["abcdef123456" * 3, "abcdefabcdef123456", "abcdef12345 abcdef123456", "abcdef123456x"]
)
def test_nothing_is_left_where_secrets_stand_side_by_side_or_begin_in_vain(secrets, text):
    assert secrets.removed(text) == text.replace("abcdef123456", "[secret]")


ODD = 'first-part-0123456789\nsecond\t"part"\u20ac'


@pytest.mark.parametrize(
    "shown",
    [
        ODD,
        repr(ODD),
        repr(ODD.encode()),
        json.dumps(ODD),
        json.dumps(ODD, ensure_ascii=False),
        urllib.parse.quote(ODD),
        urllib.parse.quote_plus(ODD),
        json.dumps(repr(ODD.encode())),  # escaped twice
        ODD.partition("\n")[0],  # a library quotes the line that it did not like
    ],
)
def test_case_185_a_secret_is_known_in_every_escaped_form(shown):
    known = Secrets()
    known.add(ODD)
    said = known.removed(f"Illegal header value {shown}!")
    assert "first-part" not in said
    assert "[secret]" in said


def test_letters_in_another_case_hide_nothing():
    secrets = Secrets()
    secrets.add("aB3dE6gH9jK2mN5p")
    for text in ("AB3DE6GH9JK2MN5P", "ab3de6gh9jk2mn5p"):
        assert secrets.removed(f"<{text}> \u0130") == "<[secret]> \u0130"
        assert secrets.inside(text)
