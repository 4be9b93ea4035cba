"""The outermost layer: bodies that are too long, faults of ours, and what stderr may say about them."""

from __future__ import annotations

import pytest

from nexusd.relay.app import build_app
from nexusd.relay.exchange import Exchange
from nexusd.relay.ledger import NoLedger

from .conftest import Asker, entropy


@pytest.fixture
def small(exchange, runner) -> Asker:
    return Asker(build_app(exchange, body_limit=100), runner)


def test_a_body_that_declares_too_much_is_refused_unread(small) -> None:
    refused = small("PUT", "/v1/sessions", content=b"", headers={"Content-Length": "101"})
    assert (refused.status_code, refused.json()["error"]) == (413, "body_too_large")


def test_a_body_that_declares_nothing_is_refused_once_it_is_too_long(small) -> None:
    sent = []

    async def endless():
        while len(sent) < 1000:
            sent.append(1)
            yield b" " * 60

    refused = small("PUT", "/v1/sessions", content=endless())
    assert (refused.status_code, refused.json()["error"]) == (413, "body_too_large")


def test_a_body_of_just_the_limit_is_read(small, session) -> None:
    body = b'{"text":"' + b"x" * 89 + b'"}'
    assert len(body) == 100
    assert small("POST", f"/v1/sessions/{session}/messages", agent="alice", content=body).status_code == 201


def test_the_limit_is_a_mebibyte_by_default(ask, session) -> None:
    path = f"/v1/sessions/{session}/messages"
    assert ask("POST", path, agent="alice", json={"text": "x" * 1024 * 1023}).status_code == 201
    assert ask("POST", path, agent="alice", json={"text": "x" * 1024 * 1024}).status_code == 413


def test_a_fault_of_ours_is_answered_and_named_without_a_secret(ask, exchange, session, monkeypatch, capfd) -> None:
    def fail(session_id):
        raise KeyError(session_id)

    monkeypatch.setattr(exchange, "describe", fail)
    failed = ask("GET", f"/v1/sessions/{session}")
    assert (failed.status_code, failed.json()["error"]) == (500, "internal_error")
    request_id = failed.headers["x-request-id"]
    out, err = capfd.readouterr()
    assert out == ""
    assert request_id in err
    assert "KeyError" in err
    assert session not in err
    assert session not in failed.text


def test_who_goes_away_in_the_middle_of_its_body_is_no_fault(exchange, runner, capfd) -> None:
    app = build_app(exchange)
    answered = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/v1/sessions",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "client": ("192.0.2.1", 1),
    }
    runner.run(app(scope, receive, send))
    assert answered == []
    assert capfd.readouterr() == ("", "")
    assert exchange.stats()["activeSessions"] == 0


def test_a_ledger_that_fails_changes_nothing(clock, runner, capfd) -> None:
    class Broken(NoLedger):
        broken = False

        def _write(self, *args) -> None:
            if self.broken:
                raise OSError(28, "No space left on device")

        opened = joined = left = renewed = _write

    ledger = Broken()
    exchange = Exchange(clock, entropy(), ledger)
    ask = Asker(build_app(exchange), runner)
    created = ask("PUT", "/v1/sessions", json={"creatorAgentId": "alice"}).json()
    path = f"/v1/sessions/{created['sessionId']}"
    before = ask("GET", path).json()
    ledger.broken = True
    clock.pass_by(1)
    for failed in (
        ask("PUT", "/v1/sessions"),
        ask("POST", f"{path}/join", agent="bob"),
        ask("POST", f"{path}/messages", agent="alice", json={"text": "lost"}),
        ask("POST", f"{path}/renew", agent="alice", json={"ttl": 60}),
    ):
        assert (failed.status_code, failed.json()["error"]) == (500, "internal_error")
    assert ask("GET", path).json() == before
    assert ask("GET", f"{path}/messages", agent="alice").json()["messages"] == []
    assert ask("GET", "/v1/stats").json()["activeSessions"] == 1
