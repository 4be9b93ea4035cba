"""In: each message that the server has is one line, whatever happens to it, to us and to the disk."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import itertools
import os
from itertools import pairwise

import pytest

from nexusd.bridge import poller
from nexusd.spool import state as states
from tests import virtual
from tests.bridge.world import World, lost, refusal, unreachable


def test_the_first_poll_asks_from_the_very_first_and_the_greeting_is_of_the_system(run):
    async def main(world: World):
        world.is_in()
        world.server.messages.append({"id": "g", "agentId": "system", "cursor": "0", "text": "welcome"})
        world.server.say("one")
        await world.live(100)
        assert world.server.afters[0] is None
        assert set(world.server.afters[1:]) == {1}
        assert [(line["kind"], line["text"]) for line in world.inbox()] == [("system", "welcome"), ("message", "one")]

    run(main)


def test_messages_come_in_order_and_once_over_many_lives(run):
    async def main(world: World):
        world.is_in()
        for n in range(30):
            world.server.say(f"text {n}")
            await world.live(7 if n % 3 else 40, close=False)
            if n % 4 == 0:
                await world.die(suddenly=n % 8 == 0)
        await world.live(60)
        assert world.heard() == [f"text {n}" for n in range(30)]

    run(main)


def test_our_own_are_left_out_unless_they_are_wanted(run):
    async def main(world: World):
        world.is_in()
        world.server.say("mine", "me")
        world.server.say("forged", "me", verified=False)
        await world.live(10)
        return world.heard()

    assert run(main) == ["forged"]


def test_our_own_are_written_where_they_are_wanted(run):
    async def main(world: World):
        world.is_in()
        world.server.say("mine", "me")
        await world.live(10)
        return world.heard()

    assert run(main, inbox_own="true") == ["mine"]


def test_at_rest_it_is_asked_each_interval_and_now_and_then_from_the_first(run):
    async def main(world: World):
        world.is_in()
        world.server.say("one")
        await world.live(60, close=False)
        begin = len(world.server.afters)
        await world.live(3600)
        afters = world.server.afters[begin:]
        assert 3600 / 33 <= len(afters) <= 3600 / 27 + 20
        assert afters.count(None) in range(10, 13)  # each five minutes: a restart is noticed within them

    run(main)


def test_just_after_a_message_it_is_asked_often_and_then_less_and_less(run):
    async def main(world: World):
        world.is_in()
        await world.live(120, close=False)
        world.server.say("hello")
        await world.live(200, close=False)
        times = world.server.asked("poll")
        heard = next(at for at in times if at >= 120)
        gaps = [b - a for a, b in itertools.pairwise(times) if a >= heard]
        assert gaps[0] == pytest.approx(3, rel=0.12)
        assert max(gaps) <= 33.1
        assert gaps[-1] > 20
        assert sum(gaps[:5]) < sum(gaps[-5:]) / 2

    run(main)


def test_what_cannot_be_decoded_is_a_line_and_stops_nothing(run):
    async def main(world: World):
        world.is_in()
        world.server.say("before")
        world.server.extra = b'{"cursor":"2","n":NaN},{"cursor":"3","json":' + b"[" * 300 + b"]" * 300 + b"},null"
        await world.live(100, close=False)
        world.server.cursor = 9
        world.server.say("after")
        await world.live(400)
        raws = [line["raw"][:20] for line in world.inbox() if "raw" in line]
        assert raws == ['{"cursor":"2","n":Na', '{"cursor":"3","json"', "null"]
        assert [text for text in world.heard() if text] == ["before", "after"]

    run(main)


# ---- the server


def test_a_server_that_fails_is_asked_less_and_less_and_then_all_is_there(run):
    async def main(world: World):
        world.is_in()
        world.server.fail("poll", *[unreachable(), lost(), refusal(502), refusal(404), refusal(301)] * 4)
        world.server.fail("renew", *[unreachable()] * 5000)
        await world.live(30, close=False)
        assert world.session.standing.status == "backoff"
        world.server.say("hello")
        await world.live(3000)
        assert world.heard() == ["hello"]
        times = world.server.asked("poll")[:16]
        gaps = [b - a for a, b in pairwise(times)]
        assert max(gaps) <= 60.1
        assert sum(gaps[:5]) < sum(gaps[5:10])
        assert min(gaps[6:]) > 25

    run(main)


def test_too_much_at_the_moment_is_waited_for_as_long_as_it_says(run):
    async def main(world: World):
        world.is_in()
        world.server.fail("poll", refusal(429, "rate_limit_exceeded", retry_after=120.0))
        world.drop("x")
        await world.live(300)
        assert next(at for _, at in sorted((at, at) for at, _ in world.server.log))
        times = sorted(round(at) for at, _ in world.server.log)
        first = times[0]
        assert not [at for at in times[3:] if first + 2 < at < first + 119]
        assert world.server.texts() == ["hello"]

    run(main)


@pytest.mark.parametrize("retry_after", [0.0, None])
def test_a_server_that_is_always_too_busy_is_not_asked_without_a_pause(run, retry_after):
    async def main(world: World):
        world.is_in()
        world.server.fail("poll", *[refusal(429, "rate_limit_exceeded", retry_after=retry_after)] * 5000)
        await world.live(300)
        assert len(world.server.asked("poll")) <= 310
        assert len(world.server.asked("poll")) >= (280 if retry_after == 0 else 5)

    run(main)


def test_a_server_that_restarted_is_noticed_and_what_it_has_now_is_read(run):
    async def main(world: World):
        world.is_in()
        for n in range(5):
            world.server.say(f"old {n}")
        await world.live(100, close=False)
        world.server.restart()
        world.server.say("new 0")
        await world.live(poller.LOOK_BACK + 60, close=False)
        world.server.say("new 1")
        await world.live(60)
        assert world.heard() == [*(f"old {n}" for n in range(5)), "new 0", "new 1"]
        assert world.notices() == ["gap"]
        assert world.inbox()[5]["notice"] == "gap"  # it stands where something may be missing

    run(main)


@pytest.mark.parametrize("count", [3, 20])
def test_case_118_a_server_that_passes_our_cursor_before_we_poll_is_heard_in_order(run, count):
    async def main(world: World):
        world.is_in()
        for n in range(3):
            world.server.say(f"old {n}")
        await world.live(200, close=False)
        world.server.restart()
        for n in range(count):
            world.server.say(f"new {n}")
        await world.live(70, close=False)
        heard = [f"old {n}" for n in range(3)] + [f"new {n}" for n in range(count)]
        if count > 3:  # it passed our cursor: the poll shows something new, and the uptime says why
            assert world.heard() == heard
            assert world.notices() == ["gap"]
        await world.live(poller.LOOK_BACK)
        assert world.heard() == heard
        assert world.notices() == ["gap"]

    run(main)


def test_case_118_a_restart_while_we_were_away_is_noticed_within_a_minute(run):
    async def main(world: World):
        world.is_in()
        for n in range(3):
            world.server.say(f"old {n}")
        await world.live(100)
        world.server.restart()
        await world.live(20, close=False)
        world.server.say("new 0")
        await world.live(poller.SOONEST + 35)
        assert world.heard() == ["old 0", "old 1", "old 2", "new 0"]

    run(main)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(("outages", "within"), [(1, 10), (2, poller.SOONEST)])
def test_case_118_after_a_short_outage_what_a_restarted_server_says_is_heard_soon(run, held, outages, within):
    """The first poll that succeeds is not held back, and the next one looks back, or as soon as it may."""

    async def main(world: World):
        world.is_in()
        world.server.holds = held
        for n in range(3):
            world.server.say(f"old {n}")
        await world.live(200, close=False)
        for n in range(outages):
            world.server.restart()
            world.server.fail("poll", unreachable(), unreachable())
            world.runner._poller.hang_up()  # its connection is gone
            world.runner.poll.wake()
            await world.live(5, close=False)
            world.server.say(f"new {n}")
        await world.live(within, close=False)
        assert world.heard()[-1] == f"new {outages - 1}"

    run(main, poll_interval='"5s"')


def test_case_118_the_first_message_of_a_server_that_was_empty_at_the_look_back_is_heard_at_once(run):
    """Its cursor is below ours: where polls are held, one that asks from ours would not show it."""

    async def main(world: World):
        world.is_in()
        world.server.holds = True
        world.server.say("welcome", "system", cursor="0")
        for n in range(3):
            world.server.say(f"old {n}")
        await world.live(200, close=False)
        greeting = world.server.messages[0]
        world.server.restart()
        world.server.messages.append(greeting)  # a greeting comes back with the session
        world.server.fail("poll", unreachable())
        world.runner._poller.hang_up()
        await world.live(40, close=False)
        before = len(world.server.asked("poll"))
        await world.live(100, close=False)
        assert len(world.server.asked("poll")) - before <= 4  # held, and a look from the very first
        world.server.say("new")
        await world.live(1, close=False)
        assert world.heard()[-1] == "new"
        assert world.notices() == ["gap"]

    run(main, poll_interval='"10m"')


def test_case_118_a_look_back_that_fails_stops_no_ordinary_poll(run):
    async def main(world: World):
        world.is_in()
        world.server.say("old")
        await world.live(100)
        real, looks = world.server.poll, []

        async def poll(session, agent, *, after=None, **asked):
            if after is None:
                looks.append(virtual.clock())
                world.server.faults["poll"] = [refusal(500)]
            return await real(session, agent, after=after, **asked)

        world.server.poll = poll
        world.server.say("new")
        await world.live(200, close=False)
        assert world.heard() == ["old", "new"]
        await world.live(400)
        assert 2 <= len(looks) <= 3  # five minutes apart

    run(main)


def test_a_restart_that_a_send_tells_of_is_noticed_at_once(run):
    async def main(world: World):
        world.is_in()
        for n in range(5):
            world.server.say(f"old {n}")
        await world.live(100, close=False)
        world.server.restart()
        world.server.say("new 0")
        world.drop("x")
        await world.live(5)
        assert world.heard()[5:] == ["new 0"]
        assert world.notices() == ["gap"]
        assert world.receipt("x")["cursor"] == "2"

    run(main)


def test_a_session_of_only_our_own_messages_never_looks_like_a_restart(run):
    async def main(world: World):
        world.is_in()
        for n in range(5):
            world.drop(f"x{n}")
            await world.live(400, close=n == 4)
        assert world.inbox() == []

    run(main)


@pytest.mark.parametrize(("away", "expired", "notices"), [(5000, 3, ["gap"]), (5000, 0, []), (1000, 3, [])])
def test_an_absence_longer_than_messages_live_is_told_if_some_are_missing(run, away, expired, notices):
    async def main(world: World):
        world.is_in()
        world.server.say("before")
        await world.live(100)
        world.server.cursor += expired  # they came and expired while nobody looked
        world.server.say("after")
        world.server.ends_at = None
        world.server.alive = lambda: None
        await asyncio.sleep(away)
        await world.live(20)
        assert world.heard() == ["before", "after"]
        return world.notices()

    assert run(main) == notices


# ---- the disk


def test_after_a_full_disk_nothing_is_lost_and_nothing_doubled(run, monkeypatch):
    async def main(world: World):
        world.is_in()
        world.server.say("one")
        await world.live(10, close=False)
        real, failing = os.write, [True]

        def write(fd: int, data) -> int:
            path = os.readlink(f"/proc/self/fd/{fd}")
            if failing[0] and path.endswith("inbox.jsonl"):
                if len(data) > 100:
                    return real(fd, bytes(data)[:100])
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(fd, data)

        monkeypatch.setattr(os, "write", write)
        world.server.say("two")
        world.server.say("three")
        await world.live(300, close=False)
        assert world.heard() == ["one"] or world.session.standing.status == "blocked"
        assert world.session.state.cursor == 1
        assert "the disk is full" in world.view()["lastError"]
        failing[0] = False
        await world.live(100)
        assert world.heard() == ["one", "two", "three"]
        assert world.view()["lastError"] is None

    run(main)


def test_a_crash_between_the_inbox_and_the_state_doubles_nothing(run, monkeypatch):
    async def main(world: World):
        world.is_in()
        await world.live(10, close=False)
        real = states.save

        def fail(*_) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(states, "save", fail)
        world.server.say("one")
        world.server.say("two")
        await world.live(40, close=False)
        assert world.heard() == ["one", "two"]
        await world.die(suddenly=True)
        monkeypatch.setattr(states, "save", real)
        world.server.say("three")
        await world.live(60)
        assert world.heard() == ["one", "two", "three"]

    run(main)


def test_case_82_an_inbox_moved_away_after_a_crash_was_recovered_from_repeats_nothing(run, monkeypatch):
    """A crash before the state was saved, a life in which nothing new came, then a hand, then another crash."""

    async def main(world: World):
        world.is_in()
        world.server.say("zero")
        await world.live(10, close=False)
        with monkeypatch.context() as patch:
            patch.setattr(states, "save", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
            world.server.say("one")
            await world.live(40, close=False)
            await world.die(suddenly=True)
        await world.live(40, close=False)
        (world.folder / "inbox.jsonl").rename(world.folder / "inbox-1.jsonl")
        await world.die(suddenly=True)
        world.server.say("two")
        await world.live(60)
        assert world.heard() == ["zero", "one", "two"]

    run(main)


def test_a_lost_state_is_made_again_from_the_inbox(run):
    async def main(world: World):
        world.is_in()
        for n in range(5):
            world.server.say(f"text {n}")
        await world.live(60)
        (world.folder / ".nexusd" / "state.json").write_bytes(b"\0" * 100)
        world.server.say("new")
        await world.live(60)
        assert world.heard() == [*(f"text {n}" for n in range(5)), "new"]
        assert world.notices() == []

    run(main)


def test_a_deleted_inbox_goes_on_with_the_next_number(run):
    async def main(world: World):
        world.is_in()
        world.server.say("one")
        await world.live(20, close=False)
        (world.folder / "inbox.jsonl").unlink()
        world.server.say("two")
        await world.live(40)
        lines = (world.folder / "inbox.jsonl").read_text().splitlines()
        assert len(lines) == 1
        assert '"seq":2' in lines[0]

    run(main)


def test_case_84_an_inbox_that_was_copied_and_truncated_goes_on_at_its_new_end(run):
    async def main(world: World):
        world.is_in()
        world.server.say("one")
        world.server.say("two")
        await world.live(10, close=False)
        path = world.folder / "inbox.jsonl"
        copy = path.read_bytes()
        os.truncate(path, 0)
        world.server.say("three")
        await world.live(40)
        world.server.say("four")
        await world.live(400)
        path.write_bytes(copy + path.read_bytes())
        assert world.heard() == ["one", "two", "three", "four"]
        assert world.notices() == []

    run(main)


def test_an_inbox_that_is_not_ours_stalls_loudly_until_it_is_taken_away(run, tmp_path):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        os.symlink(tmp_path / "elsewhere", world.folder / "inbox.jsonl")
        world.server.say("one")
        await world.live(120, close=False)
        assert world.view()["lastError"]
        assert not (tmp_path / "elsewhere").exists()
        (world.folder / "inbox.jsonl").unlink()
        await world.live(120)
        assert world.heard() == ["one"]

    run(main)


def test_what_agents_may_read_is_never_old_and_holds_no_secret(run):
    async def main(world: World):
        world.is_in()
        await world.live(1, close=False)
        assert world.view()["state"] == "active"
        assert world.view()["members"] == [{"agentId": "bob", "lastSeenAt": "x"}]
        (world.folder / "session.json").unlink()
        await world.live(60, close=False)
        text = (world.folder / "session.json").read_text()
        assert world.session.id not in text
        assert world.session.key not in text
        await world.die()
        assert world.view()["state"] == "stopped"

    run(main)


def test_a_session_in_which_nothing_was_ever_said_is_asked_once_a_minute_where_polls_are_held(run):
    async def main(world: World):
        world.is_in()
        world.server.holds = True
        await world.live(100, close=False)
        assert len(world.server.asked("poll")) <= 4
        world.server.say("the first")
        await world.live(1, close=False)
        assert world.heard() == ["the first"]
        await world.live(600)
        assert len(world.server.asked("poll")) <= 22  # one each 50 s, and a look from the very first each 300 s

    run(main)


def test_an_answer_that_is_too_long_and_brings_nothing_is_not_asked_for_without_a_pause(run):
    async def main(world: World):
        world.is_in()
        world.server.say("old")
        await world.live(30, close=False)
        real = world.server.poll

        async def poll(*given, **more):
            return dataclasses.replace(await real(*given, **more), messages=[], cut=True)

        world.server.poll = poll
        before = len(world.server.asked("poll"))
        await world.live(100)
        assert len(world.server.asked("poll")) - before <= 12

    run(main, poll_interval='"10s"')


@pytest.mark.parametrize("shown", ["greeting", "all"])
def test_a_server_that_holds_no_poll_while_it_has_anything_to_show_is_not_asked_without_a_pause(run, shown):
    """It ignores `after`, or shows a greeting to who asks from 0."""

    async def main(world: World):
        world.is_in()
        world.server.holds = True
        world.server.say("welcome", "system", cursor="0")
        if shown == "all":
            world.server.say("old")
        real = world.server.poll

        async def poll(session, agent, *, after=None, wait=0, **asked):
            return await real(session, agent, after=None, **asked)

        world.server.poll = poll
        await world.live(100, close=False)
        if shown == "greeting":
            world.session.state.cursor = 7  # what was there has expired
        before = len(world.server.asked("poll"))
        await world.live(300, close=False)
        assert len(world.server.asked("poll")) - before <= 40
        world.server.say("new", cursor="9")
        await world.live(30)
        assert world.heard()[-1] == "new"

    run(main, poll_interval='"10s"')


@pytest.mark.parametrize("answers", [True, False])
def test_a_server_that_is_slow_to_say_that_it_holds_polls_is_not_taken_for_one_that_does_not(run, answers):
    async def main(world: World):
        world.is_in()
        world.server.holds = True
        real = world.server.health

        async def slow():
            await asyncio.sleep(25)
            if not answers:
                raise lost()
            return await real()

        world.server.health = slow
        await world.live(100, close=False)
        world.server.say("hello")
        await world.live(60, close=False)
        assert world.heard() == (["hello"] if answers else [])
        assert len(world.server.asked("poll")) <= 8

    run(main, poll_interval='"1h"')


def test_what_waits_for_its_turn_does_not_hold_up_the_end(run):
    async def main(world: World):
        world.is_in()
        for n in range(30):
            world.drop(f"{n}", f"text {n}")
        await world.live(20, close=False)
        assert world.session.waiting
        began = virtual.clock()
        await world.die()
        assert virtual.clock() - began < 0.1

    run(main, requests_per_minute="6")


@pytest.mark.parametrize("suddenly", [True, False])
@pytest.mark.parametrize("verified", [None, False])
def test_on_a_server_that_verifies_nothing_our_own_are_known_by_their_receipts_in_every_life(run, verified, suddenly):
    async def main(world: World):
        world.is_in()
        say = world.server.say

        def unverifying(text, agent="bob", **more):
            cursor = say(text, agent, **more)
            world.server.messages[-1].pop("verified")
            if verified is not None:
                world.server.messages[-1]["verified"] = verified
            return cursor

        world.server.say = unverifying
        world.server.say("in")
        for n in range(3):
            world.drop(f"{n}", f"own {n}")
        await world.live(60, close=False)
        await world.die(suddenly=suddenly)
        world.server.say("in again")
        await world.live(60)
        assert world.heard() == ["in", "in again"]
        assert world.notices() == []

    run(main)


def test_a_server_that_verifies_no_more_does_not_make_our_own_somebody_elses(run):
    async def main(world: World):
        world.is_in()
        world.server.say("in")
        world.drop("a", "while it verified")
        await world.live(60, close=False)
        assert world.session.state.verifies
        world.server.members["me"] = "another-key"  # as by the specification: it is taken, and not verified
        world.drop("b", "not verified")
        await world.live(60, close=False)
        await world.die(suddenly=True)
        await world.live(60)
        assert world.heard() == ["in"]

    run(main)
