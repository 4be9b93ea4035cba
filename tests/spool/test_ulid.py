from __future__ import annotations

import time

import pytest

from nexusd.spool.ulid import born, ulid


def test_names_are_of_one_length_and_of_letters_that_cannot_be_mistaken():
    for _ in range(100):
        assert len(name := ulid()) == 26
        assert not set(name) - set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_no_two_meet():
    assert len({ulid() for _ in range(10_000)}) == 10_000


def test_names_sort_by_the_millisecond_they_were_made_in(monkeypatch):
    moments = [0, 1_700_000_000_000, 1_700_000_000_001, 1_800_000_000_000, (1 << 48) - 1]
    made = []
    for moment in moments:
        monkeypatch.setattr(time, "time_ns", lambda ms=moment: ms * 1_000_000)
        made.append(ulid())
    assert made == sorted(made)
    assert [born(name) for name in made] == [moment / 1000 for moment in moments]


def test_what_is_no_ulid_was_never_born():
    for name in ("U" * 26, "not-a-ulid", "!"):
        with pytest.raises(ValueError, match="not found"):
            born(name)
