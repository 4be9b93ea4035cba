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
