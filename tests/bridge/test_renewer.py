"""Alive for as long as it is wanted."""

from __future__ import annotations

import itertools

import pytest

from nexusd.bridge import view
from nexusd.bridge.renewer import LATEST, due_in, retry_in
from tests.bridge.world import World, refusal, unreachable


@pytest.mark.parametrize(
    ("remaining", "ttl", "wait"),
    [(3600, 3600, 1800), (1800, 3600, 0), (1801, 3600, 1), (0, 3600, 0), (-5, 3600, 0), (None, 60, 0), (60, None, 0)],
)
def test_it_is_due_at_half_the_time(remaining, ttl, wait):
    assert due_in(remaining, ttl) == wait


@pytest.mark.parametrize(
    ("remaining", "backoff", "wait"),
    [(1800, 60, 60), (1800, 1, 1), (120, 60, 30), (40, 60, 10), (10, 60, LATEST), (0, 60, LATEST), (None, 60, LATEST)],
)
def test_it_is_tried_again_the_sooner_the_less_time_is_left(remaining, backoff, wait):
    assert retry_in(remaining, backoff) == wait


def test_a_quiet_session_is_renewed_at_half_its_time_and_lives(run):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        world.server.alive()
        await world.live(3 * 3600, close=False)
        times = world.server.asked("renew")
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert times[0] < 5  # nobody had told us how long it lives
        assert all(295 <= gap <= 305 for gap in gaps)
        assert world.session.standing.status == "active"

    run(main)


def test_messages_make_renewals_unnecessary(run):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        await world.live(10, close=False)
        for n in range(20):
            world.drop(f"x{n}")
            await world.live(200, close=False)
        assert len(world.server.asked("renew")) == 1

    run(main)


def test_a_server_that_answers_no_poll_is_renewed_all_the_same(run):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        world.server.fail("poll", *[refusal(502)] * 10_000)
        await world.live(3 * 3600, close=False)
        assert len(world.server.asked("renew")) > 30

    run(main)


def test_renewals_that_fail_are_tried_until_the_last_moment(run):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        await world.live(10, close=False)
        world.server.fail("renew", *[unreachable()] * 1000)
        await world.live(575, close=False)
        world.server.faults["renew"].clear()  # 15 s before the end the network is back
        await world.live(600, close=False)
        assert world.session.standing.status == "active"
        assert world.notices() == []

    run(main)


def test_what_nobody_wants_any_more_lapses_and_says_so_once(run):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        await world.live(3600, close=False)
        assert world.notices() == ["lapsing"] or world.notices() == ["lapsing", "expired"]
        await world.live(3600)
        assert world.notices() == ["lapsing", "expired"]
        assert max(world.server.asked("renew")) < 1800

    run(main, renew_for='"20m"')


@pytest.mark.parametrize("who", ["bob", "me"])
def test_a_message_either_way_makes_it_wanted_again(run, who):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 1200.0
        await world.live(2000, close=False)
        assert world.notices() == ["lapsing"]
        if who == "bob":
            world.server.say("still there?")
        else:
            world.drop("x")
        await world.live(700, close=False)
        assert max(world.server.asked("renew")) > 2000
        assert world.notices() == ["lapsing"]
        await world.live(1800, close=False)
        assert world.notices()[:2] == ["lapsing", "lapsing"]
        assert len({line["id"] for line in world.inbox() if line.get("notice") == "lapsing"}) == 2

    run(main, renew_for='"21m"')


def test_never_is_never(run):
    async def main(world: World):
        world.is_in()
        world.server.ttl = 600.0
        world.server.alive()
        await world.live(3600)
        return len(world.server.asked("renew")), world.notices()

    assert run(main, renew_for='"0"') == (0, ["lapsing", "expired"])


def test_always_is_longer_than_a_week(run, monkeypatch):
    monkeypatch.setattr(view, "AGE", 86400.0)

    async def main(world: World):
        world.is_in()
        world.server.ttl = 86400.0
        await world.live(9 * 86400, close=False)
        assert len(world.server.asked("renew")) >= 17
        assert world.session.standing.status == "active"

    run(main, renew_for='"always"', poll_interval='"1h"')


def test_a_week_without_a_message_is_the_default(run, monkeypatch):
    monkeypatch.setattr(view, "AGE", 86400.0)

    async def main(world: World):
        world.is_in()
        world.server.ttl = 86400.0
        await world.live(9 * 86400)
        assert 6.4 * 86400 < max(world.server.asked("renew")) < 7.1 * 86400
        assert world.notices() == ["lapsing", "expired"]

    run(main, poll_interval='"1h"')


def test_a_time_to_live_is_asked_for_and_what_the_server_gives_counts(run):
    async def main(world: World):
        world.is_in()
        await world.live(3600, close=False)
        assert world.server.ttl == 120.0
        times = world.server.asked("renew")
        assert len(times) == pytest.approx(60, abs=3)

    run(main, ttl='"2m"')


def test_where_no_reply_names_an_end_the_time_to_live_is_counted(run):
    async def main(world: World):
        world.is_in()
        world.server.ttl, world.server.expires = 600.0, False
        await world.live(3600, close=False)
        assert len(world.server.asked("renew")) == pytest.approx(13, abs=1)

    run(main)


def test_where_no_reply_says_anything_the_shortest_life_is_assumed(run):
    async def main(world: World):
        world.is_in()
        world.server._lease = dict
        await world.live(600, close=False)
        assert len(world.server.asked("renew")) == pytest.approx(20, abs=2)
        assert world.session.standing.status == "active"

    run(main)


def test_a_later_life_knows_how_long_it_still_lives(run):
    async def main(world: World):
        world.is_in()
        await world.live(100)
        await world.live(100)
        assert len(world.server.asked("renew")) == 1

    run(main)
