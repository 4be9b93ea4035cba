"""Time that a test moves, and a relay that it asks without a network."""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager

import httpx
import pytest

from nexusd.relay.app import build_app
from nexusd.relay.exchange import Exchange
from nexusd.relay.refusal import Refusal


class Clock:
    """Seconds since the epoch; stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Asker:
    """Asks an app as a client at one address would; one event loop for its whole life."""

    def __init__(self, app, runner: asyncio.Runner, address: str = "192.0.2.1") -> None:
        self.app = app
        self.runner = runner
        transport = httpx.ASGITransport(app, client=(address, 40000), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://relay.test:3000")

    def at(self, address: str) -> Asker:
        return Asker(self.app, self.runner, address)

    def __call__(self, method: str, path: str, *, agent=None, key=None, headers=None, **more) -> httpx.Response:
        sent = dict(headers or {})
        if agent is not None:
            sent["X-Agent-Id"] = agent
        if key is not None:
            sent["X-Session-Key"] = key
        return self.runner.run(self.client.request(method, path, headers=sent, **more))


@contextmanager
def refused(status: int, code: str):
    """Expects a Refusal with this status and code."""
    with pytest.raises(Refusal) as caught:
        yield caught
    assert (caught.value.status, caught.value.code) == (status, code)


def entropy():
    return random.Random(7).randbytes


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exchange(clock) -> Exchange:
    return Exchange(clock, entropy())


@pytest.fixture
def runner():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def ask(exchange, runner) -> Asker:
    return Asker(build_app(exchange), runner)


@pytest.fixture
def session(exchange) -> str:
    """A session that alice and bob are in."""
    session_id = exchange.create()["sessionId"]
    exchange.join(session_id, "alice")
    exchange.join(session_id, "bob")
    return session_id
