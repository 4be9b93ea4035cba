"""Sends whose answer was lost: nothing doubled and nothing lost where the server shows our own messages; else said."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from tests.misbehaving import AMBIGUOUS, DROP_AFTER, EMPTY, HALF, RESET_AFTER, Fault, drawn, only, refusal, status
from tests.system.conftest import QUICK, made
from tests.world import checked_seq, until


def none_doubled_none_lost(scene, count, seed):
    """Half of all POSTs end in the dark; each fault of the table comes up."""
    server, alice = scene.server, scene.alice
    server.faults = drawn(seed, 0.5, ["send"], AMBIGUOUS)
    texts = scene.drop(count)
    done = alice.folder("chat") / "sent"
    until(lambda: len(list(done.glob("*.receipt.json"))) == count + 1, patience=900)
    assert server.said("alice") == ["first", *texts]
    receipts = scene.receipts(count)
    truth = {m.text: m for m in server.truth}
    for n, text in enumerate(texts):
        receipt = receipts[f"{n}.txt"]
        assert (receipt["id"], receipt["cursor"]) == (truth[text].id, str(truth[text].cursor))
        assert receipt["possibleDuplicate"] is False
    lost = [name for kind, _, name in server.done if kind == "send"]
    return len(lost), len(set(lost)), sum(r["confirmed"] == "echo" for r in receipts.values())


def test_case_07_of_hundreds_of_lost_answers_none_is_doubled_and_none_lost(scene):
    lost, kinds, found = none_doubled_none_lost(scene, 320, seed=7)
    assert lost >= 150, "the faults did not come"
    assert kinds == len(AMBIGUOUS)
    assert found > 50


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_case_07_of_two_thousand_ambiguous_sends_none_is_doubled_and_none_lost(scene, tally):
    lost, kinds, _ = none_doubled_none_lost(scene, 3_500, seed=8)
    print(f"ambiguous sends: {lost} of {kinds} kinds, doubled 0, lost 0")
    assert lost >= 2_000
    tally("send whose answer was lost", lost)


@pytest.mark.parametrize("seed", range(2))
def test_case_07_polls_that_fail_too_double_nothing(scene, seed):
    server = scene.server
    once = iter([True] * 3)  # a poll that fails costs a wait of a second
    lost_answers = drawn(seed, 0.5, ["send"], AMBIGUOUS)
    lost_polls = drawn(seed, 0.2, ["poll"], (HALF, EMPTY, DROP_AFTER, RESET_AFTER, status(502)))
    server.faults = lambda r: lost_answers(r) or (lost_polls(r) if next(once, False) else None)
    texts = scene.drop(30)
    receipts = scene.receipts(30)
    assert server.said("alice") == ["first", *texts]
    assert not any(r["possibleDuplicate"] for r in receipts.values())


def test_two_equal_texts_in_a_row_stay_two_though_both_answers_are_lost(scene):
    server, alice = scene.server, scene.alice
    server.faults = only("send", *[DROP_AFTER] * 4)
    for n in range(4):
        alice.drop("chat", f"{n}.txt", "yes")
    receipts = scene.receipts(4)
    assert server.said("alice") == ["first", *["yes"] * 4]
    assert len({r["id"] for r in receipts.values()}) == 4
    assert {r["confirmed"] for r in receipts.values()} == {"echo"}


def test_an_equal_text_of_somebody_elses_is_no_witness(scene):
    server, alice = scene.server, scene.alice

    def fault(request):
        if request.kind != "send":
            return None
        server.faults = lambda _: None
        scene.server.exchange.send(scene.session, "peter", scene.key, "yes")  # in the server's own thread already
        return Fault("swallowed", False, status(500).answer)

    server.faults = fault
    alice.drop("chat", "0.txt", "yes")
    receipt = alice.receipt("chat", "0.txt")
    assert server.said("alice") == ["first", "yes"]
    assert (receipt["attempts"], receipt["confirmed"]) == (2, "answer")


def test_case_57_without_echo_resend_is_at_least_once_and_every_doubtful_one_is_flagged(silent):
    server = silent.server
    server.faults = drawn(3, 0.3, ["send"], AMBIGUOUS)
    count = 60
    texts = silent.drop(count)
    folder = silent.alice.folder("chat")
    until(
        lambda: len(list(folder.glob("*/*.receipt.json")) + list(folder.glob("*/*.error.json"))) == count, patience=90
    )
    server.faults = lambda _: None
    said = server.said("alice")
    doubled = {text for text in texts if said.count(text) > 1}
    posts = {
        text: sum(text in r.body.decode() and f'"{text}"' in r.body.decode() for r in sends(server)) for text in texts
    }
    broken = {number for kind, number, fault in server.done if kind == "send" and fault.startswith("status_5")}
    lost = [r for r in sends(server) if r.number not in broken]  # a 5xx is tried for as long as give_up_after says
    assert max(sum(f'"{text}"' in r.body.decode() for r in lost) for text in texts) <= 3
    for n, text in enumerate(texts):
        name = f"{n}.txt"
        if (folder / "failed" / name).exists():
            error = silent.alice.error("chat", name)
            assert (error["error"], error["attempts"], posts[text]) == ("ambiguous", 3, 3)
        else:
            receipt = silent.alice.receipt("chat", name)
            assert text in said, "lost"
            assert receipt["possibleDuplicate"] is (posts[text] > 1)
    assert doubled, "the faults did not come"


def test_case_57_without_echo_fail_is_at_most_once(server, daemons):
    server.echo = False
    scene = made(server, daemons, QUICK + 'on_ambiguous = "fail"', learned=False)
    server.faults = drawn(4, 0.4, ["send"], AMBIGUOUS)
    count = 60
    texts = scene.drop(count)
    folder = scene.alice.folder("chat")
    until(
        lambda: len(list(folder.glob("*/*.receipt.json")) + list(folder.glob("*/*.error.json"))) == count, patience=90
    )
    said = server.said("alice")
    assert all(said.count(text) <= 1 for text in texts)
    failed = [n for n in range(count) if (folder / "failed" / f"{n}.txt").exists()]
    assert len(failed) == len(server.done) > 10
    for n in failed:
        assert scene.alice.error("chat", f"{n}.txt")["error"] == "ambiguous"
    for n in set(range(count)) - set(failed):
        assert said.count(texts[n]) == 1
    bounced = [line for line in scene.alice.inbox("chat") if line.get("notice") == "bounced"]
    assert {line["file"] for line in bounced} == {f"{n}.txt" for n in failed}


def sends(server):
    return [r for r in server.requests if r.kind == "send"]


# ---- what makes a witness impossible


def test_case_52_a_restart_between_the_post_and_the_look_is_no_proof_that_it_did_not_land(scene):
    """It landed, the peer may have read it, then the server forgot it: sent again, and said."""
    server, alice = scene.server, scene.alice
    scene.say("something to remember the server by")
    until(lambda: alice.texts("chat"))

    def fault(request):
        if request.kind != "send":
            return None
        server.faults = lambda _: None

        async def answer(reply, writer):
            server.life += 1
            for session in server.exchange._living._sessions.values():
                session.messages.clear()
                session.last_cursor = 0
            return False

        return Fault("restart_after", True, answer)

    server.faults = fault
    alice.drop("chat", "0.txt", "was it heard?")
    receipt = alice.receipt("chat", "0.txt")
    assert server.said("alice").count("was it heard?") == 2
    assert receipt["possibleDuplicate"] is True


def test_case_52_a_post_that_landed_in_the_servers_next_life_is_found_or_said(scene):
    """The server restarted while nobody looked; our POST is message 1 of its new life, and the answer is lost."""
    server, alice = scene.server, scene.alice
    scene.say("something to remember the server by")
    until(lambda: alice.texts("chat"))

    def fault(request):
        if request.kind != "send":
            return None
        server.faults = lambda _: None
        server.life += 1
        for session in server.exchange._living._sessions.values():
            session.messages.clear()
            session.last_cursor = 0
        return DROP_AFTER

    server.faults = fault
    alice.drop("chat", "0.txt", "first of a new life")
    receipt = alice.receipt("chat", "0.txt")
    said = server.said("alice").count("first of a new life")
    assert (said, receipt["possibleDuplicate"]) in ((1, False), (2, True), (1, True))


def test_case_56_a_redacted_text_is_found_again(server, daemons):
    scene = made(server, daemons, QUICK + 'secret_guard = "off"')
    alice = scene.alice
    server.faults = only("send", DROP_AFTER)
    secret = "ghp_" + "a1B2" * 9
    alice.drop("chat", "0.txt", f"the token of the build machine is {secret}, keep it well")
    receipt = alice.receipt("chat", "0.txt")
    assert (receipt["confirmed"], receipt["redacted"], receipt["possibleDuplicate"]) == ("echo", True, False)
    assert len(server.said("alice")) == 2


def test_case_56_a_text_that_was_redacted_beyond_recognition_is_never_doubled_in_silence(server, daemons):
    scene = made(server, daemons, QUICK + 'secret_guard = "off"')
    alice = scene.alice
    server.faults = only("send", DROP_AFTER)
    alice.drop("chat", "0.txt", "ghp_" + "a1B2" * 9)
    receipt = alice.receipt("chat", "0.txt")
    assert len(server.said("alice")) == 2 or receipt["possibleDuplicate"] is True


def test_a_payload_that_went_as_text_is_found_again(server, daemons):
    server.takes_json = False
    scene = made(server, daemons)
    server.faults = only("send", DROP_AFTER)
    scene.alice.drop("chat", "0.json", '{"n": 1.50, "who": "alice"}')
    receipt = scene.alice.receipt("chat", "0.json")
    assert len(server.said("alice")) == 2
    assert (receipt["confirmed"], receipt["jsonAsText"], receipt["possibleDuplicate"]) == ("echo", True, False)


# ---- what is no doubt


def test_case_41_a_429_is_no_doubt_and_its_wait_is_kept(scene):
    server, alice = scene.server, scene.alice
    server.faults = only("send", refusal(429, "rate_limit_exceeded", Retry_After="1"))
    alice.drop("chat", "0.txt", "patience")
    receipt = alice.receipt("chat", "0.txt")
    assert (receipt["attempts"], receipt["confirmed"], receipt["possibleDuplicate"]) == (2, "answer", False)
    assert server.said("alice") == ["first", "patience"]


@pytest.mark.parametrize("code", [302, 308, 403, 404, 409])
def test_case_40_an_answer_that_is_not_the_protocols_is_temporary_and_nothing_doubles(scene, code):
    server, alice = scene.server, scene.alice
    server.faults = only("send", status(code, b"<html>", Location="http://127.0.0.1:9/"))
    alice.drop("chat", "0.txt", "patience")
    receipt = alice.receipt("chat", "0.txt")
    assert (receipt["attempts"], receipt["possibleDuplicate"]) == (2, False)
    assert server.said("alice") == ["first", "patience"]


@pytest.mark.parametrize("code", [400, 413, 422])
def test_case_44_a_refusal_moves_the_file_to_failed_and_the_next_one_goes(scene, code):
    server, alice = scene.server, scene.alice
    server.faults = only("send", refusal(code, "invalid_request"))
    scene.drop(2)
    error = alice.error("chat", "0.txt")
    assert (error["error"], error["status"]) == ("refused", code)
    alice.receipt("chat", "1.txt")
    assert server.said("alice") == ["first", "text 1"]


def test_case_45_a_key_that_is_not_taken_any_more_is_no_reason_to_double_or_lose(scene):
    server, alice = scene.server, scene.alice
    server.faults = only("send", refusal(403, "invalid_session_key"))
    alice.drop("chat", "0.txt", "who am I")
    alice.receipt("chat", "0.txt")
    assert server.said("alice") == ["first", "who am I"]


def test_case_07_an_answer_with_an_id_that_is_no_text_does_not_stop_the_outbox(scene):
    """Half a surrogate pair can be parsed, and not written."""
    server = scene.server

    async def answer(reply, writer):
        body = json.loads(reply.body)
        body["id"] = "\ud800"
        data = json.dumps(body).encode()
        writer.write(b"HTTP/1.1 201 X\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        return True

    server.faults = only("send", Fault("odd_id", True, answer))
    scene.drop(2)
    scene.receipts(2)
    assert server.said("alice") == ["first", "text 0", "text 1"]


def test_case_06_a_kill_in_the_middle_of_a_post_doubles_nothing(scene):
    """The answer never comes; the daemon dies waiting for it."""
    server, alice = scene.server, scene.alice
    for n in range(6):
        acts = bool(n % 2)
        asked = []

        async def never(reply, writer, asked=asked):
            asked.append(True)
            await asyncio.sleep(3600)
            return False

        server.faults = only("send", Fault("never", acts, never))
        alice.drop("chat", f"{n}.txt", f"text {n}")
        until(lambda asked=asked: asked)
        alice.kill() if n < 4 else alice.stop(signal.SIGTERM)
        alice.start()
        receipt = alice.receipt("chat", f"{n}.txt")
        assert receipt["confirmed"] == ("echo" if acts else "answer")
        assert receipt["possibleDuplicate"] is False
    assert server.said("alice") == ["first", *[f"text {n}" for n in range(6)]]
    checked_seq(alice.inbox("chat"))
