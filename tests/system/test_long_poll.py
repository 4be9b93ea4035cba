"""Long polls, where a server offers them."""

from __future__ import annotations

import pytest

from tests.world import until

pytestmark = pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
SELDOM = 'poll_interval = "1h"\nactive_poll_interval = "1h"'


def test_a_message_arrives_at_once_though_polls_are_an_hour_apart(relay, daemons, transport):
    alice, bob = daemons("alice", relay.url), daemons("bob", relay.url, f'{SELDOM}\ntransport = "{transport}"')
    bob.add("chat", "--code", alice.add("chat", "--create")["link"])
    alice.start()
    bob.start()
    for n in range(5):
        alice.drop("chat", f"{n}", f"message {n}")
        until(lambda n=n: len(bob.texts("chat")) == n + 1)
    assert bob.texts("chat") == [f"message {n}" for n in range(5)]


def test_a_daemon_that_waits_in_a_long_poll_ends_at_once(relay, daemons, transport):
    bob = daemons("bob", relay.url, f'{SELDOM}\ntransport = "{transport}"')
    code = bob.add("chat", "--create")["code"]
    key = relay.ask("POST", f"/v1/pair/{code}/claim", "alice", json={}).json()
    bob.start()
    relay.say(key["sessionId"], "alice", key["sessionKey"], "hello")
    until(lambda: bob.texts("chat") == ["hello"])
    assert bob.stop() == 0
    assert [e["event"] for e in bob.events()][-1] == "daemon.stopped"
