"""What a death between the lines and the state leaves behind."""

from __future__ import annotations

import pytest

from nexusd.bridge import journal as journals
from nexusd.bridge.journal import Journal
from nexusd.spool import line
from nexusd.spool.layout import SessionFolder

DIGEST = "d" * 64


@pytest.fixture
def folder(tmp_path):
    made = SessionFolder(str(tmp_path), "chat")
    made.make()
    return made


def opened(folder) -> Journal:
    journal = Journal(folder, rotate_at=1 << 20)
    journal.open(DIGEST)
    journal.state.digest = DIGEST
    return journal


def said(text: str, cursor: int) -> line.Entry:
    return line.message({"cursor": b'"%d"' % cursor, "text": b'"%b"' % text.encode()}, cursor, "bob")


def moved_to(cursor: int):
    def change(state) -> None:
        state.cursor = state.highest = cursor

    return change


def die_before_the_state_is_saved(journal, monkeypatch, entries) -> None:
    def die(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(journals.states, "save", die)
        with pytest.raises(KeyboardInterrupt):
            journal.commit_now(entries, lambda _: None)


@pytest.mark.parametrize("after", [None, 2])
def test_a_restart_of_the_server_that_the_inbox_tells_of_outlives_a_death(folder, monkeypatch, after):
    """Else what was posted in the old life is looked for in the new one, not found, and sent again without a word."""
    journal = opened(folder)
    journal.commit_now([said("old", 7)], moved_to(7))
    entries = [line.restart(1, "the server restarted")] + ([said("new", after)] if after else [])
    die_before_the_state_is_saved(journal, monkeypatch, entries)
    state = opened(folder).state
    assert (state.epoch, state.cursor, state.highest) == (1, after, after)
    assert state.seq == 1 + len(entries)
    assert opened(folder).state == state


def test_a_restart_that_the_state_knows_of_is_not_counted_again(folder, monkeypatch):
    journal = opened(folder)

    def restarted(state) -> None:
        state.epoch, state.cursor = 1, None

    journal.commit_now([line.restart(1, "the server restarted")], restarted)
    die_before_the_state_is_saved(journal, monkeypatch, [said("new", 2)])
    state = opened(folder).state
    assert (state.epoch, state.cursor, state.seq) == (1, 2, 2)


def test_no_peer_can_tell_of_a_restart(folder, monkeypatch):
    journal = opened(folder)
    forged = line.message({"id": b'"gap-restart-9"', "kind": b'"notice"', "cursor": b'"3"'}, 3, "bob")
    die_before_the_state_is_saved(journal, monkeypatch, [forged])
    assert opened(folder).state.epoch == 0


def turned(journal: Journal, digest: str) -> bool:
    changed = journal.open(digest)
    journal.turn_to(digest)
    return changed


def test_an_id_that_comes_back_to_a_name_goes_on_where_it_was(folder):
    """Else all that the server still has of it would be written a second time, and nothing would say so."""
    journal = opened(folder)
    journal.state.epoch, journal.state.last = 3, "that one"
    journal.commit_now([line.restart(3, "the server restarted"), said("old", 7)], moved_to(7))
    other = Journal(folder, rotate_at=1 << 20)
    assert turned(other, "e" * 64)
    assert (other.state.cursor, other.state.epoch, other.state.seq) == (None, 0, 2)
    other.commit_now([said("of another", 2)], moved_to(2))
    back = Journal(folder, rotate_at=1 << 20)
    assert turned(back, DIGEST)
    assert (back.state.cursor, back.state.highest, back.state.epoch, back.state.seq) == (7, 7, 3, 3)
    assert back.state.last == "that one"


def test_lines_of_which_the_state_knew_nothing_count_for_the_session_that_they_are_of(folder, monkeypatch):
    journal = opened(folder)
    journal.commit_now([said("one", 1)], moved_to(1))
    die_before_the_state_is_saved(journal, monkeypatch, [said("two", 2)])
    other = Journal(folder, rotate_at=1 << 20)
    assert turned(other, "e" * 64)
    assert other.state.cursor is None
    other.commit_now([], lambda _: None)
    back = Journal(folder, rotate_at=1 << 20)
    assert turned(back, DIGEST)
    assert back.state.cursor == 2


def test_the_places_of_twenty_earlier_sessions_are_kept(folder):
    for n in range(40):
        journal = Journal(folder, rotate_at=1 << 20)
        turned(journal, f"{n:064}")
        journal.commit_now([], moved_to(n))
    assert [int(digest) for digest in journal.state.before] == list(range(19, 39))
