"""Entering, being put out, coming back, and never being somebody else."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os

import pytest

from nexusd import serving
from nexusd.bridge import handover
from nexusd.spool import state as states
from tests import virtual
from tests.bridge.world import ID, OTHER_ID, SERVER, World, refusal


def test_who_is_not_in_joins_and_writes_down_what_it_got(run):
    async def main(world: World):
        await world.live(10)
        key = world.server.members["me"]
        assert (world.client_dir.agent(ID), world.client_dir.key(ID), world.client_dir.server(ID)) == (
            "me",
            key,
            SERVER,
        )
        assert len(world.server.asked("join")) == 1
        await world.live(60)
        assert len(world.server.asked("join")) == 1

    run(main)


def test_who_has_joined_already_does_not_join_again(run):
    async def main(world: World):
        world.is_in()
        await world.live(60)
        assert world.server.asked("join") == []

    run(main)


def test_a_name_that_is_taken_by_we_do_not_know_whom_is_never_used(run):
    async def main(world: World):
        world.server.members["me"] = "somebody-elses"
        world.server.say("not for us")
        world.drop("x")
        await world.live(1800, close=False)
        assert world.session.standing.status == "stopped"
        assert (world.server.asked("poll"), world.server.asked("send"), world.server.asked("renew")) == ([], [], [])
        assert world.client_dir.agent(ID) is None
        assert "--adopt" in world.view()["lastError"]
        assert world.where() == {"x": "outbox"}
        await world.die()
        del world.server.members["me"]  # at the next start it is tried again
        await world.live(60)
        assert world.server.texts() == ["hello"]

    run(main)


def test_without_a_name_nobody_joins(run):
    async def main(world: World):
        object.__setattr__(world.config.sessions[0].settings, "agent_id", None)
        await world.live(60, close=False)
        assert world.server.log == []
        assert "no agent_id is set" in world.view()["lastError"]

    run(main)


def test_who_left_by_hand_while_we_were_away_is_not_joined_again(run):
    async def main(world: World):
        await world.live(10)
        world.client_dir.forget(ID)
        del world.server.members["me"]
        world.drop("x")
        await world.live(600)
        assert len(world.server.asked("join")) == 1
        assert world.notices() == ["left", "bounced"]
        assert world.where() == {"x": "failed"}
        assert world.error("x")["error"] == "left"
        await world.live(600)
        assert world.notices() == ["left", "bounced"]

    run(main)


def test_who_leaves_by_hand_while_we_run_is_not_joined_again(run):
    async def main(world: World):
        await world.live(10, close=False)
        world.client_dir.forget(ID)
        del world.server.members["me"]
        await world.live(600)
        assert len(world.server.asked("join")) == 1
        assert world.notices() == ["left"]
        assert world.view()["state"] == "left"

    run(main)


def test_who_enters_again_by_hand_is_served_again(run):
    async def main(world: World):
        await world.live(10)
        world.client_dir.forget(ID)
        await world.live(60)
        world.is_in("a-new-key-123456")
        world.server.say("welcome back")
        await world.live(60)
        assert world.heard() == ["welcome back"]

    run(main)


def test_who_is_put_out_by_the_server_comes_back_and_misses_nothing(run):
    async def main(world: World):
        world.is_in()
        world.server.say("one")
        await world.live(20, close=False)
        del world.server.members["me"]
        world.server.say("two")
        await world.live(120)
        assert world.heard() == ["one", "two"]
        assert world.notices() == ["rejoined"]
        assert world.client_dir.key(ID) == world.server.members["me"] != "mine-123456"
        assert world.view()["state"] == "stopped"

    run(main)


def test_who_is_put_out_again_and_again_comes_back_three_times_an_hour(run):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 86400.0
        await world.live(5, close=False)
        for _ in range(120):
            world.server.members.pop("me", None)
            await world.live(60, close=False)
        joins = world.server.asked("join")
        assert all(sum(1 for at in joins if begin <= at < begin + 3590) <= 3 for begin in joins)
        assert len(joins) in (5, 6, 7)
        assert world.session.standing.status == "evicted"

    run(main)


def test_the_count_of_an_hour_survives_a_restart_of_ours(run):
    async def main(world: World):
        world.is_in()
        for _ in range(10):
            await world.live(5, close=False)
            world.server.members.pop("me", None)
            await world.live(60)
        assert len(world.server.asked("join")) == 3

    run(main)


def test_a_key_the_server_does_not_take_is_replaced_by_joining(run):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        world.server.fail("send", refusal(403, "invalid_session_key"))
        del world.server.members["me"]
        world.drop("x")
        await world.live(60)
        assert world.server.texts() == ["hello"]
        assert world.server.messages[-1]["verified"]
        assert world.receipt("x")["attempts"] == 2
        assert not world.receipt("x")["possibleDuplicate"]

    run(main)


def test_who_is_in_with_a_key_that_is_not_good_goes_on_without_it(run):
    async def main(world: World):
        world.is_in()
        world.server.members["me"] = "another-key"
        world.drop("x")
        await world.live(120)
        assert world.server.texts() == ["hello"]
        assert not world.server.messages[-1]["verified"]
        assert world.log.named("session.unverified")
        assert world.notices() == ["rejoined"]
        assert world.server.asked("join") == []

    run(main)


@pytest.mark.parametrize("restarted", [False, True])
def test_who_finds_somebody_else_under_our_name_after_being_put_out_stops(run, restarted):
    async def main(world: World):
        world.is_in()
        await world.live(31, close=False)
        del world.server.members["me"]
        join = world.server.join

        async def and_another(session, agent):
            world.server.members["me"] = "somebody-elses"
            return await join(session, agent)

        world.server.join = and_another  # between our look and our join
        world.server.fail("poll", refusal(403, "agent_not_in_session"), refusal(403, "agent_not_in_session"))
        await world.live(60, close=restarted)
        world.drop("x", "private")
        await world.live(1800, close=False)
        assert world.server.texts() == []
        assert world.session.standing.status == "stopped"
        assert "somebody else is in it as me" in world.view()["lastError"]
        polls = len(world.server.asked("poll"))
        await world.live(1800)
        assert len(world.server.asked("poll")) == polls

    run(main)


def test_a_node_that_had_not_heard_of_us_is_no_reason_to_stop(run):
    """It lists us not, and the one behind it knows our name and takes our key."""

    async def main(world: World):
        world.is_in()
        await world.live(31, close=False)
        members = world.server.members.pop("me")
        join = world.server.join

        async def by_another_node(session, agent):
            world.server.members["me"] = members
            return await join(session, agent)

        world.server.join = by_another_node
        world.server.fail("poll", refusal(403, "agent_not_in_session"), refusal(403, "agent_not_in_session"))
        await world.live(120, close=False)
        world.drop("x")
        await world.live(120)
        assert world.server.texts() == ["hello"]
        assert world.server.messages[-1]["verified"]
        assert world.session.standing.status == "active"

    run(main)


def test_a_join_after_being_put_out_whose_answer_was_lost_was_ours(run):
    async def main(world: World):
        world.is_in()
        await world.live(31, close=False)
        del world.server.members["me"]
        world.server.lose("join")
        world.server.fail("poll", refusal(403, "agent_not_in_session"), refusal(403, "agent_not_in_session"))
        world.drop("x")
        await world.live(300)
        assert world.server.texts() == ["hello"]
        assert world.session.standing.status == "active"
        assert world.session.state.joining == ""

    run(main)


def test_what_a_hand_got_by_joining_anew_is_used(run):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        world.is_in("a-new-key-123456")
        world.drop("x")
        await world.live(60)
        assert world.server.messages[-1]["verified"]
        assert world.server.asked("join") == []

    run(main)


def test_a_session_that_is_full_is_tried_again_and_said_once(run):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        del world.server.members["me"]
        world.server.fail("join", *[refusal(409, "session_full")] * 2)
        await world.live(3 * 3600)
        assert world.notices().count("rejoined") == 1
        assert world.notices().count("evicted") >= 1
        assert len({line["id"] for line in world.inbox() if line.get("notice") == "evicted"}) == 1

    run(main)


def test_a_full_session_is_waited_for_at_the_start(run):
    async def main(world: World):
        world.server.fail("join", *[refusal(409, "session_full")] * 5)
        await world.live(600)
        joins = world.server.asked("join")
        assert len(joins) == 6
        assert min(b - a for a, b in itertools.pairwise(joins)) >= 59
        assert world.client_dir.agent(ID) == "me"

    run(main)


# ---- the end of a session


def over(world: World) -> None:
    """The server knows the session no more."""
    world.server.ends_at = virtual.clock() - 1


def test_the_end_is_believed_when_it_is_said_twice_half_a_minute_apart(run):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        over(world)
        began = virtual.clock() - virtual.START
        world.drop("x")
        await world.live(120, close=False)
        gone = [at for what in ("poll", "send", "renew") for at in world.server.asked(what) if at >= began - 0.1]
        assert 28 <= max(gone) - min(gone) < 75
        assert world.notices() == ["expired"]
        assert world.view()["state"] == "expired"
        assert set(world.where().values()) <= {"outbox", "sending"}

    run(main)


def test_case_119a_an_end_is_doubted_for_an_hour_while_the_files_wait(run):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        over(world)
        world.drop("x")
        await world.live(100, close=False)
        before = len(world.server.asked("session"))
        await world.live(3000, close=False)
        assert len(world.server.asked("session")) - before == 12  # every four minutes, one look each
        assert set(world.where().values()) <= {"outbox", "sending"}
        await world.live(1000, close=False)
        assert world.where() == {"x": "failed"}
        assert world.error("x")["error"] == "expired"
        assert world.notices() == ["expired", "bounced"]
        asked = len(world.server.log)
        world.drop("y")
        await world.live(3600)
        assert len(world.server.log) == asked
        await world.live(3600)
        assert len(world.server.log) == asked + 1  # each life asks once
        assert world.where() == {"x": "failed", "y": "failed"}
        assert world.notices().count("expired") == 1

    run(main)


@pytest.mark.parametrize("asleep", [200.0, 600.0, 3000.0])
def test_case_119a_a_session_that_comes_back_is_served_again_by_itself(run, asleep):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        over(world)
        world.drop("x")
        await world.live(asleep, close=False)
        assert world.session.standing.status == "expired"
        world.server.alive()
        world.server.say("back")
        await world.live(3000, close=False)
        assert world.session.standing.status == "active"
        assert (world.heard(), world.server.texts()) == (["back"], ["hello"])
        assert world.notices() == ["expired", "rejoined"]
        over(world)
        await world.live(200)
        assert world.notices() == ["expired", "rejoined", "expired"]

    run(main)


def test_case_119a_a_balancer_with_a_wrong_node_ends_nothing(run):
    async def main(world: World):
        world.is_in()
        count = itertools.count()
        real = world.server._request

        def one_in_three(what: str):
            if what != "health" and next(count) % 3 == 0:
                world.server.faults[what] = [refusal(404, "session_not_found")]
            return real(what)

        world.server._request = one_in_three
        for n in range(20):
            world.drop(f"x{n:02}", f"text {n}")
            world.server.say(f"hello {n}")
            await world.live(300, close=False)
        assert world.notices() == []
        assert world.heard() == [f"hello {n}" for n in range(20)]
        assert set(world.where().values()) == {"sent"}

    run(main)


@pytest.mark.parametrize("answers", [1, 2, 5])
def test_an_end_that_was_said_by_mistake_is_forgotten(run, answers):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        for _ in range(10):
            world.server.fail("poll", *[refusal(404, "session_not_found")] * answers)
            await world.live(400, close=False)
        return world.session.standing.status, world.notices()

    assert run(main) == ("active", [])


@pytest.mark.parametrize("fault", [refusal(404), refusal(403), refusal(401), refusal(409), refusal(410)])
def test_a_proxy_ends_no_session_and_puts_nobody_out(run, fault):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        for what in ("poll", "renew", "send"):
            world.server.fail(what, *[fault] * 12)
        world.drop("x")
        await world.live(3000)
        assert world.server.asked("join") == []
        assert world.notices() == []
        assert world.server.texts() == ["hello"]

    run(main)


def test_another_session_under_an_old_name_starts_anew_and_numbers_go_on(run):
    async def main(world: World):
        world.is_in()
        world.server.say("one")
        await world.live(20, close=False)
        world.server.fail("send", *[refusal(503)] * 50)
        world.drop("claimed")
        await world.live(20)
        assert world.where() == {"claimed": "sending"}
        world.drop("dropped")
        (config,) = world.config.sessions
        object.__setattr__(config, "id", "7a" * 24)
        world.client_dir.save("7a" * 24, server=SERVER, key=world.server.members["me"], agent="me")
        world.server.faults.clear()
        world.server.restart()
        world.server.say("first of another")
        await world.live(60)
        assert world.heard() == ["one", "first of another"]
        assert world.error("claimed")["error"] == "session_changed"
        assert world.error("dropped")["error"] == "session_changed"
        assert world.notices() == ["bounced", "bounced"]
        assert world.server.texts() == []  # what was dropped for the one is no message to the other

    run(main)


def test_an_id_that_is_changed_and_changed_back_brings_nothing_twice(run):
    async def main(world: World):
        world.is_in()
        world.server.say("one")
        await world.live(20)
        (ours,) = world.config.sessions
        world.client_dir.save(OTHER_ID, server=SERVER, key=world.server.members["me"], agent="me")
        world.config = dataclasses.replace(world.config, sessions=(dataclasses.replace(ours, id=OTHER_ID),))
        await world.live(20)
        assert world.heard() == ["one", "one"]  # this server tells all sessions the same: it is of the other one
        world.config = dataclasses.replace(world.config, sessions=(ours,))
        world.server.say("two")
        await world.live(20)
        assert world.heard() == ["one", "one", "two"]
        assert [found["seq"] for found in world.inbox()] == [1, 2, 3]

    run(main)


def test_a_death_while_files_are_given_back_leaves_each_session_its_own_place(run, monkeypatch):
    async def main(world: World):
        world.is_in()
        (ours,) = world.config.sessions
        other = dataclasses.replace(ours, id=OTHER_ID)
        world.client_dir.save(OTHER_ID, server=SERVER, key=world.server.members["me"], agent="me")
        for count, session in ((1, ours), (3, other)):  # the other one is read further
            world.config = dataclasses.replace(world.config, sessions=(session,))
            for n in range(count):
                world.server.say(f"{count} {n}")
            await world.live(20)
        world.drop("x", "for the other")
        world.config = dataclasses.replace(world.config, sessions=(ours,))
        with monkeypatch.context() as dying:
            dying.setattr(handover.sending, "settle", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await world.live(20)
        world.runner = None
        state = states.load(world.session.folder)
        assert (state.cursor, state.digest) == (4, states.digest_of(SERVER, OTHER_ID))

    run(main)


def test_an_end_that_two_lanes_find_out_together_is_said_once(run):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 60.0
        await world.live(5, close=False)
        over(world)
        world.drop("x")
        await world.live(200)
        assert world.notices().count("expired") == 1

    run(main, poll_interval='"1s"', active_poll_interval='"1s"')


@pytest.mark.parametrize("meant", ["old", "new"])
def test_a_file_that_was_dropped_for_another_session_of_this_name_is_not_sent(run, meant):
    async def main(world: World):
        world.is_in()
        serving.point(world.client_dir, world.config.sessions[0].id, str(world.folder))
        await world.live(5)
        path = world.drop("x", "for the old one")
        world.config = dataclasses.replace(
            world.config, sessions=(dataclasses.replace(world.config.sessions[0], id=OTHER_ID),)
        )
        world.client_dir.save(OTHER_ID, server=SERVER, key="mine-123456", agent="me")
        serving.point(world.client_dir, OTHER_ID, str(world.folder))
        pointer = world.folder.parent.parent / "client" / "sessions" / OTHER_ID / "nexusd"
        at = os.stat(pointer).st_mtime + (1 if meant == "old" else 0)
        os.utime(pointer, (at, at))
        if meant == "new":
            path.rename(path.with_name("y"))
        await world.live(60)
        if meant == "old":
            assert world.error("x")["error"] == "session_changed"
            assert world.server.texts() == []
        else:
            assert world.where() == {"y": "sent"}

    run(main)


def test_an_id_that_goes_to_and_fro_takes_no_file_of_the_other_session(run):
    async def main(world: World):
        world.is_in()
        (ours,) = world.config.sessions
        other = dataclasses.replace(ours, id=OTHER_ID)
        world.client_dir.save(OTHER_ID, server=SERVER, key=world.server.members["me"], agent="me")
        for session in (other, ours):  # in this order they were added
            serving.point(world.client_dir, session.id, str(world.folder))
        for n, session in enumerate((ours, other, ours, other)):
            world.config = dataclasses.replace(world.config, sessions=(session,))
            await world.live(20)
            world.drop(f"{n}", "for the one that has the name now")
        assert world.server.texts() == []
        assert world.where() == {"0": "failed", "1": "failed", "2": "failed", "3": "outbox"}
        await world.live(20)
        assert world.where()["3"] == "sent"

    run(main)


def test_two_lanes_that_find_out_together_come_back_once(run):
    async def main(world: World):
        world.is_in()
        await world.live(31, close=False)
        real = world.server.join

        async def slow(session, agent):
            found = await real(session, agent)
            await asyncio.sleep(4)
            return found

        world.server.join = slow
        del world.server.members["me"]
        world.drop("x", "hello")
        await world.live(120)
        assert len(world.server.asked("join")) == 1
        assert world.notices() == ["rejoined"]
        assert world.server.messages[-1]["verified"]

    run(main)
