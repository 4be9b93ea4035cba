"""Entering a session, also when the answer to that is lost."""

from __future__ import annotations

import json
import os

import pytest

from nexusd import by_hand
from tests.bridge.world import ID, SERVER, World, lost, refusal, unreachable


def test_a_session_that_was_never_entered_is_joined_after_a_look_at_who_is_in_it(run):
    async def main(world: World):
        await world.live(10)
        assert world.client_dir.agent(ID) == "me"
        assert world.client_dir.key(ID) == world.server.members["me"]
        asked = [what for _, what in world.server.log]
        assert asked.index("session") < asked.index("join")
        assert json.loads((world.folder / ".nexusd" / "state.json").read_text()).get("joining", "") == ""

    run(main)


@pytest.mark.parametrize("fault", [lost(), refusal(502), refusal(504)])
def test_case_113_a_join_whose_answer_was_lost_was_ours(run, fault):
    async def main(world: World):
        world.server.lose("join", fault)
        world.drop("x")
        await world.live(60)
        assert world.server.texts() == ["hello"]
        assert world.session.standing.status == "active"
        assert world.client_dir.agent(ID) == "me"
        assert world.client_dir.key(ID) is None
        assert world.notices() == ["rejoined"]
        assert "unverified" in world.inbox()[-1]["text"]

    run(main)


def test_case_113_a_death_during_the_join_is_no_end(run):
    async def main(world: World):
        world.server.lose("join", lost())
        real = world.server.join

        async def join(session, agent):
            try:
                await real(session, agent)
            finally:
                await world.die(suddenly=True)

        world.server.join = join
        world.born().start()
        for _ in range(300):
            if world.runner is None:
                break
            await world.live(0.1, close=False)
        world.server.join = real
        await world.live(60)
        assert world.session.standing.status == "active"

    run(main)


@pytest.mark.parametrize("in_between", [[], [refusal(429, retry_after=1.0)], [unreachable(), refusal(403)]])
def test_case_113_what_was_not_taken_says_nothing_of_an_earlier_join(run, in_between):
    async def main(world: World):
        world.server.lose("join", lost())
        await world.live(0.5, close=False)
        world.server.fail("join", *in_between)
        await world.live(120)
        assert world.session.standing.status == "active"

    run(main)


def test_a_name_that_was_taken_before_we_asked_is_somebody_elses(run):
    async def main(world: World):
        world.server.members["me"] = "somebody-elses-key"
        await world.live(60)
        assert world.server.asked("join") == []
        assert world.view()["state"] == "stopped"
        assert "agent_id_taken" in world.view()["lastError"]
        assert world.notices() == ["stopped"]
        await world.live(60)
        assert world.notices() == ["stopped"]

    run(main)


def test_a_name_that_is_taken_after_a_refusal_is_somebody_elses(run):
    """An answered join was not ours: whoever has the name then is not us."""

    async def main(world: World):
        world.server.fail("join", refusal(409, "session_full"))
        await world.live(5, close=False)
        world.server.members["me"] = "somebody-elses-key"
        await world.live(200)
        assert world.view()["state"] == "stopped"

    run(main)


@pytest.mark.parametrize("fault", [refusal(401, "unauthorized"), refusal(403, "Forbidden"), refusal(404), refusal(409)])
def test_case_106_a_gateway_at_the_join_is_waited_for(run, fault):
    async def main(world: World):
        world.server.fail("join", *[fault] * 4)
        await world.live(3, close=False)
        assert world.view()["state"] == "backoff"
        await world.live(120)
        assert world.session.standing.status == "active"
        assert world.notices() == []

    run(main)


@pytest.mark.parametrize("kind", ["poll", "send", "renew"])
@pytest.mark.parametrize(
    "fault", [refusal(401, "unauthorized"), refusal(403, "Forbidden"), refusal(403, "forbidden"), refusal(409, "x")]
)
def test_case_106_a_gateway_costs_no_membership_and_no_key(run, kind, fault):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        world.server.fail(kind, *[fault] * 8)
        world.drop("x")
        await world.live(4000, close=False)
        assert world.server.asked("join") == []
        assert world.client_dir.key(ID) == "mine-123456"
        assert world.server.messages[-1]["verified"]
        assert world.session.standing.status == "active"
        assert world.notices() == []

    run(main)


def test_case_152_an_entry_by_hand_is_noticed_without_a_restart(run):
    async def main(world: World):
        world.server.fail("session", *[unreachable()] * 5)
        await world.live(2, close=False)
        world.is_in("by-hand-123456")
        await world.live(120)
        assert world.session.standing.status == "active"
        assert world.server.asked("join") == []

    run(main)


def test_case_114_a_key_that_cannot_be_kept_is_kept_in_memory_until_it_can(run, monkeypatch):
    async def main(world: World):
        real, full = world.client_dir.save, [True]

        def save(session, **values):
            if full:
                raise OSError(28, "No space left on device", world.client_dir.path)
            return real(session, **values)

        monkeypatch.setattr(world.client_dir, "save", save)
        world.drop("x")
        await world.live(40, close=False)
        assert world.server.messages[-1]["verified"]
        assert world.session.standing.status == "blocked"
        assert "the disk is full" in world.session.standing.last_error
        full.clear()
        await world.live(60)
        assert world.client_dir.key(ID) == world.server.members["me"]
        assert world.session.standing.last_error is None
        assert world.client_dir.server(ID) == SERVER

    run(main)


@pytest.mark.parametrize("marked", [True, False])
def test_case_151_who_leaves_by_hand_beside_the_daemon_is_not_joined_again(run, marked):
    """`nexus` writes down that it leaves; other clients delete their record a moment after the server has answered."""

    async def main(world: World):
        world.is_in()
        await world.live(31, close=False)
        if marked:
            by_hand.leaving(world.client_dir, ID, begun=True)  # and its answer is lost: the record stays
        del world.server.members["me"]
        world.drop("x")
        await world.live(2, close=False)
        if not marked:
            world.client_dir.forget(ID)
        await world.live(120)
        assert world.server.asked("join") == []
        assert world.notices()[0] == "left"

    run(main)


def test_a_leave_that_came_to_nothing_is_none(run):
    async def main(world: World):
        world.is_in()
        by_hand.leaving(world.client_dir, ID, begun=True)
        by_hand.leaving(world.client_dir, ID, begun=False)
        await world.live(5, close=False)
        del world.server.members["me"]
        await world.live(120)
        assert world.notices() == ["rejoined"]

    run(main)


@pytest.mark.parametrize("opened", [True, False])
def test_a_client_dir_that_is_away_is_no_leave(run, opened):
    """With it go all records, also of who we are: nobody has left for that, and nothing is made in its place."""

    async def main(world: World):
        world.is_in()
        await world.live(31, close=False)
        if not opened:
            await world.die()
        away = f"{world.client_dir.path}-away"
        os.rename(world.client_dir.path, away)
        del world.server.members["me"]
        await world.live(60, close=False)
        assert world.session.standing.status == "blocked"
        assert "bring it back" in world.session.standing.last_error
        assert not world.client_dir.is_there()
        os.rename(away, world.client_dir.path)
        await world.live(60)
        assert "left" not in world.notices()
        assert world.session.standing.status == "active"

    run(main)


def test_a_key_that_is_got_while_client_dir_is_away_is_kept_once_it_is_back(run):
    async def main(world: World):
        world.is_in()
        await world.live(31, close=False)
        real, away = world.server.join, f"{world.client_dir.path}-away"

        async def join(session, agent):
            found = await real(session, agent)
            os.rename(world.client_dir.path, away)
            return found

        world.server.join = join
        del world.server.members["me"]
        await world.live(60, close=False)
        assert not world.client_dir.is_there()
        assert "it is not there" in world.session.standing.last_error
        os.rename(away, world.client_dir.path)
        await world.live(60)
        assert world.client_dir.key(ID) == world.server.members["me"]
        assert world.session.standing.last_error is None

    run(main)
