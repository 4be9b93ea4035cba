"""A misbehaving server, and a daemon in a session on it with a peer that is played by the test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.misbehaving import Misbehaving
from tests.world import until

if TYPE_CHECKING:
    from tests.world import Daemon

QUICK = 'settle = "50ms"\npoll_interval = "100ms"\n'


class Scene:
    """Alice is a daemon in session "chat"; Peter is the test."""

    def __init__(self, server: Misbehaving, alice: Daemon) -> None:
        self.server, self.alice = server, alice
        alice.add("chat", "--create", "--ttl", "3600")
        self.session = server.sessions()[0]
        self.key = server.join(self.session, "peter")

    def say(self, text: str) -> None:
        self.server.say(self.session, "peter", self.key, text)

    def drop(self, count: int, *, first: int = 0) -> list[str]:
        """Numbered files, in an order that is certain; their texts."""
        outbox = self.alice.folder("chat") / "outbox"
        texts = [f"text {n}" for n in range(first, first + count)]
        for n, text in enumerate(texts, first):
            aside = outbox / f".{n}.tmp"
            aside.write_text(text)
            _at(aside, n)
            aside.rename(outbox / f"{n}.txt")
        return texts

    def receipts(self, count: int) -> dict[str, dict]:
        return {f"{n}.txt": self.alice.receipt("chat", f"{n}.txt") for n in range(count)}


def _at(path, n: int) -> None:
    os.utime(path, ns=(10**18 + n, 10**18 + n))


@pytest.fixture
def server():
    with Misbehaving() as running:
        yield running


@pytest.fixture
def scene(server, daemons):
    """Alice, started, her echo learned."""
    return made(server, daemons)


@pytest.fixture
def silent(server, daemons):
    """The same on a server that shows nobody their own messages."""
    server.echo = False
    return made(server, daemons, learned=False)


def made(server, daemons, settings: str = QUICK, *, learned: bool = True) -> Scene:
    found = Scene(server, daemons("alice", server.url, settings))
    found.alice.start()
    if learned:
        found.alice.drop("chat", "first.txt", "first")
        until(lambda: [e for e in found.alice.events() if e["event"] == "own.seen"])
    return found
