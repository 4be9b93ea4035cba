"""Every endpoint through the HTTP door: what it answers, and each way that it refuses."""

from __future__ import annotations

import asyncio

import pytest

from nexusd import __version__
from nexusd.relay.app import build_app
from nexusd.relay.exchange import Exchange
from nexusd.relay.fields import Creation
from nexusd.relay.ledger import NoLedger
from nexusd.relay.limit import RateLimit
from nexusd.relay.waiting import Waiting

from .conftest import Asker, entropy
from .test_waiting import until_waiting


def error_of(response) -> tuple[int, str]:
    reply = response.json()
    assert reply["message"]
    assert response.headers["content-type"] == "application/json"
    return response.status_code, reply["error"]


def test_a_session_is_created_with_and_without_a_body(ask) -> None:
    bare = ask("PUT", "/v1/sessions")
    assert bare.status_code == 201
    assert bare.json()["ttl"] == 3660
    full = ask("PUT", "/v1/sessions", json={"ttl": 60, "maxAgents": 2, "greeting": "hi", "creatorAgentId": "alice"})
    assert full.status_code == 201
    assert {**full.json(), "sessionId": 0, "sessionKey": 0, "expiresAt": 0} == {
        "sessionId": 0,
        "ttl": 60,
        "maxAgents": 2,
        "state": "active",
        "creatorAgentId": "alice",
        "sessionKey": 0,
        "expiresAt": 0,
    }


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", "invalid_json"), (b"[]", "invalid_body"), (b'{"ttl":1}', "invalid_request")]
)
def test_a_bad_creation_is_refused(ask, body, code) -> None:
    assert error_of(ask("PUT", "/v1/sessions", content=body)) == (400, code)


def test_a_whole_conversation(ask) -> None:
    session_id = ask("PUT", "/v1/sessions", json={"greeting": "welcome"}).json()["sessionId"]
    path = f"/v1/sessions/{session_id}"
    joined = ask("POST", f"{path}/join", agent="alice")
    assert (joined.status_code, joined.json()["status"], joined.json()["agentsOnline"]) == (200, "joined", 1)
    key = joined.json()["sessionKey"]
    sent = ask("POST", f"{path}/messages", agent="alice", key=key, json={"text": "hello", "json": {"n": 1}})
    assert (sent.status_code, set(sent.json())) == (201, {"id", "cursor", "expiresAt"})
    heard = ask("GET", f"{path}/messages", agent="alice").json()
    assert [message["cursor"] for message in heard["messages"]] == ["0", "1"]
    message = heard["messages"][1]
    assert {**message, "sentAt": 0, "expiresAt": 0} == {
        "id": sent.json()["id"],
        "agentId": "alice",
        "text": "hello",
        "json": {"n": 1},
        "cursor": "1",
        "verified": True,
        "sentAt": 0,
        "expiresAt": 0,
    }
    after = ask("GET", f"{path}/messages", agent="alice", params={"after": "1", "members": "true"}).json()
    assert (after["messages"], after["nextCursor"]) == ([], "1")
    assert [member["agentId"] for member in after["members"]] == ["alice"]
    assert ask("POST", f"{path}/renew", agent="alice", json={"ttl": 90}).json()["ttl"] == 90
    assert ask("GET", path).json()["ttl"] == 90
    left = ask("DELETE", f"{path}/agents/alice", agent="alice", key=key)
    assert (left.status_code, left.json()["ok"]) == (200, True)
    assert ask("GET", path).json()["agents"] == []


def test_a_number_comes_back_as_it_was_written(ask, session) -> None:
    body = b'{"json":{"price":1.10,"big":12345678901234567890123}}'
    assert ask("POST", f"/v1/sessions/{session}/messages", agent="alice", content=body).status_code == 201
    heard = ask("GET", f"/v1/sessions/{session}/messages", agent="bob")
    assert b'"json":{"price":1.10,"big":12345678901234567890123}' in heard.content


def test_a_send_is_refused_for_each_reason_the_protocol_knows(ask, session) -> None:
    path = f"/v1/sessions/{session}/messages"
    said = {"text": "hello"}
    assert error_of(ask("POST", path, json=said)) == (400, "missing_agent_id")
    assert error_of(ask("POST", path, agent="mallory", json=said)) == (403, "forbidden")
    assert error_of(ask("POST", path, agent="alice", key="wrong", json=said)) == (403, "invalid_session_key")
    assert error_of(ask("POST", "/v1/sessions/nope/messages", agent="alice", json=said)) == (404, "session_not_found")
    assert error_of(ask("POST", path, agent="alice")) == (400, "invalid_json")
    assert error_of(ask("POST", path, agent="alice", json=[])) == (400, "invalid_body")
    assert error_of(ask("POST", path, agent="alice", json={"text": ""})) == (400, "invalid_request")
    assert ask("GET", path, agent="bob").json()["messages"] == []


def test_a_poll_is_refused_for_each_reason_the_protocol_knows(ask, session) -> None:
    path = f"/v1/sessions/{session}/messages"
    assert error_of(ask("GET", path)) == (400, "missing_agent_id")
    assert error_of(ask("GET", path, agent="mallory")) == (403, "agent_not_in_session")
    assert error_of(ask("GET", "/v1/sessions/nope/messages", agent="alice")) == (404, "session_not_found")
    assert error_of(ask("GET", path, agent="alice", params={"after": "x"})) == (400, "invalid_request")
    assert error_of(ask("GET", path, agent="alice", params={"wait": "61"})) == (400, "invalid_request")


def test_joining_is_refused_for_each_reason_the_protocol_knows(ask) -> None:
    session_id = ask("PUT", "/v1/sessions", json={"maxAgents": 1}).json()["sessionId"]
    path = f"/v1/sessions/{session_id}/join"
    assert error_of(ask("POST", path)) == (400, "missing_agent_id")
    assert error_of(ask("POST", path, agent="system")) == (400, "invalid_request")
    assert ask("POST", path, agent="alice").status_code == 200
    assert error_of(ask("POST", path, agent="alice")) == (409, "agent_id_taken")
    assert error_of(ask("POST", path, agent="bob")) == (409, "session_full")
    assert error_of(ask("POST", "/v1/sessions/nope/join", agent="bob")) == (404, "session_not_found")


def test_a_renewal_without_a_body_is_refused_as_on_the_public_server(ask, session) -> None:
    path = f"/v1/sessions/{session}/renew"
    assert error_of(ask("POST", path, agent="alice")) == (400, "invalid_json")
    assert ask("POST", path, agent="alice", content=b"{}").status_code == 200
    assert error_of(ask("POST", path, agent="mallory", json={})) == (403, "forbidden")
    assert error_of(ask("POST", path, agent="alice", json={"ttl": 1})) == (400, "invalid_request")
    assert error_of(ask("POST", "/v1/sessions/nope/renew", agent="alice", json={})) == (404, "session_not_found")


def test_leaving_is_refused_for_each_reason_the_protocol_knows(ask) -> None:
    created = ask("PUT", "/v1/sessions", json={"creatorAgentId": "alice"}).json()
    path = f"/v1/sessions/{created['sessionId']}"
    key = ask("POST", f"{path}/join", agent="bob").json()["sessionKey"]
    assert error_of(ask("DELETE", f"{path}/agents/bob", agent="bob")) == (401, "missing_session_key")
    assert error_of(ask("DELETE", f"{path}/agents/bob", agent="bob", key="x")) == (401, "invalid_session_key")
    assert error_of(ask("DELETE", f"{path}/agents/carol", agent="carol", key=key)) == (404, "agent_not_found")
    assert error_of(ask("DELETE", f"{path}/agents/alice", agent="alice", key=created["sessionKey"])) == (
        403,
        "forbidden",
    )
    assert error_of(ask("DELETE", "/v1/sessions/nope/agents/bob", agent="bob", key=key)) == (404, "session_not_found")


def test_pairing_from_code_to_claim(ask, session) -> None:
    paired = ask("PUT", "/v1/pair", json={"sessionId": session})
    assert paired.status_code == 201
    code = paired.json()["code"]
    assert set(paired.json()) == {"code", "url", "expiresAt"}
    assert paired.json()["url"] == f"http://relay.test:3000/p/{code}"
    assert ask("GET", f"/v1/pair/{code}/status").json() == {"state": "pending"}
    claimed = ask("POST", f"/v1/pair/{code}/claim", agent="carol")
    assert claimed.status_code == 200
    assert (claimed.json()["sessionId"], claimed.json()["status"]) == (session, "claimed")
    assert ask("GET", f"/v1/pair/{code}/status").json() == {"state": "claimed"}
    path = f"/v1/sessions/{session}/messages"
    sent = ask("POST", path, agent="carol", key=claimed.json()["sessionKey"], json={"text": "hi"})
    assert sent.status_code == 201


def test_pairing_is_refused_for_each_reason_the_protocol_knows(ask, session, clock) -> None:
    assert error_of(ask("PUT", "/v1/pair", json={"sessionId": "nope"})) == (404, "session_not_found")
    assert error_of(ask("PUT", "/v1/pair", json={})) == (400, "invalid_request")
    assert error_of(ask("PUT", "/v1/pair")) == (400, "invalid_json")
    assert error_of(ask("POST", "/v1/pair/OAK-OAK-33333/claim", agent="carol")) == (404, "code_not_found")
    assert error_of(ask("GET", "/v1/pair/OAK-OAK-33333/status")) == (404, "code_not_found")
    code = ask("PUT", "/v1/pair", json={"sessionId": session}).json()["code"]
    assert error_of(ask("POST", f"/v1/pair/{code}/claim")) == (400, "missing_agent_id")
    assert error_of(ask("POST", f"/v1/pair/{code}/claim", agent="alice")) == (409, "agent_id_taken")
    clock.pass_by(600)
    assert ask("GET", f"/v1/pair/{code}/status").json() == {"state": "expired"}
    assert error_of(ask("POST", f"/v1/pair/{code}/claim", agent="carol")) == (404, "code_expired_or_used")


def test_a_claim_of_a_full_session_is_refused(ask) -> None:
    session_id = ask("PUT", "/v1/sessions", json={"maxAgents": 1, "creatorAgentId": "alice"}).json()["sessionId"]
    code = ask("PUT", "/v1/pair", json={"sessionId": session_id}).json()["code"]
    assert error_of(ask("POST", f"/v1/pair/{code}/claim", agent="bob")) == (409, "session_full")
    assert ask("GET", f"/v1/pair/{code}/status").json() == {"state": "pending"}


def test_the_url_of_a_code_takes_no_hostile_host(ask, session) -> None:
    for hostile in ('x"><script>alert(1)</script>', "a b", "[::1"):
        paired = ask("PUT", "/v1/pair", json={"sessionId": session}, headers={"Host": hostile}).json()
        assert paired["url"] == f"http://127.0.0.1:3000/p/{paired['code']}"


def test_health_tells_what_this_server_can(ask, clock) -> None:
    clock.pass_by(12.5)
    assert ask("GET", "/health").json() == {
        "status": "ok",
        "version": __version__,
        "uptime": 12.5,
        "capabilities": {"messageFormat": ["text", "json"], "longPoll": True},
    }


def test_stats_count(ask, session) -> None:
    assert ask("GET", "/v1/stats").json() == {"activeSessions": 1, "totalAgents": 2, "totalMessages": 0, "uptime": 0.0}


@pytest.mark.parametrize("path", ["/", "/nope", "/v1/sessions/", "/v1/sessions/s/nope", "/health/"])
def test_an_unknown_address_is_refused_in_json(ask, path) -> None:
    assert error_of(ask("GET", path)) == (404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/health"), ("POST", "/v1/sessions"), ("GET", "/v1/pair")])
def test_a_wrong_method_is_refused_in_json(ask, method, path) -> None:
    refused = ask(method, path)
    assert error_of(refused) == (405, "method_not_allowed")
    assert refused.headers["allow"]


def test_no_answer_with_ids_or_keys_may_be_kept(ask) -> None:
    assert ask("PUT", "/v1/sessions").headers["cache-control"] == "no-store"


def polling(ask: Asker, session: str, after: str):
    return ask.client.get(
        f"/v1/sessions/{session}/messages", params={"wait": "60", "after": after}, headers={"X-Agent-Id": "alice"}
    )


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
def patient(exchange, runner, waiting) -> Asker:
    return Asker(build_app(exchange, waiting=waiting), runner)


def test_a_poll_held_open_is_answered_by_the_next_message(patient, waiting, session) -> None:
    async def story():
        poll = asyncio.create_task(polling(patient, session, "0"))
        await until_waiting(waiting, 1)
        said = {"json": {"text": "now"}, "headers": {"X-Agent-Id": "bob"}}
        assert (await patient.client.post(f"/v1/sessions/{session}/messages", **said)).status_code == 201
        return await poll

    heard = patient.runner.run(story()).json()
    assert [message["text"] for message in heard["messages"]] == ["now"]
    assert heard["nextCursor"] == "1"


def test_a_poll_held_open_is_answered_at_once_where_something_is_there(patient, waiting, session) -> None:
    patient("POST", f"/v1/sessions/{session}/messages", agent="bob", json={"text": "early"})
    heard = patient.runner.run(polling(patient, session, "0")).json()
    assert [message["text"] for message in heard["messages"]] == ["early"]
    assert len(waiting) == 0


def test_a_poll_held_open_ends_empty_at_its_deadline(patient, session) -> None:
    heard = patient(
        "GET", f"/v1/sessions/{session}/messages", agent="alice", params={"wait": "0.001", "after": "0"}
    ).json()
    assert heard == {"messages": [], "nextCursor": "0"}


def test_polls_held_open_end_when_the_relay_goes_down(patient, waiting, session) -> None:
    async def story():
        poll = asyncio.create_task(polling(patient, session, "0"))
        await until_waiting(waiting, 1)
        waiting.close()
        return await poll

    assert patient.runner.run(story()).json() == {"messages": [], "nextCursor": "0"}


def test_who_leaves_is_not_held_on_to(patient, waiting, session) -> None:
    key = patient("POST", f"/v1/sessions/{session}/join", agent="carol").json()["sessionKey"]
    headers = {"X-Agent-Id": "carol", "X-Session-Key": key}

    async def story():
        path = f"/v1/sessions/{session}"
        get = patient.client.get(f"{path}/messages", params={"wait": "60"}, headers=headers)
        poll = asyncio.create_task(get)
        await until_waiting(waiting, 1)
        await patient.client.delete(f"{path}/agents/carol", headers=headers)
        return await poll

    assert error_of(patient.runner.run(story())) == (403, "agent_not_in_session")


def test_every_request_counts_also_one_for_health(exchange, runner, clock) -> None:
    ask = Asker(build_app(exchange, limit=RateLimit(2, clock)), runner)
    assert [ask("GET", path).status_code for path in ("/health", "/nope", "/health")] == [200, 404, 429]
    refused = ask("GET", "/v1/stats")
    assert error_of(refused) == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "60"
    assert ask.at("192.0.2.2")("GET", "/health").status_code == 200
    clock.pass_by(60)
    assert ask("GET", "/health").status_code == 200


def test_an_idle_relay_forgets_what_is_over_and_outlives_a_ledger_that_fails(clock, runner, monkeypatch) -> None:
    class Failing(NoLedger):
        calls = 0

        def ended(self, session_ids) -> None:
            self.calls += 1
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("nexusd.relay.app.SWEEP_EVERY", 0)
    ledger = Failing()
    exchange = Exchange(clock, entropy(), ledger)
    app = build_app(exchange)
    exchange.create(Creation(ttl=60))
    exchange.create(Creation(ttl=120))

    async def story() -> None:
        async with app.router.lifespan_context(app):
            for _ in range(2):
                done = ledger.calls
                clock.pass_by(60)
                while ledger.calls == done:  # noqa: ASYNC110 - only lets the sweep run
                    await asyncio.sleep(0)

    runner.run(story())
    assert ledger.calls == 2
    assert exchange.stats()["activeSessions"] == 0
