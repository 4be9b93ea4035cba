"""NexusClient: every endpoint's success and error."""

from __future__ import annotations

import json
import time

import httpx
import pytest
import respx

from nexusd.errors import Fate, RequestError, UserError
from nexusd.wire import client as clients
from nexusd.wire.client import NexusClient
from nexusd.wire.records import Lease
from tests.wire.raw import RawServer, ok

pytestmark = pytest.mark.anyio

SERVER = "https://relay.test"
S, K = "5e" * 24, "k" * 64
EXPIRES = "2026-11-22T07:30:36.154Z"

# method of the client, its arguments, the request it makes, an answer, and a look at the record
ENDPOINTS = [
    (
        "create",
        {"ttl": 60, "max_agents": 3, "greeting": "hi", "creator": "me"},
        ("PUT", "/v1/sessions"),
        (201, {"sessionId": S, "ttl": 60, "creatorAgentId": "me", "sessionKey": K}),
        lambda r: (r.session_id, r.lease.ttl, r.creator, r.session_key) == (S, 60.0, "me", K),
    ),
    (
        "session",
        {"session": S},
        ("GET", f"/v1/sessions/{S}"),
        (200, {"sessionId": S, "agents": ["me"], "expiresAt": EXPIRES}),
        lambda r: r.agents == ("me",) and r.lease.expires_at == pytest.approx(1795332636.154),
    ),
    (
        "join",
        {"session": S, "agent": "me"},
        ("POST", f"/v1/sessions/{S}/join"),
        (200, {"status": "joined", "sessionKey": K}),
        lambda r: (r.session_key, r.session_id) == (K, None),
    ),
    (
        "leave",
        {"session": S, "agent": "me", "key": K},
        ("DELETE", f"/v1/sessions/{S}/agents/me"),
        (200, {"ok": True}),
        lambda r: r == {"ok": True},
    ),
    (
        "send",
        {"session": S, "agent": "me", "key": K, "text": "hi"},
        ("POST", f"/v1/sessions/{S}/messages"),
        (201, {"id": "m1", "cursor": "5", "expiresAt": EXPIRES}),
        lambda r: (r.id, r.cursor, r.redacted) == ("m1", 5, False),
    ),
    (
        "poll",
        {"session": S, "agent": "me", "after": 4, "members": True},
        ("GET", f"/v1/sessions/{S}/messages?after=4&members=true"),
        (200, {"messages": [{"cursor": "5"}], "nextCursor": 5, "members": [{"agentId": "me"}]}),
        lambda r: ([m.cursor for m in r.messages], r.next_cursor, r.members) == ([5], 5, [{"agentId": "me"}]),
    ),
    (
        "renew",
        {"session": S, "agent": "me", "ttl": 60},
        ("POST", f"/v1/sessions/{S}/renew"),
        (200, {"ttl": 60, "expiresAt": EXPIRES}),
        lambda r: (r.session_id, r.lease.ttl) == (S, 60.0),
    ),
    (
        "pair",
        {"session": S},
        ("PUT", "/v1/pair"),
        (201, {"code": "A-B-C", "url": "https://x/p/A-B-C"}),
        lambda r: (r.code, r.url, r.expires_at) == ("A-B-C", "https://x/p/A-B-C", None),
    ),
    (
        "claim",
        {"code": "A-B-C", "agent": "me"},
        ("POST", "/v1/pair/A-B-C/claim"),
        (200, {"sessionId": S, "status": "claimed", "sessionKey": K}),
        lambda r: (r.session_id, r.session_key) == (S, K),
    ),
    ("pair_status", {"code": "A-B-C"}, ("GET", "/v1/pair/A-B-C/status"), (200, {"state": "pending"}), bool),
    ("health", {}, ("GET", "/health"), (200, {"uptime": 5}), lambda r: r.uptime == 5.0),
    ("stats", {}, ("GET", "/v1/stats"), (200, {"activeSessions": 1}), lambda r: r["activeSessions"] == 1),
]
endpoints = pytest.mark.parametrize(
    ("method", "given", "request_", "answer", "right"), ENDPOINTS, ids=[endpoint[0] for endpoint in ENDPOINTS]
)


@pytest.fixture
def server():
    with respx.mock(base_url=SERVER, assert_all_called=False) as router:
        yield router


@pytest.fixture
async def client(server):
    async with NexusClient(SERVER) as asking:
        yield asking


@endpoints
async def test_each_endpoint_is_asked_and_its_answer_read(server, client, method, given, request_, answer, right):
    route = server.request(*request_).respond(answer[0], json=answer[1])
    assert right(await getattr(client, method)(**given))
    assert route.call_count == 1


@endpoints
async def test_each_endpoints_refusal_keeps_the_servers_word(server, client, method, given, request_, answer, right):
    server.request(*request_).respond(403, json={"error": "forbidden", "message": f"no {S} {K}"})
    with pytest.raises(RequestError) as caught:
        await getattr(client, method)(**given)
    fault = caught.value
    assert (fault.fate, fault.code, fault.status) == (Fate.REFUSED, "forbidden", 403)
    if S in given.values():
        assert S not in f"{fault} {fault.body}"


@endpoints
async def test_each_endpoints_success_without_sense_may_have_been_acted_on(
    server, client, method, given, request_, answer, right
):
    for body in (b"<html>", b"", b"[]", b"{" * 100_000):
        server.request(*request_).respond(answer[0], content=body)
        with pytest.raises(RequestError) as caught:
            await getattr(client, method)(**given)
        assert (caught.value.fate, caught.value.code) == (Fate.MAYBE_SENT, "non_json_response")


@pytest.mark.parametrize(("method", "given"), [(e[0], e[1]) for e in ENDPOINTS if e[0] in ("create", "send", "pair")])
async def test_an_answer_without_what_it_must_hold_is_unreadable(server, client, method, given):
    server.route().respond(201, json={"something": "else"})
    with pytest.raises(RequestError, match="without"):
        await getattr(client, method)(**given)


async def test_a_receipt_nested_too_deeply_is_unreadable_and_nothing_worse(server, client):
    deep = b"[" * 900 + b"]" * 900
    server.route().respond(201, content=b'{"id":"m","cursor":"1","warning":' + deep + b"}")
    try:
        assert (await client.send(S, "me", K, text="x")).cursor == 1
    except RequestError as fault:
        assert fault.fate is Fate.MAYBE_SENT  # noqa: PT017 - either is right, it depends on the stack


async def test_a_lost_send_is_not_repeated_and_a_lost_poll_is_once(server, client):
    route = server.route().mock(side_effect=httpx.ReadError("gone"))
    with pytest.raises(RequestError):
        await client.send(S, "me", K, text="x")
    assert route.call_count == 1
    with pytest.raises(RequestError):
        await client.poll(S, "me")
    assert route.call_count == 3


@pytest.mark.parametrize(
    ("error", "fate"), [(httpx.ConnectError("no"), Fate.NOT_SENT), (httpx.ReadError("gone"), Fate.MAYBE_SENT)]
)
async def test_a_request_without_an_answer_has_a_fate(server, client, error, fate):
    server.route().mock(side_effect=error)
    with pytest.raises(RequestError) as caught:
        await client.send(S, "me", K, text="x")
    assert (caught.value.fate, caught.value.status) == (fate, None)


async def test_too_many_requests_say_how_long_to_wait(server, client):
    body = {"error": "rate_limit_exceeded", "message": "slow down"}
    server.route().respond(429, json=body, headers={"Retry-After": "7"})
    with pytest.raises(RequestError) as caught:
        await client.poll(S, "me")
    assert (caught.value.fate, caught.value.retry_after) == (Fate.WAIT, 7.0)


async def test_what_goes_out_is_what_the_protocol_says(server, client):
    route = server.post(f"/v1/sessions/{S}/messages").respond(201, json={"id": "m", "cursor": 1})
    await client.send(S, "me", K, text="Grüße", payload={"a": [1]})
    sent = route.calls.last.request
    assert json.loads(sent.content) == {"text": "Grüße", "json": {"a": [1]}}
    assert (sent.headers["X-Agent-Id"], sent.headers["X-Session-Key"]) == ("me", K)


async def test_from_the_very_first_is_asked_without_after(server, client):
    route = server.get(f"/v1/sessions/{S}/messages").respond(json={"messages": []})
    await client.poll(S, "me")
    assert not route.calls.last.request.url.query
    await client.poll(S, "me", after=0)
    assert route.calls.last.request.url.query == b"after=0"


async def test_small_answers_are_capped_and_polls_are_cut(server, client, monkeypatch):
    monkeypatch.setattr(clients, "SMALL", 50)
    monkeypatch.setattr(clients, "LARGE", 100)
    server.get("/health").respond(json={"x": "y" * 100})
    with pytest.raises(RequestError, match="longer than"):
        await client.health()
    messages = [{"cursor": str(n), "text": "x" * 20} for n in range(9)]
    server.get(f"/v1/sessions/{S}/messages").respond(json={"messages": messages})
    found = await client.poll(S, "me")
    assert found.cut
    assert 0 < len(found.messages) < 9


async def test_every_request_is_counted_before_it_goes(server):
    counted = []
    server.get("/health").mock(side_effect=lambda _: httpx.Response(200, json={"uptime": len(counted)}))
    async with NexusClient(SERVER, on_request=lambda: counted.append(1)) as asking:
        assert (await asking.health()).uptime == 1.0
    assert len(counted) == 1


async def test_a_request_that_may_not_go_does_not_go(server):
    route = server.get("/health").respond(json={})

    def refuse() -> None:
        raise RuntimeError("no budget")

    async with NexusClient(SERVER, on_request=refuse) as asking:
        with pytest.raises(RuntimeError, match="no budget"):
            await asking.health()
    assert not route.called


@pytest.mark.parametrize("skew", [-86400.0, 0.0, 5.0, 86400.0])
async def test_what_is_left_of_a_lease_is_counted_by_the_servers_clock(server, skew):
    now = [1000.0]
    at = time.time() + skew
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(at))
    server.get("/health").respond(json={}, headers={"Date": date})
    async with NexusClient(SERVER, clock=lambda: now[0]) as asking:
        await asking.health()
        lease = Lease(3600.0, int(at) + 100.0)
        assert asking.remaining(lease) == 100.0
        now[0] += 30.0
        assert asking.remaining(lease) == 70.0


async def test_what_is_left_of_a_lease_without_a_clock_or_an_end(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    async with NexusClient(SERVER) as asking:
        assert asking.remaining(Lease(60.0, 1100.0)) == 100.0
        assert asking.remaining(Lease(60.0, None)) == 60.0
        assert asking.remaining(Lease(None, None)) is None


async def test_even_a_refusal_tells_the_servers_time(server):
    server.get("/health").respond(404, headers={"Date": "Thu, 01 Jan 1970 00:01:00 GMT"})
    async with NexusClient(SERVER, clock=lambda: 0.0) as asking:
        with pytest.raises(RequestError):
            await asking.health()
        assert asking.remaining(Lease(None, 160.0)) == 100.0


def test_a_server_that_ids_would_go_to_unencrypted_is_refused_before_anything_is_asked():
    for url in ("http://example.com", "ftp://x", ""):
        with pytest.raises(UserError):
            NexusClient(url)


async def test_a_path_in_the_servers_address_stays_in_front():
    async with RawServer([ok(b'{"uptime":5}')]) as raw, NexusClient(raw.url + "/base/") as asking:
        assert (await asking.health()).uptime == 5.0
        assert raw.requests[0][0].startswith(b"GET /base/health HTTP/1.1\r\n")
