"""What of a poll's batch is new."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusd.bridge import sift
from nexusd.bridge.sift import Known
from nexusd.spool import line
from nexusd.wire import batch, calls
from nexusd.wire.fate import Answer

CALL = calls.poll("5e" * 24, "me")


def msg(cursor: object, text: str = "hi", agent: str = "bob", **more: object) -> dict[str, object]:
    return {"id": f"m{cursor}", "agentId": agent, "cursor": cursor, "verified": True, "text": text, **more}


def polled(*messages: dict[str, object] | bytes, next_cursor: object = None, cut: bool = False) -> batch.Batch:
    raws = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
    body = b'{"messages":[' + b",".join(raws) + b'],"nextCursor":' + json.dumps(next_cursor).encode() + b"}"
    found = batch.read(CALL, Answer(200, {}, body))
    return batch.Batch(found.messages, found.next_cursor, None, cut)


def identity(message: dict[str, object]) -> str:
    return sift.identity(polled(message).messages[0])


def known(cursor: int | None = None, *, last: str = "", inbox: list[dict] = (), **more) -> Known:
    names = {identity(m) for m in inbox}
    given = {"agent": "me", "keyed": True, "greeted": cursor is not None, **more}
    return Known(cursor=cursor, last=last, inbox=lambda: names, **given)


def texts(news: sift.News) -> list[str]:
    return [json.loads(entry.fields["text"]) for entry in news.entries]


# ---- a server in one life


def test_what_is_above_the_cursor_is_new_and_in_its_order():
    news = sift.sift(polled(msg("7", "c"), msg("5", "a"), msg("6", "b"), msg("3", "old")), known(4))
    assert texts(news) == ["a", "b", "c"]
    assert (news.cursor, news.last, news.heard) == (7, identity(msg("7", "c")), 3)


def test_what_is_repeated_is_new_once():
    assert texts(sift.sift(polled(msg("5"), msg("5"), msg("5", "other")), known(4))) == ["hi"]


def test_nothing_new_moves_nothing():
    news = sift.sift(polled(msg("3"), next_cursor="99"), known(4, last="x"))
    assert (news.entries, news.cursor, news.last, news.heard) == ([], 4, "x", 0)


@pytest.mark.parametrize("ahead", [None, "0", 0, "3", 3, "99", "", -1, {"x": 1}])
def test_the_next_cursor_moves_nothing_by_itself(ahead):
    assert sift.sift(polled(next_cursor=ahead), known(4)).cursor == 4
    assert sift.sift(polled(msg("5"), next_cursor=ahead), known(4)).cursor == 5
    assert sift.sift(polled(next_cursor=ahead), known(None)).cursor is None


def test_the_greeting_is_news_once():
    greeting = msg("0", "welcome", "system")
    news = sift.sift(polled(greeting, msg("1")), known(None))
    assert [entry.kind for entry in news.entries] == ["system", "message"]
    assert sift.sift(polled(greeting), known(None)).cursor == 0
    assert sift.sift(polled(greeting, msg("1", "new")), known(None, greeted=True)).entries[0].kind == "message"


def test_our_own_are_left_out_and_move_the_cursor():
    news = sift.sift(polled(msg("5", agent="me"), msg("6")), known(4))
    assert texts(news) == ["hi"]
    assert [m.cursor for m in news.own] == [5]
    assert news.heard == 1
    news = sift.sift(polled(msg("5", agent="me")), known(4))
    assert (news.entries, news.cursor, news.heard) == ([], 5, 0)


def test_our_own_are_kept_where_they_are_wanted():
    news = sift.sift(polled(msg("5", "mine", "me"), msg("6")), known(4, keep_own=True))
    assert texts(news) == ["mine", "hi"]
    assert news.heard == 1


@pytest.mark.parametrize(
    ("keyed", "verified", "own"), [(True, True, True), (True, False, False), (False, False, True), (False, True, True)]
)
def test_an_unverified_message_under_our_name_is_somebody_elses_where_we_hold_a_key(keyed, verified, own):
    news = sift.sift(polled(msg("5", agent="me", verified=verified)), known(4, keyed=keyed))
    assert bool(news.own) is own
    assert len(news.entries) == (not own)


def test_nobody_is_us_while_we_are_nobody():
    assert sift.sift(polled(msg("5", agent="")), known(4, agent="")).own == []


@pytest.mark.parametrize(("first", "jumped"), [("5", False), ("6", True), ("99", True)])
def test_a_jump_is_seen_in_front_of_the_first_new_message_only(first, jumped):
    assert sift.sift(polled(msg(first)), known(4)).jumped is jumped
    assert sift.sift(polled(msg("5"), msg("99")), known(4)).jumped is False
    assert sift.sift(polled(msg("5", agent="me"), msg("99")), known(4)).jumped is False
    assert sift.sift(polled(msg(first)), known(None)).jumped is False


# ---- messages that cannot be decoded

BAD = b'{"cursor":"6","id":"m6","n":NaN}'
LOST = b'{"cursor":NaN,"id":"m6"}'


def test_one_that_cannot_be_decoded_is_an_entry_in_its_place():
    news = sift.sift(polled(msg("7", "b"), BAD, msg("5", "a")), known(4))
    assert [entry.cursor for entry in news.entries] == [5, 6, 7]
    assert json.loads(news.entries[1].fields["raw"]) == BAD.decode()
    assert (news.cursor, news.heard) == (7, 3)


def test_one_without_a_cursor_is_written_once_and_the_cursor_goes_on():
    news = sift.sift(polled(msg("5"), LOST, msg("7")), known(4))
    assert [entry.cursor for entry in news.entries] == [5, None, 7]
    name = line.identity(news.entries[1].fields)
    again = Known(7, news.last, lambda: {name}, "me", keyed=True, greeted=True)
    assert sift.sift(polled(LOST), again).entries == []


def test_one_without_a_cursor_at_the_end_is_passed_by_the_servers_word_alone():
    assert sift.sift(polled(msg("5"), LOST, next_cursor="6"), known(4)).cursor == 6
    assert sift.sift(polled(msg("5"), LOST), known(4)).cursor == 5
    assert sift.sift(polled(msg("5"), LOST, next_cursor="3"), known(4)).cursor == 5
    assert sift.sift(polled(LOST, next_cursor="6"), known(None)).cursor == 6
    assert sift.sift(polled(msg("5"), LOST, next_cursor="99", cut=True), known(4)).cursor == 5  # more is to come


# ---- a server that restarted


def test_a_poll_from_the_first_that_shows_what_we_have_is_the_same_life():
    old = [msg("1", "a"), msg("2", "b")]
    assert not sift.restarted(polled(*old), known(2, last=identity(old[1]), inbox=old))
    assert not sift.restarted(polled(*old, msg("3", "new")), known(2, last=identity(old[1]), inbox=old))
    assert not sift.restarted(polled(*old), known(2, last="", inbox=old))
    assert not sift.restarted(polled(msg("1")), known(None))


def test_less_than_before_is_no_proof():
    old = [msg("1", "a"), msg("2", "b")]
    for shown in ([], [old[0]], [old[1]], [msg("0", "hello", "system")], [msg("9", "later")]):
        assert not sift.restarted(polled(*shown), known(2, last=identity(old[1]), inbox=old))


def test_an_unseen_message_at_a_cursor_not_above_ours_is_proof():
    old = [msg(str(n), f"text {n}") for n in range(1, 5)]
    state = known(4, last=identity(old[3]), inbox=old)
    assert sift.restarted(polled(msg("1", "unseen")), state)
    assert sift.restarted(polled(msg("0", "hi", "system"), msg("4", "unseen")), state)
    assert sift.restarted(polled(msg("1", "text 1", id="another id")), state)


def test_our_own_messages_prove_nothing_since_the_inbox_does_not_have_them():
    assert not sift.restarted(polled(msg("1", "mine", "me")), known(4, last="x"))
    assert sift.restarted(polled(msg("1", "mine", "me", verified=False)), known(4, last="x"))


def test_after_a_restart_all_that_is_not_in_the_inbox_is_new():
    old = [msg("1", "a"), msg("2", "b"), msg("3", "c")]
    now = [msg("0", "welcome", "system"), msg("1", "new"), old[1], msg("3", "newer")]
    news = sift.sift(polled(*now), known(3, inbox=old), reread=True)
    assert texts(news) == ["new", "newer"]
    assert (news.cursor, news.restarted, news.jumped) == (3, True, False)


def test_after_a_restart_the_cursor_may_be_lower_or_none():
    assert sift.sift(polled(msg("1", "new")), known(57), reread=True).cursor == 1
    assert sift.sift(polled(), known(57), reread=True).cursor is None
    assert sift.sift(polled(), known(57), reread=True).restarted


def test_the_inbox_is_read_only_where_it_must_be():
    def no_inbox() -> set[str]:
        raise AssertionError("the inbox was read")

    state = Known(4, identity(msg("4")), no_inbox, "me", keyed=True, greeted=True)
    sift.sift(polled(msg("5"), msg("6", agent="me")), state)
    assert not sift.restarted(polled(msg("4"), msg("5")), state)
    with pytest.raises(AssertionError, match="was read"):
        sift.restarted(polled(msg("3")), state)


def test_what_may_slide_between_two_polls_is_no_sign_of_a_restart():
    seen = msg("4", expiresAt="2026-01-01T00:00:00Z")
    slid = msg("4", expiresAt="2026-01-02T00:00:00Z", verified=False)
    assert not sift.restarted(polled(slid), known(4, last=identity(seen), inbox=[seen]))


@given(st.lists(st.sampled_from(["bob", "me", "eve"]), max_size=20), st.lists(st.integers(1, 5), max_size=20))
def test_however_a_conversation_is_cut_into_polls_each_message_is_new_once(agents, sizes):
    """Every poll may overlap with what was seen before, as servers do that round a cursor down."""
    messages = [msg(str(n + 1), f"t{n}", agent) for n, agent in enumerate(agents)]
    state, found, at = known(None), [], 0
    for size in [*sizes, len(messages)]:
        at = min(len(messages), at + size)
        news = sift.sift(polled(*messages[max(0, at - size - 2) : at]), state)
        found += texts(news)
        state = known(news.cursor, last=news.last)
    assert found == [f"t{n}" for n, agent in enumerate(agents) if agent != "me"]
