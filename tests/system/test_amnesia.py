"""A server that restarts loses its messages and counts from 1 again: noticed, said, read anew, nothing doubled."""

from __future__ import annotations

import json
import random

import pytest

from nexusd.bridge import sift
from nexusd.spool import line
from nexusd.wire import batch, calls
from nexusd.wire.fate import Answer
from tests.faults.patched import prefix
from tests.system.conftest import QUICK, Scene
from tests.world import checked_seq, until

FORMS = ("string", "number", "null", "absent", "zero", "lower", "wild")


def begun(server, daemons, *changes):
    scene = Scene(server, daemons("alice", server.url, QUICK))
    scene.alice.start(prefix=prefix(*changes) if changes else ())
    return scene


def all_read(scene, texts):
    until(lambda: scene.alice.texts("chat")[-len(texts) :] == texts, "the new life was not read")


@pytest.mark.parametrize("uptime", [True, False], ids=["uptime", "no_uptime"])
def test_case_53_restarts_are_noticed_though_nobody_sends(server, daemons, uptime):
    server.uptime = uptime
    scene = begun(server, daemons, "look_back")
    alice, wanted = scene.alice, []
    for life in range(6):
        # Fewer each time: of a longer life the end may be read before the restart is noticed, and the beginning after.
        said = [f"life {life} message {n}" for n in range(7 - life)]
        for text in said:
            scene.say(text)
        wanted += said
        all_read(scene, said)
        assert alice.notices("chat").count("gap") == life
        server.restart()
    assert alice.texts("chat") == wanted
    gaps = [entry["id"] for entry in alice.inbox("chat") if entry.get("notice") == "gap"]
    assert len(set(gaps)) == len(gaps) == 5
    checked_seq(alice.inbox("chat"))


def test_case_52_a_restart_is_noticed_by_the_answer_to_our_own_message(server, daemons):
    scene = begun(server, daemons)  # looks back every five minutes: not in this test
    alice = scene.alice
    for n in range(3):
        scene.say(f"before {n}")
    all_read(scene, ["before 2"])
    server.restart()
    scene.say("after 0")
    alice.drop("chat", "a.txt", "hello again")
    all_read(scene, ["after 0"])
    scene.say("after 1")
    all_read(scene, ["after 0", "after 1"])
    assert alice.texts("chat") == ["before 0", "before 1", "before 2", "after 0", "after 1"]
    assert alice.notices("chat") == ["gap"]
    assert alice.receipt("chat", "a.txt")["confirmed"] == "answer"


def test_case_52_a_restart_while_we_were_away_is_noticed_at_the_start(server, daemons):
    scene = begun(server, daemons)
    scene.say("one")
    scene.say("two")
    all_read(scene, ["two"])
    scene.alice.kill()
    server.restart()
    scene.say("three")
    scene.alice.start()
    all_read(scene, ["three"])
    assert scene.alice.texts("chat") == ["one", "two", "three"]
    assert scene.alice.notices("chat") == ["gap"]


def test_case_52_ids_and_cursors_that_come_again_hide_no_message(server, daemons):
    """A server that counts its ids from 1 too, and a peer that says the same again."""
    server.counters_for_ids = True
    scene = begun(server, daemons, "look_back")
    for life in range(4):
        for text in (f"question {life}", "ok"):
            scene.say(text)
        all_read(scene, [f"question {life}", "ok"])
        server.restart()
    assert scene.alice.texts("chat") == [t for life in range(4) for t in (f"question {life}", "ok")]


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_case_52_a_new_life_that_overtakes_our_cursor_before_we_look_loses_nothing(server, daemons, killed):
    """Its first messages have cursors that we had passed, and its last ones come to an ordinary poll."""
    scene = begun(server, daemons)
    alice = scene.alice
    for n in range(3):
        scene.say(f"before {n}")
    all_read(scene, ["before 2"])
    server.restart()
    for n in range(5):
        scene.say(f"after {n}")
    until(lambda: "after 4" in alice.texts("chat"))
    alice.kill() if killed else alice.stop()
    alice.start()
    until(lambda: "after 0" in alice.texts("chat"), "lost")
    assert sorted(alice.texts("chat")) == [f"after {n}" for n in range(5)] + [f"before {n}" for n in range(3)]
    assert alice.notices("chat") == ["gap"]


@pytest.mark.parametrize("seed", range(2))
def test_case_52_restarts_at_random_moments_double_nothing(server, daemons, seed):
    restarted_at_random(server, daemons, seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(2, 12))
def test_case_52_a_hundred_restarts_at_random_moments_double_nothing(server, daemons, seed, tally):
    restarted_at_random(server, daemons, seed)
    tally("restart of the server", server.life)


def restarted_at_random(server, daemons, seed):
    chance = random.Random(seed)
    scene = begun(server, daemons, "look_back")
    alice, ours = scene.alice, []
    for round_ in range(12):
        for n in range(chance.randrange(1, 5)):
            scene.say(f"{round_} {n}")
        if chance.random() < 0.5:
            ours += scene.drop(chance.randrange(1, 3), first=len(ours))
        if chance.random() < 0.3:
            alice.kill()
            alice.start(prefix=prefix("look_back"))
        elif chance.random() < 0.5:
            until(lambda said=f"{round_} {n}": said in alice.texts("chat"), "the new life was not read")
        server.restart()
    scene.say("the end")
    until(lambda: "the end" in alice.texts("chat"), "the new life was not read")
    until(lambda: len(list((alice.folder("chat") / "sent").glob("*.receipt.json"))) == len(ours))
    heard = alice.texts("chat")
    assert len(set(heard)) == len(heard), "doubled"
    assert set(heard) <= set(server.said("peter"))
    assert "gap" in alice.notices("chat")
    said = server.said("alice")
    assert list(dict.fromkeys(said)) == ours, "lost, or out of order"
    for n, text in enumerate(ours):  # what was posted in a life that ended before a look has no witness any more
        assert said.count(text) == 1 or alice.receipt("chat", f"{n}.txt")["possibleDuplicate"], "doubled in silence"
    checked_seq(alice.inbox("chat"))


@pytest.mark.parametrize("moved", [False, True], ids=["large", "moved_away"])
def test_case_82_an_inbox_that_does_not_reach_back_is_no_sign_of_a_restart(server, daemons, moved):
    """More than is read back at a start, or taken away by a hand: what the server still shows is not written again."""
    scene = begun(server, daemons)
    alice, inbox = scene.alice, scene.alice.folder("chat") / "inbox.jsonl"
    count = 5 if moved else 100
    for n in range(count):
        scene.say(f"{n}" + ("" if moved else " x" * 100_000))
    until(lambda: inbox.exists() and inbox.read_bytes().count(b"\n") == count)
    for _ in range(2):
        alice.kill()
        if moved and inbox.exists():
            inbox.rename(inbox.with_suffix(".old"))
        alice.start(prefix=prefix("look_back"))
        scene.say("and on")
        count += 1
        until(lambda: inbox.exists() and b"and on" in inbox.read_bytes())
        polls = len(server.requests)
        until(lambda polls=polls: len([r for r in server.requests[polls:] if "after" not in r.query]) > 2)
    assert [line["kind"] for line in alice.inbox("chat")] == ["message"] * (1 if moved else count)
    assert alice.inbox("chat")[-1]["seq"] == count


# ---- no false alarm: the same decisions on generated polls


class Model:
    """A server's list and what a poller would keep, without either."""

    def __init__(self, chance: random.Random, form: str) -> None:
        self.chance, self.form = chance, form
        self.messages: list[dict] = []
        self.last = self.said = 0
        self.cursor, self.identity, self.highest = None, "", None
        self.inbox: set[str] = set()
        self.heard: list[str] = []
        self.truth: list[str] = []
        self.alarms = 0
        self.memory: frozenset | set | None = None

    def say(self, agent: str) -> None:
        self.last += self.chance.choice([1, 1, 1, 2, 7])
        self.said += 1
        self.messages.append(
            {
                "id": f"m{self.chance.getrandbits(40)}",
                "agentId": agent,
                "text": f"{agent} {self.said}",
                "cursor": str(self.last) if self.chance.random() < 0.9 else self.last,
                "verified": True,
                "expiresAt": f"2030-01-01T00:00:{self.chance.randrange(60):02}Z",
            }
        )
        if agent != "alice":
            self.truth.append(f"{agent} {self.said}")

    def known(self) -> sift.Known:
        greeted = self.cursor is not None
        return sift.Known(
            self.cursor,
            self.identity,
            lambda: self.inbox,
            "alice",
            True,
            greeted,
            False,
            self.memory,
            lambda: 0,
        )

    def poll(self, *, whole: bool) -> None:
        whole = whole or self.cursor is None
        shown = [m for m in self.messages if whole or int(m["cursor"]) > self.cursor]
        last = shown[-1]["cursor"] if shown else (0 if whole else self.cursor)
        if self.chance.random() < 0.2:
            self.chance.shuffle(shown)
            shown += shown[: self.chance.randrange(3)]
        elif not whole and self.chance.random() < 0.1:
            shown = self.messages[-4:]  # some that are not above `after`
        body = {"messages": shown}
        forms = {"string": str(last), "number": int(last), "null": None, "zero": "0", "lower": "1", "wild": [{}]}
        if self.form in forms:
            body["nextCursor"] = forms[self.form]
        found = batch.read(calls.poll("s" * 48, "alice"), Answer(200, body=json.dumps(body).encode()))
        again = whole and sift.restarted(found, self.known())
        news = sift.sift(found, self.known(), reread=again)
        self.memory = sift.remembered(found, self.known(), whole=whole)
        if self.chance.random() < 0.1:
            self.memory = None  # a new life of ours
        self.alarms += news.restarted
        assert news.restarted or (news.cursor or 0) >= (self.cursor or 0), "the cursor went back"
        self.cursor, self.identity = news.cursor, news.last
        for entry in news.entries:
            self.inbox.add(line.identity(entry.fields))
            self.heard.append(json.loads(entry.fields["text"]))


@pytest.mark.parametrize("form", FORMS)
def test_case_39_ten_thousand_ordinary_polls_raise_no_false_alarm(form):
    chance = random.Random(form)
    model = Model(chance, form)
    for _ in range(10_000):
        for _ in range(chance.choice([0, 0, 1, 1, 3])):
            model.say(chance.choice(["bob", "bob", "alice"]))
        if chance.random() < 0.3:
            del model.messages[: chance.randrange(len(model.messages) + 1)]  # they expire
        elif len(model.messages) > 20:
            del model.messages[:10]
        model.poll(whole=chance.random() < 0.3)
    # What expired before a poll came is lost to anyone; what came is there once and in order.
    assert model.alarms == 0
    assert len(set(model.heard)) == len(model.heard) > 1_000
    assert [text for text in model.truth if text in set(model.heard)] == model.heard


@pytest.mark.parametrize("form", FORMS)
def test_case_52_a_thousand_restarts_are_all_noticed(form):
    chance = random.Random(form)
    model = Model(chance, form)
    for _ in range(1_000):
        expected = model.alarms
        for n in range(chance.randrange(1, 6)):
            model.say("bob")
            # A life that begins above our cursor cannot be told from messages that expired; nothing is lost by that.
            expected += n == 0 and model.cursor is not None and model.last <= model.cursor
        model.poll(whole=True)
        assert model.alarms == expected
        assert model.heard == model.truth
        model.messages, model.last = [], 0
        if chance.random() < 0.5:
            model.poll(whole=chance.random() < 0.5)  # it shows nothing: no sign of anything
    assert model.alarms > 500


@pytest.mark.parametrize("form", FORMS)
def test_case_52_a_life_that_overtakes_our_cursor_is_noticed_by_the_next_look_back(form):
    chance = random.Random(form)
    model = Model(chance, form)
    for _ in range(500):
        for _ in range(chance.randrange(1, 4)):
            for _ in range(chance.randrange(4)):
                model.say(chance.choice(["bob", "alice"]))
            model.poll(whole=False)
        model.poll(whole=True)
        assert sorted(model.heard) == sorted(model.truth), "lost or doubled"
        model.messages, model.last = [], 0
    assert model.alarms > 100
