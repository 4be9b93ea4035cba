"""How long a session lives, whatever clocks say."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from nexusd import by_hand
from tests.bridge.world import ID, World, refusal


@pytest.mark.parametrize("off", [-7200, -1000, 1000, 7200, 86_400 * 30])
def test_case_110_a_clock_that_is_off_makes_no_loop_of_renewals(run, monkeypatch, off):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        real = world.server._lease

        def lease():
            found = real()
            at = time.gmtime(time.time() + 600 + off)
            return found | {"expiresAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", at)}

        monkeypatch.setattr(world.server, "_lease", lease)
        for n in range(6):
            world.drop(f"x{n}", f"text {n}")
            world.server.say(f"hello {n}")
            await world.live(600, close=False)
        renewals = world.server.asked("renew")
        assert 6 <= len(renewals) <= 3600 / 150 + 1
        assert world.heard() == [f"hello {n}" for n in range(6)]
        assert len(world.server.texts()) == 6
        assert world.session.standing.status == "active"

    run(main)


@pytest.mark.parametrize("jump", [-86_400 * 400, -3600, 3600, 86_400 * 400])
def test_case_110_our_own_clock_moves_no_renewal(run, monkeypatch, jump):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        await world.live(30, close=False)
        right = time.time
        monkeypatch.setattr(time, "time", lambda: right() + jump)
        world.server.expires = False
        await world.live(3000, close=False)
        assert 8 <= len(world.server.asked("renew")) <= 3030 / 150 + 1
        await world.die()
        await world.live(3000)  # another life, with what the first has written down
        assert world.session.standing.status == "active"

    run(main)


@pytest.mark.parametrize("refused", [refusal(400, "invalid_ttl"), refusal(422, "invalid_request"), refusal(400)])
def test_case_109_a_time_to_live_that_is_refused_is_not_insisted_on(run, refused):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        real, asked = world.server.renew, []

        async def renew(session, agent, *, ttl=None):
            asked.append(ttl)
            if ttl is not None:
                world.server.faults["renew"] = [refused]
            return await real(session, agent)

        world.server.renew = renew
        await world.live(3600)
        assert asked.count(604_800) == 1
        assert asked.count(None) >= 10
        assert len(world.log.named("session.ttl_refused")) == 1
        assert world.session.standing.status == "active"

    run(main, ttl='"7d"')


def test_case_109_the_range_that_the_refusal_names_is_taken(run):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        real, asked = world.server.renew, []

        async def renew(session, agent, *, ttl=None):
            asked.append(ttl)
            if ttl is not None and ttl > 3600:
                fault = refusal(400, "invalid_request")
                fault.args = ("ttl must be between 60 and 3600 seconds",)
                world.server.faults["renew"] = [fault]
            return await real(session, agent, ttl=ttl)

        world.server.renew = renew
        await world.live(4 * 3600)
        assert asked[:2] == [604_800, 3600]
        assert set(asked[1:]) == {3600}
        assert len(asked) <= 10

    run(main, ttl='"7d"')


@pytest.mark.parametrize("behind", [3600.0, 30 * 86_400.0])
def test_case_110_a_date_that_is_behind_at_the_join_kills_no_session(run, monkeypatch, behind):
    async def main(world: World):
        world.server.ttl = 60.0
        real = world.server.join

        async def join(session, agent):
            found = await real(session, agent)
            return found._replace(lease=found.lease._replace(ttl=None))  # as most servers answer

        monkeypatch.setattr(world.server, "join", join)
        monkeypatch.setattr(world.server, "remaining", lambda lease: lease.expires_at - time.time() + behind)
        await world.live(600)
        assert world.session.standing.status == "active"
        assert len(world.server.asked("renew")) >= 10

    run(main)


@pytest.mark.parametrize("ttl", [60.0, 64.0, 120.0])
def test_a_renewal_that_hangs_leaves_time_for_another(run, ttl):
    async def main(world: World):
        world.is_in()
        world.server.ttl = ttl
        real, hang = world.server.renew, []

        async def renew(session, agent, *, ttl=None):
            if hang:
                hang.pop()
                await asyncio.sleep(100)
            return await real(session, agent, ttl=ttl)

        world.server.renew = renew
        await world.live(5, close=False)
        hang.append(1)
        await world.live(600)
        assert world.session.standing.status == "active"

    run(main)


@pytest.mark.parametrize("heeded", [True, False])
def test_a_session_that_a_hand_has_renewed_for_less_is_renewed_in_time(run, monkeypatch, heeded):
    async def main(world: World):
        if not heeded:
            monkeypatch.setattr(by_hand, "renewal", lambda *_, **__: None)
        world.is_in()
        await world.live(600, close=False)
        world.server.ttl = 60.0
        world.server.alive()
        by_hand.renewed(world.client_dir, ID, 60)
        os.utime(world.client_dir.path + f"/sessions/{ID}/renewed", (time.time(), time.time()))  # by the world's clock
        world.runner.heed_hand()
        await world.live(1800)
        assert world.session.standing.status == ("active" if heeded else "expired")

    run(main)


def test_a_session_that_a_hand_has_renewed_for_more_is_renewed_as_before(run):
    """What was written down may be older than our own renewal: it gives nothing that we could lose."""

    async def main(world: World):
        world.is_in()
        by_hand.renewed(world.client_dir, ID, 86_400)
        await world.live(5, close=False)
        world.runner.heed_hand()
        await world.live(7200)
        assert world.session.state.ttl == 3600
        assert len(world.server.asked("renew")) >= 3

    run(main)
