"""A lost answer, and an answer that comes late: looked for before anything is posted again, and said."""

from __future__ import annotations

import asyncio

import pytest

from nexusd.wire import records
from tests.bridge.world import World, lost, refusal, unreachable


def delayed(world: World, seconds: float, *, hangs: float = 30.0) -> None:
    """The next send takes effect after so many seconds, and is never answered: it hangs for a deadline."""
    real = world.server.send

    async def send(session, agent, key, *, text=None, payload=None):
        world.server.send = real
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, lambda: world.server.say(text, agent, verified=key is not None))
        world.server.log.append((loop.time(), "send"))
        await asyncio.sleep(hangs)
        raise lost()

    world.server.send = send


@pytest.mark.parametrize("seconds", [1.0, 29.0, 33.0, 50.0, 58.0])
@pytest.mark.parametrize("echo", [True, False])
def test_case_104_a_send_that_takes_effect_late_is_found_or_said(run, seconds, echo):
    async def main(world: World):
        world.is_in()
        world.server.echo = echo
        world.server.say("earlier", "me")
        await world.live(5, close=False)
        delayed(world, seconds)
        world.drop("x")
        await world.live(400)
        assert world.where() == {"x": "sent"}
        if echo:
            assert world.server.texts() == ["earlier", "hello"]
            assert world.receipt("x")["confirmed"] == "echo"
        else:
            assert world.receipt("x")["possibleDuplicate"]

    run(main)


@pytest.mark.parametrize("seconds", [1.0, 8.0, 25.0])
def test_case_104_a_kill_during_a_send_that_lands_later_doubles_nothing(run, seconds):
    async def main(world: World):
        world.is_in()
        world.server.say("earlier", "me")
        await world.live(5, close=False)
        delayed(world, seconds)
        world.drop("x")
        await world.live(0.2, close=False)
        await world.die(suddenly=True)
        await world.live(200)
        assert world.server.texts() == ["earlier", "hello"]
        assert world.where() == {"x": "sent"}

    run(main)


def test_case_105_a_server_that_stops_showing_our_own_messages_proves_nothing_by_that(run):
    async def main(world: World):
        world.is_in()
        world.drop("a", "one")
        await world.live(60, close=False)  # echo is learned
        world.server.echo = False
        world.server.lose("send", lost())
        world.drop("b", "two")
        await world.live(200)
        assert world.server.texts() == ["one", "two", "two"]
        assert world.receipt("b")["possibleDuplicate"]

    run(main)


def test_case_105_a_server_that_shows_them_late_doubles_nothing_unsaid(run):
    async def main(world: World):
        world.is_in()
        world.drop("a", "one")
        await world.live(60, close=False)
        real = world.server.poll

        async def poll(session, agent, **asked):
            hidden, world.server.messages = (
                world.server.messages,
                [m for m in world.server.messages if m["agentId"] != agent],
            )
            try:
                return await real(session, agent, **asked)
            finally:
                world.server.messages = hidden

        world.server.poll = poll
        world.server.lose("send", lost())
        world.drop("b", "two")
        await world.live(100, close=False)
        world.server.poll = real
        await world.live(200)
        assert world.server.texts().count("two") == 1 or world.receipt("b")["possibleDuplicate"]

    run(main)


def test_case_105_a_look_that_shows_another_message_of_ours_proves_that_this_one_did_not_arrive(run):
    async def main(world: World):
        world.is_in()
        world.server.say("earlier", "me")
        await world.live(5, close=False)
        world.server.fail("send", lost())
        world.drop("x")
        await world.live(200)
        assert world.server.texts() == ["earlier", "hello"]
        assert world.receipt("x")["possibleDuplicate"] is False
        assert world.receipt("x")["attempts"] == 2

    run(main)


def test_case_104_the_wait_is_not_shortened_by_a_clock_that_jumps(run, monkeypatch):
    import time  # noqa: PLC0415

    async def main(world: World):
        world.is_in()
        world.server.say("earlier", "me")
        await world.live(5, close=False)
        delayed(world, 50.0)
        world.drop("x")
        await world.live(31, close=False)
        right = time.time
        monkeypatch.setattr(time, "time", lambda: right() + 3600)
        await world.live(200)
        assert world.server.texts() == ["earlier", "hello"]

    run(main)


@pytest.mark.parametrize(
    "fault", [refusal(403), refusal(409, "x"), refusal(429, "busy", retry_after=1.0), refusal(451)]
)
def test_a_refusal_that_comes_after_the_message_was_taken_doubles_nothing(run, fault):
    """What filters answers lets the request pass: it is looked for before it is posted again."""

    async def main(world: World):
        world.is_in()
        world.server.say("earlier", "me")
        await world.live(5, close=False)
        world.server.lose("send", *[fault] * 5)
        world.drop("x")
        await world.live(200)
        assert world.server.texts() == ["earlier", "hello"]
        assert world.receipt("x")["confirmed"] == "echo"

    run(main)


@pytest.mark.parametrize("verified", [False, None])
def test_on_a_server_that_never_says_verified_a_lost_answer_is_said(run, verified):
    async def main(world: World):
        world.is_in()
        real = world.server.say

        def say(text, agent="bob", **more):
            return real(text, agent, **more | {"verified": verified})

        world.server.say = say
        world.drop("a", "one")
        await world.live(60, close=False)
        world.server.lose("send", lost())
        world.drop("b", "two")
        await world.live(200)
        assert world.server.texts().count("two") == 1 or world.receipt("b")["possibleDuplicate"]

    run(main)


def test_our_own_message_that_went_without_a_key_is_known_as_ours_in_later_lives(run):
    async def main(world: World):
        world.is_in()
        world.server.say("hello", "bob")
        await world.live(5, close=False)
        world.server.fail("send", refusal(403, "invalid_session_key"))
        world.drop("x")
        await world.live(60)
        assert not world.server.messages[-1]["verified"]
        await world.live(60)
        assert world.heard() == ["hello"]
        assert "gap" not in world.notices()

    run(main)


def test_a_server_that_answers_without_an_id_is_looked_at_again(run):
    async def main(world: World):
        world.is_in()
        world.server.say("earlier", "me")
        world.server.lose("send", refusal(201))
        world.drop("x")
        await world.live(120)
        assert world.server.texts() == ["earlier", "hello"]
        assert world.receipt("x")["confirmed"] == "echo"
        assert records.Sent  # what it would have been

    run(main)


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_server_that_has_restarted_unseen_proves_no_absence(run, restarts):
    """It shows a message of ours by hand, at a cursor from before: only what it showed before the POST tells."""

    async def main(world: World):
        world.is_in()
        world.drop("first", "first")
        await world.live(31, close=False)
        world.server.lose("send") if restarts else world.server.fail("send", lost())
        world.server.fail("poll", *[unreachable()] * 9)
        world.drop("x", "hello")
        await world.live(1, close=False)
        await world.die()
        world.server.faults.clear()
        for _ in range(restarts):
            world.server.restart()
            world.server.say("by hand", "me")
        await world.live(300)
        assert world.receipt("x")["attempts"] == 2
        assert world.receipt("x")["possibleDuplicate"] is bool(restarts)

    run(main)


@pytest.mark.parametrize("fault", [refusal(502), lost(), refusal(404), unreachable()])
def test_while_looks_for_a_message_fail_the_server_is_asked_less_and_less(run, fault):
    """A look that fails is no post that may have arrived: it is not repeated at once, hundreds of times a second."""

    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        before = len(world.server.asked("poll"))
        world.server.lose("send")
        world.server.fail("poll", *[fault] * 100_000)
        world.drop("x")
        await world.live(120, close=False)
        assert len(world.server.asked("poll")) - before < 40
        assert world.session.standing.status == "backoff"
        world.server.faults.clear()
        await world.live(120)
        assert world.receipt("x")["confirmed"] == "echo"
        assert world.server.texts() == ["hello"]

    run(main)


@pytest.mark.parametrize("wrong", [True, False])
def test_an_answer_that_names_a_cursor_that_never_was_makes_no_later_file_double_unsaid(run, wrong):
    """What was sent since is below that cursor, and so is not seen; that proves nothing."""

    async def main(world: World):
        world.is_in()
        world.drop("first", "first")
        await world.live(31, close=False)
        real = world.server.send

        async def send(*given, **more):
            sent = await real(*given, **more)
            return sent._replace(cursor=10**25) if wrong else sent

        world.server.send = send
        world.drop("second", "second")
        await world.live(31, close=False)
        world.server.send = real
        world.server.lose("send")
        world.drop("x", "hello")
        await world.live(300)
        doubled = world.server.texts().count("hello") > 1
        assert doubled is wrong
        assert world.receipt("x")["possibleDuplicate"] is wrong
        assert world.receipt("x")["confirmed"] == ("answer" if wrong else "echo")

    run(main)


@pytest.mark.parametrize("end", [refusal(413), refusal(400, "invalid_request")])
def test_whatever_ends_a_file_that_may_have_arrived_says_so(run, end):
    async def main(world: World):
        world.is_in()
        world.server.echo = False
        world.server.lose("send")
        world.drop("x", "hello")
        await world.live(5, close=False)
        world.server.fail("send", *[end] * 3)
        await world.live(300)
        assert world.where() == {"x": "failed"}
        assert world.error("x")["error"] == "refused"
        assert "may have arrived" in world.error("x")["message"]

    run(main)


@pytest.mark.parametrize("landed", ["after the restart", "before it"])
def test_a_restart_that_a_poll_notices_while_a_post_is_under_way_is_said_once(run, landed):
    async def main(world: World):
        world.is_in()
        for n in range(5):
            world.server.say(f"before {n}")
        await world.live(400, close=False)
        send, polled = world.server.send, world.server.afters

        async def slowly(*given, **more):
            if landed == "after the restart":
                world.server.restart()
                world.server.say("after")
            answer = await send(*given, **more)
            if landed == "before it":
                world.server.restart()
                world.server.say("after")
            world.server.send = send
            begun = len(polled)
            while None not in polled[begun:]:  # noqa: ASYNC110 - until the poller has looked back
                await asyncio.sleep(1)
            await asyncio.sleep(1)
            return answer

        world.server.send = slowly
        world.drop("x")
        await world.live(900, close=False)
        world.drop("y", "the next")  # its cursor is a low one, and not lower than any of this life
        await world.live(900)
        assert world.server.texts()[-1] == "the next"
        assert world.heard()[-1] == "after"
        assert world.notices() == ["gap"]

    run(main)
