"""What all sessions of one server share."""

from __future__ import annotations

import asyncio

import pytest

from nexusd.bridge import link as links
from nexusd.bridge.link import LONG_POLL, LONG_POLLS, WINDOW, Link
from nexusd.errors import Fate, RequestError
from nexusd.wire.records import Health
from tests import virtual
from tests.bridge.world import World, lost, refusal, unreachable


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
        assert await link.long_poll() == LONG_POLL
        assert len(server.asked("health")) == 1
        await asyncio.sleep(links.CAPS_LIFETIME + 1)
        await link.takes_json()
        assert len(server.asked("health")) == 2

    linked(run, main, health=ABLE)


@pytest.mark.parametrize("health", [{}, {"capabilities": {"longPoll": "yes"}}, refusal(404), refusal(404, "not_found")])
def test_an_old_server_takes_text_and_holds_no_poll_back(run, health):
    async def main(link: Link, server):
        return await link.takes_json(), await link.long_poll(), len(server.asked("health"))

    assert linked(run, main, health=health) == (False, 0, 1)


@pytest.mark.parametrize("fault", [unreachable(), lost(), refusal(429, "rate_limit_exceeded")])
def test_a_server_that_does_not_answer_is_not_taken_for_an_old_one(run, fault):
    async def main(link: Link, _):
        with pytest.raises(RequestError) as caught:
            await link.takes_json()
        return caught.value.fate

    assert linked(run, main, health=fault) is fault.fate


def test_no_more_than_some_polls_are_held_at_once(run):
    async def main(link: Link, _):
        with link.holding():
            assert await link.long_poll() == LONG_POLL
            link._held = LONG_POLLS - 1
            with link.holding():
                assert await link.long_poll() == 0
            assert await link.long_poll() == LONG_POLL

    linked(run, main, health=ABLE)


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(None, WINDOW), (0.0, 1.0), (0.2, 1.0), (7.0, 7.0), (300.0, 300.0)]
)
def test_a_server_that_is_too_busy_is_left_alone_by_all(run, retry_after, seconds):
    async def main(link: Link, _):
        assert link.wait_for(RequestError(Fate.WAIT, "x", "y", retry_after=retry_after)) == seconds
        return link.budget.paused_for

    assert linked(run, main) == pytest.approx(seconds)
