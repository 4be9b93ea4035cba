"""When a file is tried no longer, and for what reasons; never the queue behind it."""

from __future__ import annotations

import asyncio
import itertools
import os

import pytest

from nexusd.bridge import give_up
from nexusd.bridge.delivery import Delivery
from nexusd.spool import sending
from tests.bridge.world import World, lost, refusal, unreachable


@pytest.mark.parametrize(
    "fault",
    [
        *(refusal(status, "odd") for status in (402, 404, 405, 409, 410, 451)),
        *(refusal(status) for status in (400, 403, 422)),
        refusal(403, "content_blocked"),
    ],
)
def test_case_107_a_refusal_in_foreign_words_is_tried_again_for_ten_minutes_and_then_the_next_goes(run, fault):
    async def main(world: World):
        world.is_in()
        world.drop("a", "bad")
        real = world.server.send

        async def send(session, agent, key, **body):
            if body["text"] == "bad":
                world.server.faults["send"] = [fault]
            return await real(session, agent, key, **body)

        world.server.send = send
        world.drop("b", "good")
        await world.live(500, close=False)
        assert world.where() == {"a": "sending", "b": "outbox"}
        assert world.view()["state"] == "backoff"
        assert "the server says no" in world.view()["lastError"]
        assert world.view()["unsent"] == 2
        await world.live(400)
        assert world.where() == {"a": "failed", "b": "sent"}
        error = world.error("a")
        assert (error["error"], error["status"]) == ("refused", fault.status)
        assert "the server says no" in error["message"]
        assert world.server.asked("join") == []  # nobody's membership was touched
        assert world.client_dir.key("5e" * 24) == "mine-123456"
        assert world.session.standing.last_error is None

    run(main)


def test_case_107_the_ten_minutes_do_not_count_while_polls_fail_too(run):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        world.server.fail("send", *[refusal(403)] * 999)
        world.server.fail("poll", *[refusal(403)] * 999)
        world.drop("a", "good")
        await world.live(7200, close=False)
        assert world.where() == {"a": "sending"}
        world.server.faults.clear()
        await world.live(120)
        assert world.where() == {"a": "sent"}

    run(main)


@pytest.mark.parametrize(
    "fault", [refusal(500), refusal(502), lost(), refusal(503, "session_memory_full"), unreachable()]
)
def test_case_108_whatever_the_reason_a_file_is_given_up_in_time(run, fault):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        world.server.fail("send", *[fault] * 999)
        world.drop("a", "one")
        world.drop("b", "two")
        world.drop("c", "three")
        await world.live(200, close=False)
        assert world.view()["unsent"] == 3
        assert world.view()["state"] == "backoff"
        assert world.view()["lastError"]
        await world.live(3 * 3600, close=False)
        errors = [world.error(name) for name in ("a", "b", "c")]
        assert {error["error"] for error in errors} <= {"gave_up", "ambiguous"}
        sends = world.server.asked("send")
        assert len(sends) < 300
        world.server.faults.clear()
        world.drop("d", "four")
        await world.live(120)
        assert world.where()["d"] == "sent"
        assert world.session.standing.last_error is None

    run(main, give_up_after='"1h"')


def test_case_108_posts_that_may_have_arrived_back_off(run):
    async def main(world: World):
        world.is_in()
        world.server.say("earlier", "me")
        await world.live(5, close=False)
        world.server.fail("send", *[refusal(500)] * 999)
        world.drop("a", "one")
        await world.live(900)
        pauses = [round(b - a) for a, b in itertools.pairwise(world.server.asked("send"))]
        assert pauses[:2] == [30, 60]
        assert min(pauses[2:]) >= 120

    run(main)


def test_case_108_what_waits_for_the_first_poll_is_given_up_too(run):
    async def main(world: World):
        world.is_in()
        world.server.fail("poll", *[unreachable()] * 9999)
        world.drop("a", "one")
        await world.live(1800, close=False)
        assert world.where() == {"a": "outbox"}
        await world.live(2400)
        assert world.error("a")["error"] == "gave_up"

    run(main, give_up_after='"1h"')


@pytest.mark.parametrize("year", [-100, 30_828, 9_999])
def test_case_129_a_file_dated_beyond_the_calendar_is_sent_and_its_date_is_unknown(run, year):
    async def main(world: World):
        world.is_in()
        path = world.drop("a", "one")
        at = int((year - 1970) * 31_556_952)
        os.utime(path, (at, at))
        world.drop("b", "two")
        await world.live(30)
        assert world.where() == {"a": "sent", "b": "sent"}
        assert world.receipt("a")["droppedAt"] is None

    run(main)


@pytest.mark.parametrize("where", ["read", "receipt", "finish"])
def test_case_129_a_file_that_we_cannot_deal_with_ends_in_failed_and_blocks_nothing(run, monkeypatch, where):
    """Any exception in a delivery, wherever it comes from."""
    real_read, real_finish = sending.Sending.read, sending.Sending.finish

    def read(self, claimed, limit):
        if claimed.name == "a" and where == "read":
            raise ZeroDivisionError
        return real_read(self, claimed, limit)

    def finish(self, claimed, outcome):
        if claimed.name == "a" and where == "finish" and outcome.sent:
            raise ZeroDivisionError
        return real_finish(self, claimed, outcome)

    def receipt(claimed, *given):
        if claimed.name == "a" and where == "receipt":
            raise OverflowError
        return real_receipt(claimed, *given)

    from nexusd.bridge import delivery  # noqa: PLC0415 - its name for it is what is replaced

    real_receipt = delivery.receipt
    monkeypatch.setattr(sending.Sending, "read", read)
    monkeypatch.setattr(sending.Sending, "finish", finish)
    monkeypatch.setattr(delivery, "receipt", receipt)

    async def main(world: World):
        world.is_in()
        world.drop("a", "one")
        world.drop("b", "two")
        await world.live(400)
        where_now = world.where()
        assert where_now["b"] == "sent"
        if where == "finish":  # its end was decided before: it is told of as sent, once it can be moved
            assert where_now["a"] in ("failed", "sending")
        else:
            assert where_now["a"] == "failed"
            error = world.error("a")
            assert (error["error"], "arrived" in error["message"]) == ("internal", where == "receipt")
        assert world.server.texts().count("one") <= 1
        assert world.session.standing.status == "active"

    run(main)


def test_a_fault_of_ours_that_passes_costs_no_file(run, monkeypatch):
    faults = iter([ZeroDivisionError, ValueError])
    real = Delivery._read

    async def read(self):
        if (fault := next(faults, None)) is not None:
            raise fault
        return await real(self)

    monkeypatch.setattr(Delivery, "_read", read)

    async def main(world: World):
        world.is_in()
        world.drop("a", "one")
        await world.live(60)
        assert world.where() == {"a": "sent"}
        assert give_up.TRIES == 3

    run(main)


def test_the_state_is_clean_once_the_file_it_was_about_is_gone(run):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        world.server.fail("send", *[refusal(429, "rate_limit_exceeded", retry_after=300.0)] * 2)
        path = world.drop("a", "one")
        await asyncio.sleep(2)
        assert world.session.standing.status == "backoff"
        for found in (path, *world.folder.glob(".nexusd/sending/*/a")):
            if found.exists():
                found.unlink()
        await world.live(700)
        assert world.session.standing.last_error is None

    run(main)
