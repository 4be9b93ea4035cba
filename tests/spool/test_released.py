"""A person's word for a file in failed/."""

from __future__ import annotations

import os
import time

import pytest

from nexusd.spool import released
from nexusd.spool.layout import SessionFolder
from nexusd.spool.released import Word


@pytest.fixture
def folder(tmp_path):
    made = SessionFolder(str(tmp_path), "chat")
    made.make()
    return made


@pytest.mark.parametrize("word", [Word(), Word(doubtful=True)])
def test_a_word_is_read_as_it_was_said_until_it_is_forgotten(folder, word):
    assert released.said(folder, "x", 0.0) is None
    released.say(folder, "x", word)
    assert released.said(folder, "x", 0.0) == word
    assert released.said(folder, "y", 0.0) is None
    released.forget(folder, "x")
    released.forget(folder, "x")
    assert released.said(folder, "x", 0.0) is None


def test_a_word_counts_for_what_was_dropped_before_it_was_said(folder):
    released.say(folder, "x", Word())
    assert released.said(folder, "x", time.time() + 60) is None


def test_what_is_no_word_of_ours_is_none(folder):
    released.say(folder, "y", Word())
    os.mkdir(os.path.join(folder.released, "x"))
    assert released.said(folder, "x", 0.0) is None
