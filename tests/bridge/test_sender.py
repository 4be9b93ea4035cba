"""Out: each dropped file ends in one place, and is on the server once where the server lets that be known."""

from __future__ import annotations

import asyncio
import errno
import functools
import hashlib
import json
import os

import pytest

from nexusd.bridge import session as sessions
from nexusd.bridge.delivery import POSTS
from nexusd.spool.outbox import Outbox
from nexusd.spool.sending import Sending
from tests import virtual
from tests.bridge.world import ID, World, lost, refusal, unreachable


def test_a_file_is_sent_and_its_receipt_says_all_that_the_server_said(run):
    async def main(world: World):
        world.is_in()
        world.drop("x", "Grüße\n")
        await world.live(10)
        receipt = world.receipt("x")
        assert world.server.texts() == ["Grüße"]
        assert world.where() == {"x": "sent"}
        assert (receipt["id"], receipt["cursor"]) == (world.server.messages[-1]["id"], "1")
        assert receipt["sha256"] == hashlib.sha256("Grüße\n".encode()).hexdigest()
        assert (receipt["attempts"], receipt["confirmed"], receipt["possibleDuplicate"]) == (1, "answer", False)
        assert (receipt["redacted"], receipt["jsonAsText"]) == (False, False)
        assert receipt["droppedAt"] <= receipt["sentAt"]
        assert world.inbox() == []

    run(main)


def test_files_go_in_the_order_they_were_dropped_in(run):
    async def main(world: World):
        world.is_in()
        for n in range(12):
            world.drop(f"{99 - n}", f"text {n}")
            await asyncio.sleep(1)
        await world.live(30)
        assert world.server.texts() == [f"text {n}" for n in range(12)]

    run(main)


def test_nothing_is_posted_before_a_poll_of_this_life(run):
    async def main(world: World):
        world.is_in()
        world.drop("x")
        world.server.fail("poll", *[unreachable()] * 5)
        await world.live(120)
        first_poll = [at for at, what in world.server.log if what == "poll"][5]
        assert min(at for at, what in world.server.log if what == "send") > first_poll

    run(main)


@pytest.mark.parametrize("fault", [unreachable(), refusal(301), refusal(404), refusal(412), refusal(403)])
def test_a_temporary_failure_holds_back_what_comes_behind_and_doubles_nothing(run, fault):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        world.server.fail("send", *[fault] * 1000)
        for n in range(3):
            world.drop(f"x{n}", f"text {n}")
            await world.live(1, close=False)
        await world.live(180, close=False)  # what gathers is counted with each try
        assert world.view()["unsent"] == 3
        world.server.faults["send"].clear()
        await world.live(300)
        assert world.server.texts() == ["text 0", "text 1", "text 2"]
        assert world.receipt("x0")["attempts"] == len(world.server.asked("send")) - 2
        assert not world.receipt("x0")["possibleDuplicate"]

    run(main)


@pytest.mark.parametrize(("status", "code"), [(400, "invalid_body"), (413, None), (413, "x"), (422, "invalid_request")])
def test_a_permanent_failure_is_for_one_file_and_the_next_one_goes(run, status, code):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        world.server.fail("send", refusal(status, code))
        world.drop("a", "bad")
        world.drop("b", "good")
        await world.live(30)
        assert world.where() == {"a": "failed", "b": "sent"}
        error = world.error("a")
        assert (error["error"], error["status"], error["attempts"]) == ("refused", status, 1)
        assert error["remedy"]
        (notice,) = [line for line in world.inbox() if line["kind"] == "notice"]
        assert (notice["notice"], notice["file"], notice["error"]) == ("bounced", "a", "refused")

    run(main)


def test_a_server_that_is_away_for_longer_than_we_wait_is_given_up(run):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        world.server.fail("send", *[unreachable()] * 300)
        world.drop("x")
        await world.live(2 * 3600)
        assert world.error("x")["error"] == "gave_up"
        assert "released" not in world.where()

    run(main, give_up_after='"1h"')


# ---- what is never sent


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("x", b"\xff", "not_text"),
        ("x", b"\n", "empty"),
        ("x.json", b"{", "not_json"),
        ("x.msg.json", b"[]", "bad_envelope"),
        ("x", b"x" * 1001, "too_large"),
        ("x", f"my id is {ID}".encode(), "own_secret"),
        ("x", b"my key is mine-123456", "own_secret"),
        ("x.json", b'{"key":["mine-123456"]}', "own_secret"),
        ("x.json", b'{"key":"\\u006dine-123456"}', "own_secret"),
    ],
)
def test_what_is_no_message_goes_to_failed_and_nothing_of_it_to_the_server(run, name, data, code):
    async def main(world: World):
        world.is_in()
        world.drop(name, data)
        await world.live(30)
        assert world.server.asked("send") == []
        assert world.error(name)["error"] == code
        assert world.where() == {name: "failed"}
        assert world.notices() == ["bounced"]
        assert "mine-123456" not in (world.folder / "failed" / f"{name}.error.json").read_text()

    run(main, max_message_bytes="1000")


@pytest.mark.parametrize("what", ["folder", "link", "pipe", "x.receipt.json", "é" * 110])
def test_what_is_refused_unread_is_said_and_moved_and_holds_nothing_back(run, what):
    async def main(world: World):
        world.is_in()
        good = world.drop("good")
        path = good.parent / what
        if what == "folder":
            path.mkdir()
        elif what == "link":
            path.symlink_to("/etc/passwd")
        elif what == "pipe":
            os.mkfifo(path)
        else:
            path.write_text("x")
        await world.live(30)
        assert world.server.texts() == ["hello"]
        assert os.listdir(good.parent) == []
        assert len(os.listdir(world.folder / "failed")) == 2
        assert world.notices() == ["bounced"]
        assert world.view()["failed"] == 1

    run(main)


def test_a_file_that_is_still_being_written_is_waited_for(run):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        with world.drop("x", "").open("w") as writer:
            writer.write("half")
            writer.flush()
            await world.live(20, close=False)
            assert world.where() == {"x": "outbox"}
            writer.write(" and half")
        await world.live(20)
        assert world.server.texts() == ["half and half"]

    import signal  # noqa: PLC0415

    signal.signal(signal.SIGIO, signal.SIG_IGN)
    run(main)


def test_a_file_that_was_taken_back_in_time_is_not_sent(run):
    async def main(world: World):
        world.is_in()
        world.server.fail("poll", *[unreachable()] * 3)
        path = world.drop("x")
        await world.live(1, close=False)
        path.unlink()
        await world.live(60)
        assert world.server.asked("send") == []
        assert world.inbox() == []

    run(main)


# ---- payloads


def test_a_payload_goes_as_json_where_the_server_takes_it(run):
    async def main(world: World):
        world.is_in()
        world.drop("x.json", '{"a": 1}')
        world.drop("y.msg.json", '{"text": "b", "json": [2]}')
        await world.live(30)
        sent = [(m.get("text"), m.get("json")) for m in world.server.messages]
        assert sorted(sent, key=str) == [("b", [2]), (None, {"a": 1})]
        assert not world.receipt("x.json")["jsonAsText"]
        assert len(world.server.asked("health")) == 1  # known for five minutes

    run(main)


def test_a_payload_goes_as_text_where_the_server_takes_no_json_and_the_receipt_says_so(run):
    async def main(world: World):
        world.is_in()
        world.server.takes_json = False
        world.drop("x.json", '{"a": 1}')
        await world.live(30)
        assert world.server.texts() == ['{"a": 1}']
        assert world.receipt("x.json")["jsonAsText"]

    run(main)


def test_an_old_server_without_health_takes_text(run):
    async def main(world: World):
        world.is_in()
        world.server.fail("health", *[refusal(404, "not_found")] * 9)
        world.drop("x.json", "[1]")
        await world.live(30)
        assert world.server.texts() == ["[1]"]

    run(main)


# ---- lost answers


async def learned(world: World) -> None:
    """The server is known to show our own messages."""
    world.is_in()
    world.server.say("hello there")
    world.drop("first", "the first one")
    await world.live(60, close=False)
    assert world.session.state.echo is True


def test_a_message_whose_answer_was_lost_is_found_and_not_sent_again(run):
    async def main(world: World):
        await learned(world)
        world.server.lose("send")
        world.drop("x", "only once")
        await world.live(120)
        assert world.server.texts().count("only once") == 1
        receipt = world.receipt("x")
        assert (receipt["confirmed"], receipt["attempts"], receipt["possibleDuplicate"]) == ("echo", 1, False)
        assert receipt["id"] == world.server.messages[-1]["id"]

    run(main)


@pytest.mark.parametrize("fault", [lost(), refusal(502), refusal(503), refusal(408)])
def test_a_message_that_did_not_arrive_is_sent_again_after_it_could_still_have_been_on_its_way(run, fault):
    async def main(world: World):
        await learned(world)
        world.server.fail("send", fault)
        world.drop("x", "only once")
        await world.live(120)
        assert world.server.texts().count("only once") == 1
        receipt = world.receipt("x")
        assert (receipt["confirmed"], receipt["attempts"], receipt["possibleDuplicate"]) == ("answer", 2, False)
        first, second = world.server.asked("send")[-2:]
        assert second - first >= 30

    run(main)


def test_a_message_that_comes_late_is_found_by_the_last_look(run):
    async def main(world: World):
        await learned(world)
        world.server.fail("send", lost())
        world.drop("x", "late")
        await world.live(20, close=False)
        world.server.say("late", "me")  # a proxy held it back
        await world.live(60)
        assert world.server.texts().count("late") == 1
        assert world.receipt("x")["confirmed"] == "echo"

    run(main)


def test_an_equal_text_of_somebody_else_is_no_witness(run):
    async def main(world: World):
        await learned(world)
        world.server.fail("send", lost())
        world.drop("x", "yes")
        await world.live(10, close=False)
        world.server.say("yes", "bob")
        world.server.say("yes", "me", verified=False)
        await world.live(120)
        assert sum(1 for m in world.server.messages if m["text"] == "yes" and m["agentId"] == "me") == 2

    run(main)


def test_an_equal_text_that_we_sent_before_is_no_witness(run):
    async def main(world: World):
        await learned(world)
        world.drop("a", "yes")
        await world.live(20, close=False)
        world.server.fail("send", lost())
        world.drop("b", "yes")
        await world.live(120)
        assert world.server.texts().count("yes") == 2
        assert world.receipt("b")["attempts"] == 2

    run(main)


def test_a_redacted_witness_is_one_and_the_receipt_says_so(run):
    async def main(world: World):
        await learned(world)
        world.server.rewrite = lambda text: text.replace("abc123", "[REDACTED:token]")
        world.server.lose("send")
        world.drop("x", "this is the token: abc123")
        await world.live(120)
        assert world.receipt("x")["confirmed"] == "echo"
        assert world.receipt("x")["redacted"]
        assert len(world.server.asked("send")) == 2

    run(main)


def test_a_server_that_says_that_it_redacted_is_believed(run):
    async def main(world: World):
        world.is_in()
        world.server.warning = "text was redacted"
        world.drop("x")
        await world.live(20)
        assert world.receipt("x")["redacted"]

    run(main)


def test_a_payload_is_found_however_the_server_writes_its_numbers(run):
    async def main(world: World):
        await learned(world)
        world.server.lose("send")
        world.drop("x.json", '{"n": 1.0, "big": 12345678901234567890}')
        await world.live(1, close=False)
        world.server.messages[-1]["json"] = {"n": 1, "big": 12345678901234567000}
        await world.live(120)
        assert world.receipt("x.json")["confirmed"] == "echo"
        assert len([m for m in world.server.messages if "json" in m]) == 1

    run(main)


def test_without_an_echo_it_is_sent_again_and_said_that_it_may_be_double(run):
    async def main(world: World):
        world.is_in()
        world.server.echo = False
        await world.live(5, close=False)
        world.server.lose("send")
        world.drop("x", "perhaps twice")
        await world.live(120)
        assert world.server.texts().count("perhaps twice") == 2
        assert world.receipt("x")["possibleDuplicate"]
        assert world.receipt("x")["attempts"] == 2

    run(main)


def test_without_an_echo_it_is_sent_three_times_at_most_and_then_a_person_decides(run):
    async def main(world: World):
        world.is_in()
        world.server.echo = False
        await world.live(5, close=False)
        world.server.lose("send", *[lost()] * 20)
        world.drop("x", "again and again")
        world.drop("y", "next")
        await world.live(600, close=False)
        assert world.server.texts().count("again and again") == POSTS
        assert world.error("x")["error"] == "ambiguous"

    run(main)


def test_who_would_rather_not_send_twice_is_asked_at_once(run):
    async def main(world: World):
        world.is_in()
        world.server.echo = False
        await world.live(5, close=False)
        world.server.lose("send")
        world.drop("x", "once at most")
        await world.live(600)
        assert world.server.texts().count("once at most") == 1
        assert world.error("x")["error"] == "ambiguous"
        assert world.notices() == ["bounced"]

    run(main, on_ambiguous='"fail"')


def test_a_restart_of_the_server_in_between_leaves_no_witness_and_that_is_said(run):
    async def main(world: World):
        await learned(world)
        world.server.lose("send")
        world.server.fail("poll", *[unreachable()] * 3)
        world.drop("x", "who knows")
        await world.live(1, close=False)
        world.server.restart()
        world.server.say("new life")
        await world.live(900)
        assert world.receipt("x")["possibleDuplicate"]
        assert world.server.texts() == ["who knows"]
        assert "gap" in world.notices()

    run(main)


# ---- our own end


@pytest.mark.parametrize("arrived", [True, False])
def test_a_kill_in_the_middle_of_a_post_sends_it_once(run, arrived):
    async def main(world: World):
        await learned(world)
        hanging = asyncio.Event()
        real = world.server.send

        async def send(*given, **more):
            if arrived:
                await real(*given, **more)
            await hanging.wait()

        world.server.send = send
        world.drop("x", "once")
        await world.live(5, close=False)
        assert world.where()["x"] == "sending"
        await world.die(suddenly=True)
        world.server.send = real
        await world.live(120)
        assert world.server.texts().count("once") == 1
        assert world.receipt("x")["confirmed"] == ("echo" if arrived else "answer")
        assert not world.receipt("x")["possibleDuplicate"]

    run(main)


def test_a_kill_at_any_moment_loses_nothing_and_doubles_nothing(run):
    async def main(world: World):
        await learned(world)
        for n in range(40):
            world.drop(f"x{n}", f"text {n}")
            await world.live(0.001 + 0.0011 * n, close=False)
            await world.die(suddenly=True)
            await world.live(0.02 if n % 3 else 40, close=False)
        await world.live(400)
        texts = [text for text in world.server.texts() if text.startswith("text")]
        assert sorted(texts) == sorted(f"text {n}" for n in range(40))
        assert set(world.where().values()) == {"sent"}

    run(main)


def test_a_stop_gives_a_post_under_way_a_moment(run):
    async def main(world: World):
        await learned(world)
        real = world.server.send

        async def slow(*given, **more):
            await asyncio.sleep(2)
            return await real(*given, **more)

        world.server.send = slow
        world.drop("x", "under way")
        await world.live(1)
        assert world.receipt("x")["confirmed"] == "answer"
        assert world.where()["x"] == "sent"

    run(main)


def test_an_intent_is_on_the_disk_before_the_post(run):
    async def main(world: World):
        await learned(world)
        seen = []
        real = world.server.send

        async def send(*given, **more):
            intents = (world.folder / ".nexusd" / "sending").glob("*.json")
            seen.extend(json.loads(path.read_text()) for path in intents)
            return await real(*given, **more)

        world.server.send = send
        world.drop("x", "hello")
        await world.live(10)
        (intent,) = seen
        assert intent["attempts"] == 1
        assert intent["doubtful"]
        assert intent["cursor"] == 2
        assert intent["sha256"] == hashlib.sha256(b"hello").hexdigest()

    run(main)


def test_once_is_one_pass_over_everything(run):
    async def main(world: World):
        world.is_in()
        world.server.say("hi")
        for n in range(5):
            world.drop(f"x{n}", f"text {n}")
        assert await world.born().once() is True
        assert world.heard() == ["hi"]
        assert sorted(world.server.texts()) == [f"text {n}" for n in range(5)]
        world.server.fail("poll", unreachable())
        assert await world.runner.once() is False

    run(main)


def test_sends_leave_room_for_polls_and_renewals(run):
    async def main(world: World):
        world.is_in()
        for n in range(200):
            world.drop(f"x{n:03}", f"text {n}")
        await world.live(60, close=False)
        world.server.say("can you hear me?")
        await world.live(30, close=False)
        assert "can you hear me?" in world.heard()
        assert len(world.server.asked("renew")) == 1
        assert len(world.server.log) <= 90 * 1.5 + 12
        assert len(world.server.texts()) > 50

    run(main, requests_per_minute="90")


def test_what_cannot_be_claimed_is_said_for_as_long_as_that_lasts(run, monkeypatch):
    monkeypatch.setattr(sessions, "Outbox", functools.partial(Outbox, clock=virtual.clock))

    async def main(world: World):
        world.is_in()
        await world.live(31, close=False)

        def full(_, name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

        with monkeypatch.context() as patch:
            patch.setattr(Sending, "claim", full)
            world.drop("x", "hello")
            await world.live(1, close=False)
            for _ in range(200):
                world.runner.send.wake()  # as an event in the folder does
                await world.live(0.5, close=False)
                assert world.session.standing.status == "blocked"
                assert "the disk is full" in world.session.standing.last_error
        await world.live(60)
        assert world.server.texts() == ["hello"]

    run(main, quiet='"200ms"')


def test_what_people_take_out_of_failed_is_not_counted_any_more(run):
    async def main(world: World):
        world.is_in()
        for n in range(3):
            world.drop(f"{n}.json", "{")
        await world.live(10, close=False)
        assert world.view()["failed"] == 3
        for path in (world.folder / "failed").iterdir():
            path.unlink()
        await world.live(60, close=False)
        assert world.view()["failed"] == 0

    run(main)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM])
def test_a_file_that_cannot_be_moved_waits_and_those_behind_it_go(run, monkeypatch, number):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        claim, fast = world.session.sending.claim, [True]
        tries = []

        def refusing(name):
            if name == "fast" and fast:
                tries.append(virtual.clock())
                raise OSError(number, os.strerror(number), name, None, "sending/x/fast")
            return claim(name)

        monkeypatch.setattr(world.session.sending, "claim", refusing)
        world.drop("fast", "the first")
        await world.live(10, close=False)
        world.drop("second", "the second")
        await world.live(5, close=False)
        assert world.server.texts() == ["the second"]
        assert world.session.standing.status == "blocked"
        assert "outbox/fast: it cannot be moved" in world.session.standing.last_error
        assert world.session.unsent == 1
        await world.live(200, close=False)
        assert len(tries) < 20
        assert "second" in world.where()
        fast.clear()
        await world.live(60)
        assert world.server.texts() == ["the second", "the first"]
        assert world.session.standing.last_error is None

    run(main)


def test_a_folder_that_lets_nothing_be_moved_keeps_the_order(run, monkeypatch):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        claim, shut = world.session.sending.claim, [True]
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: not (shut and "outbox" in str(path)) and real(path, mode))

        def refusing(name):
            if shut:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name, None, "sending/x/y")
            return claim(name)

        monkeypatch.setattr(world.session.sending, "claim", refusing)
        for n in range(3):
            world.drop(f"{n}", f"{n}")
        await world.live(30, close=False)
        assert world.session.standing.status == "blocked"
        shut.clear()
        await world.live(90)
        assert world.server.texts() == ["0", "1", "2"]

    run(main)


def test_a_place_for_claimed_files_that_cannot_be_used_is_no_fault_of_the_files(run, monkeypatch):
    async def main(world: World):
        world.is_in()
        await world.live(5, close=False)
        place = f"{world.session.folder.sending}/x"

        def refusing(_):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)

        monkeypatch.setattr(world.session.sending, "claim", refusing)
        world.drop("x")
        await world.live(10, close=False)
        assert world.session.standing.last_error.startswith(f"{place}: ")
        monkeypatch.undo()

    run(main)
