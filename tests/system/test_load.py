"""A thousand messages each way at once, without and with kills, and a long silence."""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.world import checked_seq, until

MANY = 1_000


def drop_all(daemon, count=MANY):
    """Drop numbered files from a moment in the past on, so that their order is certain."""
    for n in range(count):
        aside = daemon.folder("chat") / "outbox" / f".{n}.tmp"
        aside.write_text(f"{daemon.agent} {n}")
        os.utime(aside, ns=(10**18 + n, 10**18 + n))
        aside.rename(daemon.folder("chat") / "outbox" / f"{n}.txt")


def all_there(daemon, peer, count=MANY):
    wanted = [f"{peer} {n}" for n in range(count)]
    until(lambda: len(daemon.texts("chat")) >= count, f"{daemon.agent} did not hear everything", patience=300)
    assert daemon.texts("chat") == wanted
    checked_seq(daemon.inbox("chat"))


def sent_once(daemon, count=MANY):
    until(lambda: len(list((daemon.folder("chat") / "sent").glob("*.receipt.json"))) == count, patience=300)
    until(lambda: daemon.places("chat") == {f"{n}.txt": ["sent"] for n in range(count)})  # the receipt is there first


def test_a_thousand_messages_each_way_arrive_in_order_once(pair):
    alice, bob = pair
    drop_all(alice)
    drop_all(bob)
    all_there(alice, "bob")
    all_there(bob, "alice")
    sent_once(alice)
    sent_once(bob)


@pytest.mark.timeout(600)
def test_a_thousand_messages_each_way_with_twenty_kills_arrive_in_order_once(pair):
    chance = random.Random(20)
    drop_all(pair[0])
    drop_all(pair[1])
    for round_ in range(20):
        victim = pair[round_ % 2]
        end = time.monotonic() + chance.uniform(0.05, 0.6)
        until(lambda end=end: time.monotonic() > end)
        victim.kill()
        victim.start()
    all_there(pair[0], "bob")
    all_there(pair[1], "alice")
    for daemon in pair:
        sent_once(daemon)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_session_of_sixty_seconds_lives_through_four_silent_minutes(relay, daemons):
    alice, bob = daemons("alice", relay.url), daemons("bob", relay.url)
    bob.add("chat", "--code", alice.add("chat", "--create", "--ttl", "60")["link"])
    alice.start()
    bob.start()
    end = time.monotonic() + 240
    until(lambda: time.monotonic() > end, patience=300)
    assert {alice.view("chat")["state"], bob.view("chat")["state"]} == {"active"}
    alice.drop("chat", "a.txt", "still here?")
    until(lambda: bob.texts("chat") == ["still here?"])
