"""Pairing codes."""

from __future__ import annotations

import math
import re

import pytest

from nexusd.relay.pairing import ALPHABET, LIFETIME, REMEMBERED, TAIL, PairingBook
from nexusd.relay.words import WORDS

from .conftest import entropy, refused


@pytest.fixture
def book(clock) -> PairingBook:
    return PairingBook(clock, entropy())


def test_a_code_is_worth_at_least_forty_bits() -> None:
    assert len(set(WORDS)) == len(WORDS)
    assert len(set(ALPHABET)) == len(ALPHABET)
    assert 2 * math.log2(len(WORDS)) + TAIL * math.log2(len(ALPHABET)) >= 40


def test_no_two_characters_of_a_tail_look_alike() -> None:
    for twins in ("0O", "1IL", "2Z", "5S", "8B", "UV"):
        assert len(set(twins) & set(ALPHABET)) <= 1, twins


def test_words_are_plain_capitals() -> None:
    assert all(re.fullmatch("[A-Z]{2,8}", word) for word in WORDS)


def test_a_code_is_two_words_and_a_tail_and_never_twice_the_same(book) -> None:
    codes = {book.offer("s").code for _ in range(500)}
    assert len(codes) == 500
    assert all(re.fullmatch(f"[A-Z]+-[A-Z]+-[{ALPHABET}]{{{TAIL}}}", code) for code in codes)


def test_a_code_that_comes_up_twice_is_drawn_again(clock) -> None:
    draws = [bytes(8)] * 14 + [b"\1" * 8] * 7
    book = PairingBook(clock, lambda _: draws.pop(0))
    assert book.offer("s").code != book.offer("t").code
    assert draws == []


def test_a_code_goes_from_pending_to_claimed(book) -> None:
    code = book.offer("s").code
    assert book.state(code) == "pending"
    assert book.session_of(code) == "s"
    book.burn(code)
    assert book.state(code) == "claimed"
    with refused(404, "code_expired_or_used"):
        book.session_of(code)


def test_a_code_lives_ten_minutes_and_is_remembered_for_an_hour(book, clock) -> None:
    code = book.offer("s").code
    clock.pass_by(LIFETIME - 1)
    assert book.state(code) == "pending"
    clock.pass_by(1)
    assert book.state(code) == "expired"
    with refused(404, "code_expired_or_used"):
        book.session_of(code)
    clock.pass_by(REMEMBERED - LIFETIME)
    with refused(404, "code_not_found"):
        book.state(code)
    assert book._offers == {}


def test_a_claimed_code_stays_claimed_after_its_time(book, clock) -> None:
    code = book.offer("s").code
    book.burn(code)
    clock.pass_by(LIFETIME)
    assert book.state(code) == "claimed"


def test_a_code_may_be_typed_in_small_letters(book) -> None:
    assert book.session_of(book.offer("s").code.lower()) == "s"


def test_an_unknown_code_is_not_found(book) -> None:
    for attempt in (book.state, book.session_of, book.burn):
        with refused(404, "code_not_found"):
            attempt("OAK-OAK-33333")
