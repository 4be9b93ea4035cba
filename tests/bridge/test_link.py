"""What all sessions of one server share."""

from __future__ import annotations

import asyncio

import pytest

from nexusd.bridge import link as links
from nexusd.bridge.link import LONG_POLL, LONG_POLLS, WINDOW, Link
from nexusd.errors import Fate, RequestError
from nexusd.wire.records import Health
from tests import virtual
from tests.bridge.world import SERVER, World, lost, refusal, unreachable


def linked(run, main, *, health: dict | RequestError | None = None):
    """Runs `main(link, server)`; `health` is what the server says of itself."""

    async def begin(world: World):
        world.born()
        link = world.session.link
        if isinstance(health, RequestError):
            world.server.fail("health", *[health] * 99)
        elif health is not None:

            async def said() -> Health:
                world.server.log.append((virtual.clock(), "health"))
                return Health.of(health)

            world.server.health = said
        return await main(link, world.server)

    return run(begin)


ABLE = {"capabilities": {"messageFormat": ["text", "json"], "longPoll": True}}


def test_what_a_server_can_do_is_asked_once_for_all_sessions_and_again_after_a_while(run):
    async def main(link: Link, server):
        assert set(await asyncio.gather(*(link.takes_json() for _ in range(20)))) == {True}
        assert link.long_poll() == LONG_POLL
        assert len(server.asked("health")) == 1
        await asyncio.sleep(links.CAPS_LIFETIME + 1)
        await link.takes_json()
        await asyncio.sleep(1)  # asked meanwhile; nobody waits for it
        assert len(server.asked("health")) == 2

    linked(run, main, health=ABLE)


@pytest.mark.parametrize("health", [{}, {"capabilities": {"longPoll": "yes"}}, refusal(404), refusal(404, "not_found")])
def test_an_old_server_takes_text_and_holds_no_poll_back(run, health):
    async def main(link: Link, server):
        return await link.takes_json(), link.long_poll(), len(server.asked("health"))

    assert linked(run, main, health=health) == (False, 0, 1)


@pytest.mark.parametrize(
    "fault", [unreachable(), lost(), refusal(429, "rate_limit_exceeded"), refusal(404), refusal(500)]
)
def test_case_103_whatever_health_answers_what_was_known_counts_on(run, fault):
    async def main(link: Link, server):
        assert await link.takes_json() is True
        server.faults["health"] = [fault] * 3
        server.health = original
        await asyncio.sleep(links.CAPS_LIFETIME + 1)
        assert await link.takes_json() is True
        assert link.long_poll() == LONG_POLL

    original = None

    async def begin(world: World):
        nonlocal original
        original = world.server.health
        world.server.holds = True
        link = Link(SERVER, world.config)
        link.client = world.server
        return await main(link, world.server)

    run(begin)


def test_case_103_nothing_waits_for_a_health_that_hangs_but_what_has_nothing_else_to_go_by(run):
    async def main(link: Link, server):
        began = asyncio.get_running_loop().time()
        assert link.long_poll() == 0
        assert asyncio.get_running_loop().time() == began
        assert await link.takes_json() is False
        assert asyncio.get_running_loop().time() - began < 6.0
        assert await link.takes_json() is False
        assert asyncio.get_running_loop().time() - began < 6.0
        await link.close()

    async def begin(world: World):
        async def hang():
            await asyncio.sleep(3600)

        world.server.health = hang
        link = Link(SERVER, world.config)
        link.client = world.server
        return await main(link, world.server)

    run(begin)


def test_case_118_a_new_connection_is_a_hint_and_an_uptime_that_fell_a_restart(run):
    async def main(link: Link, server):
        await link.learned()
        asked = len(server.asked("health"))
        await link.look_for_a_restart()
        await asyncio.sleep(links.HINTED + 1)
        await link.look_for_a_restart()
        assert len(server.asked("health")) == asked  # no new connection
        server.connections += 1
        await link.look_for_a_restart()
        assert (len(server.asked("health")), link.restarts) == (asked + 1, 0)
        await asyncio.sleep(links.HINTED + 1)
        server.restart()
        await link.look_for_a_restart()
        assert (len(server.asked("health")), link.restarts) == (asked + 2, 1)
        server.connections += 1
        await link.look_for_a_restart()
        assert len(server.asked("health")) == asked + 2  # once a minute at most

    async def begin(world: World):
        link = Link(SERVER, world.config)
        link.client = world.server
        return await main(link, world.server)

    run(begin)


def test_case_118_a_hint_that_comes_too_soon_is_followed_when_a_minute_has_passed(run):
    """Also where the polls on the new connection bring nothing: they only learn what the server can do."""

    async def main(link: Link, server):
        await link.learned()
        await asyncio.sleep(20)
        server.restart()
        await link.learned()
        await asyncio.sleep(links.HINTED - 19)
        await link.learned()
        await asyncio.sleep(1)
        assert link.restarts == 1
        asked = len(server.asked("health"))
        for _ in range(4):
            await asyncio.sleep(links.HINTED + 1)
            await link.learned()
        assert len(server.asked("health")) == asked  # what the question itself was asked on is no hint

    async def begin(world: World):
        link = Link(SERVER, world.config)
        link.client = world.server
        await main(link, world.server)

    run(begin)


def test_case_118_a_server_in_its_first_second_has_been_restarted(run):
    async def begin(world: World):
        link = Link(SERVER, world.config)
        link.client = world.server
        await link.learned()
        await asyncio.sleep(links.HINTED + 40)
        world.server.restart()

        async def newborn():
            return Health.of({"uptime": 0})

        world.server.health = newborn
        await link.look_for_a_restart()
        assert link.restarts == 1

    run(begin)


def test_no_more_than_some_polls_are_held_at_once(run):
    async def main(link: Link, _):
        await link.learned()
        with link.holding():
            assert link.long_poll() == LONG_POLL
            link._held = LONG_POLLS - 1
            with link.holding():
                assert link.long_poll() == 0
            assert link.long_poll() == LONG_POLL

    linked(run, main, health=ABLE)


TIMES = [(None, WINDOW), (0.0, 1.0), (0.2, 1.0), (7.0, 7.0), (300.0, 300.0)]


def busy(retry_after: float | None = 60.0) -> RequestError:
    return RequestError(Fate.WAIT, "rate_limit_exceeded", "y", status=429, retry_after=retry_after)


@pytest.mark.parametrize(("retry_after", "seconds"), TIMES)
def test_a_server_that_is_too_busy_for_polls_is_left_alone_by_all(run, retry_after, seconds):
    async def main(link: Link, _):
        assert link.limited("a", busy(retry_after), everybody=True) == seconds
        return link.budget.paused_for

    assert linked(run, main) == pytest.approx(seconds)


@pytest.mark.parametrize(("retry_after", "seconds"), TIMES)
def test_case_111_a_send_that_is_too_much_pauses_nobody_else_until_a_second_session_gets_one(run, retry_after, seconds):
    async def main(link: Link, _):
        assert link.limited("a", busy(retry_after), everybody=False) == seconds
        assert link.limited("a", busy(retry_after), everybody=False) == seconds
        assert link.budget.paused_for == 0
        link.limited("b", busy(retry_after), everybody=False)
        return link.budget.paused_for

    assert linked(run, main) == pytest.approx(seconds)


def test_case_111_a_session_that_holds_all_it_can_concerns_nobody_else(run):
    full = RequestError(Fate.WAIT, "session_memory_full", "y", status=503, retry_after=60.0)

    async def main(link: Link, _):
        link.limited("a", full, everybody=False)
        link.limited("b", full, everybody=False)
        return link.budget.paused_for

    assert linked(run, main) == 0
