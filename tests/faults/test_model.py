"""The whole bridge against a model: any course of messages, losses, restarts and deaths keeps the promises.

A failure prints its steps and a line `@reproduce_failure(...)`: above `class Bridge` it runs them again, as does the
next run by itself (`.hypothesis/`). The short run is the same each time. The long one begins elsewhere each time;
`python -m pytest -m slow tests/faults/test_model.py --hypothesis-seed=N` fixes where.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nexusd.bridge import sift, witness
from nexusd.bridge.journal import Journal
from nexusd.spool import inbox, sending
from tests.bridge.world import lost, refusal, unreachable
from tests.faults import test_controls as controls
from tests.faults.living import Living, body

HEALED = 400.0  # seconds: a look from the very first, and the longest backoff
ALIVE = precondition(lambda self: self.world.runner is not None)
DEAD = precondition(lambda self: self.world.runner is None)
KINDS = st.sampled_from(["poll", "poll", "send", "send", "renew", "health"])
FAULTS = {
    "unreachable": unreachable,
    "lost": lost,
    "500": lambda: refusal(500),
    "503": lambda: refusal(503),
    "429": lambda: refusal(429, "rate_limit_exceeded", retry_after=5.0),
}


class Bridge(RuleBasedStateMachine):
    """One session; bob is its peer, "me" the daemon."""

    begun = 0  # how many there were

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="model-"))
        self.patch = pytest.MonkeyPatch()
        self.dropped: dict[str, str] = {}  # name -> what it says
        self.times: dict[str, float] = {}
        self.taken_back: set[str] = set()
        self.evictions = self.moved = 0

    @initialize(
        echo=st.booleans(), policy=st.sampled_from(["resend", "fail"]), rotate=st.sampled_from(["64MiB", "4KiB"])
    )
    def begin(self, echo, policy, rotate):
        Bridge.begun += 1
        settings = {"on_ambiguous": f'"{policy}"', "inbox_max_bytes": f'"{rotate}"'}
        self.world = Living(self.home, self.patch, settings)
        self.server = self.world.server
        self.server.echo = echo
        self.server.say("earlier", "me")  # so that echo can be learned
        self.world.start()
        self.world.sleep(1)

    # ---- what happens there

    @rule(count=st.integers(1, 4), same=st.booleans())
    def the_peer_speaks(self, count, same):
        for _ in range(count):
            self.server.say("ok" if same else f"text {len(self.server.accepted)} {'x' * 2_000}")

    @rule(kind=KINDS, fault=st.sampled_from(sorted(FAULTS)), count=st.integers(1, 3))
    def requests_fail(self, kind, fault, count):
        self.server.fail(kind, *(FAULTS[fault]() for _ in range(count)))

    @rule(kind=KINDS, fault=st.sampled_from(["lost", "500"]), count=st.integers(1, 3))
    def answers_are_lost(self, kind, fault, count):
        self.server.lose(kind, *(FAULTS[fault]() for _ in range(count)))

    @rule()
    def the_server_restarts(self):
        self.server.restart()

    @precondition(lambda self: self.evictions < 3)  # an hour's measure
    @rule()
    def the_daemon_is_put_out(self):
        self.evictions += 1
        self.server.members.pop("me", None)

    @rule(seconds=st.sampled_from([0.015, 0.3, 2.0, 5.0, 35.0, 320.0]))
    def time_passes(self, seconds):
        self.world.sleep(seconds)
        self._buried()

    # ---- what people do

    def _drop(self, name, said, data):
        self.world.sleep(0.01)  # times of files tell their order
        at = time.time()
        self.dropped[name], self.times[name] = said, at
        self.world.put(name, data, at)
        if self.world.runner is not None:
            self.world.do(self.world.runner.send.wake)

    @rule(form=st.sampled_from(["plain", "json", "twice"]))
    def somebody_drops(self, form):
        number = len(self.dropped)
        if form == "json":
            said = json.dumps({"n": number})
            self._drop(f"{number:03}.json", said, said.encode())
        for n in range({"plain": 1, "twice": 2}.get(form, 0)):
            self._drop(f"{number + n:03}.txt", f"file {number}", f"file {number}\n".encode())

    @rule(chance=st.randoms(use_true_random=False))
    def somebody_takes_back(self, chance):
        waiting = sorted((self.world.folder / "outbox").glob("[0-9]*"))
        if waiting:
            path = chance.choice(waiting)
            self.world.disk.recorder.unlink(str(path))
            self.world.sync("outbox")
            self.taken_back.add(path.name)

    @ALIVE
    @rule()
    def somebody_moves_the_inbox_away(self):
        path = self.world.folder / "inbox.jsonl"
        if path.exists() and not self.world.disk.dead:
            self.moved += 1
            self.world.disk.recorder.rename(str(path), str(path.with_name(f"moved-{self.moved}.jsonl")))
            self.world.sync("")

    # ---- deaths

    @ALIVE
    @rule(calls=st.integers(0, 40))
    def it_will_die_at_a_call(self, calls):
        self.world.disk.calls_left = calls

    @ALIVE
    @rule(kind=st.sampled_from(["poll", "send"]), acted=st.booleans())
    def it_will_die_at_a_request(self, kind, acted):
        self.server.die_at = (kind, acted)

    @ALIVE
    @rule(power=st.none() | st.integers(0, 999))
    def it_dies(self, power):
        self.world.kill()
        self._cut(power)

    @ALIVE
    @rule()
    def it_is_stopped(self):
        self.world.stop() if not self.world.disk.dead else self.world.kill()

    @DEAD
    @rule(die_after=st.none() | st.integers(0, 30), power=st.none() | st.integers(0, 999))
    def it_starts(self, die_after, power):
        self._cut(power)
        self.world.start(die_after)

    def _cut(self, power):
        if power is not None:
            self.world.lose_power(random.Random(power), self.times)

    def _buried(self):
        if self.world.disk.dead and self.world.runner is not None:
            self.world.kill()

    # ---- the promises

    @invariant()
    def kept(self):
        self.each_line_is_there_once_and_in_order()
        self.each_file_is_in_one_place()
        self.what_is_said_to_be_sent_was_accepted_and_none_twice_in_silence()

    def each_line_is_there_once_and_in_order(self):
        lines = self.world.lines()
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1)), "a hole in the numbers"
        truth = {m["sentAt"]: m for m in self.server.accepted}
        latest, gaps = "", set()
        for line in lines:
            if line.get("notice") == "gap":
                latest, _ = "", gaps.add(line["id"])
            elif line["kind"] == "message":
                assert (line["sentAt"]) > latest, f"out of order: {line}"
                latest = line["sentAt"]
                assert body(line) == body(truth[latest]), "changed"
        doubled = [n for n, times in Counter(line.get("sentAt") for line in lines).items() if n and times > 1]
        assert not doubled, f"doubled in: {doubled}"
        assert len(gaps) <= self.server.restarts, "a false alarm"

    def each_file_is_in_one_place(self):
        assert set(self.world.where()) == set(self.dropped) - self.taken_back

    def _ended(self):
        """Receipts and errors by file."""
        where = self.world.where()
        sent = {name: self.world.receipt(name) for name, place in where.items() if place == "sent"}
        return sent, {name: self.world.error(name) for name, place in where.items() if place == "failed"}

    def what_is_said_to_be_sent_was_accepted_and_none_twice_in_silence(self):
        sent, failed = self._ended()
        truth = {(m["id"], m["cursor"], body(m)) for m in self.server.accepted if m["agentId"] == "me"}
        said, files = Counter(self.server.bodies("me")), {}
        for name, text in self.dropped.items():
            files.setdefault(text, []).append(name)
            if name in sent:
                assert (sent[name]["id"], sent[name]["cursor"], text) in truth, f"never accepted: {sent[name]}"
        for text, names in files.items():
            if not set(names) <= sent.keys() | failed.keys() | self.taken_back:
                continue  # not decided yet
            least = sum(name in sent for name in names)
            most = sum(sent[n]["attempts"] if sent[n]["possibleDuplicate"] else 1 for n in names if n in sent)
            most += sum(failed[n]["attempts"] for n in names if n in failed)
            assert least <= said[text] <= most, f"{text!r}: accepted {said[text]} times, {least} to {most} said"

    def _healed(self):
        self.server.faults.clear()
        self.server.losses.clear()
        self.server.die_at = None
        if self.world.runner is not None and not self.world.disk.dead:
            self.world.disk.calls_left = None
        self._buried()
        if self.world.runner is None:
            self.world.start()
        self.world.sleep(HEALED)
        if self.world.session.standing.status == "evicted":
            self.world.sleep(3600)
        self.server.say("the end")
        self.world.sleep(HEALED)

    def teardown(self):
        try:
            if hasattr(self, "world"):
                self._healed()
                self._all_is_well()
        finally:
            if hasattr(self, "world"):
                self.world.close()
            self.patch.undo()
            shutil.rmtree(self.home)

    def _all_is_well(self):
        self.kept()
        heard = {line["sentAt"] for line in self.world.lines() if line["kind"] == "message"}
        held = {m["sentAt"] for m in self.server.messages if m["agentId"] == "bob"} | self.server.owed
        assert held <= heard, f"lost in: {sorted(held - heard)}"
        places = self.world.where()
        assert set(places.values()) <= {"sent", "failed"}, f"not done: {places}"
        sent, failed = self._ended()
        assert {note["error"] for note in failed.values()} <= {"ambiguous"}, failed
        if self.server.echo and not self.server.restarts:
            assert not failed, failed
            assert not any(note["possibleDuplicate"] for note in sent.values()), sent
        order = list(dict.fromkeys(self.server.bodies("me")))[1:]
        assert order == [text for text in dict.fromkeys(self.dropped.values()) if text in order], "out of order"


def hunted(examples: int, steps: int = 30, **more) -> None:
    """So many courses of events."""
    more = {"deadline": None, "print_blob": True, "suppress_health_check": list(HealthCheck), **more}
    run_state_machine_as_test(Bridge, settings=settings(max_examples=examples, stateful_step_count=steps, **more))


def test_whatever_happens_the_promises_are_kept():
    hunted(30, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whatever_happens_the_promises_are_kept_two_thousand_times(tally):
    before = Bridge.begun
    hunted(2_000, 40)
    tally("course of events in the model", Bridge.begun - before)


# ---- the same with a protection removed: caught

REAL_SIFT = sift.sift
CONTROLS = {
    "append before cursor": (Journal, "commit_now", controls.cursor_first),
    "dedupe": (sift, "sift", lambda b, k, **how: REAL_SIFT(b, dataclasses.replace(k, inbox=frozenset), **how)),
    "intent": (sending.Sending, "note", lambda *_: None),
    "witness": (witness, "find", lambda *_: None),
    "inbox above state": (Journal, "_recover", controls.not_recovered),
    "rotated part above state": (inbox.Inbox, "_rotated_tail", lambda _, seq: inbox.Tail(seq)),
    "recovery written down": (Journal, "_recover", controls.not_written_down),
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("protection", CONTROLS)
def test_without_a_protection_a_promise_is_broken(monkeypatch, protection):
    monkeypatch.setattr(*CONTROLS[protection])
    with pytest.raises((AssertionError, ValueError, ExceptionGroup)) as broken:
        hunted(3_000, 40, derandomize=True, database=None, phases=[Phase.generate], report_multiple_bugs=False)
    print(f"without {protection}: {broken.value}"[:200].split("\n")[0])
