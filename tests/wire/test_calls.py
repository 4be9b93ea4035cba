"""Every call of the protocol as a value."""

from __future__ import annotations

import json

import pytest

from nexusd.wire import calls

S, K = "5e" * 24, "k" * 64


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (calls.create(), "PUT", "/v1/sessions"),
        (calls.session(S), "GET", f"/v1/sessions/{S}"),
        (calls.join(S, "me"), "POST", f"/v1/sessions/{S}/join"),
        (calls.leave(S, "me", K), "DELETE", f"/v1/sessions/{S}/agents/me"),
        (calls.send(S, "me", K, text="x"), "POST", f"/v1/sessions/{S}/messages"),
        (calls.poll(S, "me"), "GET", f"/v1/sessions/{S}/messages"),
        (calls.poll(S, "me", after="12"), "GET", f"/v1/sessions/{S}/messages?after=12"),
        (
            calls.poll(S, "me", after="12", members=True, wait=20),
            "GET",
            f"/v1/sessions/{S}/messages?after=12&members=true&wait=20",
        ),
        (calls.renew(S, "me"), "POST", f"/v1/sessions/{S}/renew"),
        (calls.pair(S), "PUT", "/v1/pair"),
        (calls.claim("A-B-C", "me"), "POST", "/v1/pair/A-B-C/claim"),
        (calls.pair_status("A-B-C"), "GET", "/v1/pair/A-B-C/status"),
        (calls.health(), "GET", "/health"),
        (calls.stats(), "GET", "/v1/stats"),
    ],
)
def test_each_endpoint_is_asked_as_the_protocol_says(call, method, path):
    assert (call.method, call.path) == (method, path)
    assert call.idempotent == (method == "GET")


@pytest.mark.parametrize(
    "call",
    [
        calls.join(S, "me"),
        calls.leave(S, "me", K),
        calls.send(S, "me", None, text="x"),
        calls.poll(S, "me"),
        calls.renew(S, "me"),
        calls.claim("A-B-C", "me"),
    ],
)
def test_who_asks_is_said_where_the_protocol_wants_it(call):
    assert call.headers["X-Agent-Id"] == "me"


@pytest.mark.parametrize(
    "call", [calls.create(), calls.session(S), calls.pair(S), calls.pair_status("x"), calls.health()]
)
def test_who_asks_is_not_said_where_nobody_asked(call):
    assert "X-Agent-Id" not in call.headers


def test_a_key_goes_with_sends_and_leaves_and_nothing_else():
    assert calls.send(S, "me", K, text="x").headers["X-Session-Key"] == K
    assert calls.leave(S, "me", K).headers["X-Session-Key"] == K
    assert "X-Session-Key" not in calls.send(S, "me", None, text="x").headers
    assert "X-Session-Key" not in calls.poll(S, "me").headers


@pytest.mark.parametrize(
    "call", [calls.renew(S, "me"), calls.join(S, "me"), calls.claim("A-B-C", "me"), calls.create()]
)
def test_a_body_is_never_empty(call):
    assert call.body == b"{}"
    assert call.headers["Content-Type"] == "application/json"


def test_a_get_has_no_body():
    assert calls.poll(S, "me").body is None
    assert "Content-Type" not in calls.poll(S, "me").headers


def test_from_the_beginning_is_asked_without_after_and_zero_is_not_the_beginning():
    assert "after" not in calls.poll(S, "me").path
    assert calls.poll(S, "me", after="0").path.endswith("?after=0")


def test_only_what_is_given_is_asked_for():
    assert json.loads(calls.create(ttl=60, creator="me").body) == {"ttl": 60, "creatorAgentId": "me"}
    assert json.loads(calls.renew(S, "me", ttl=61).body) == {"ttl": 61}
    assert json.loads(calls.send(S, "me", None, text="").body) == {"text": ""}
    assert json.loads(calls.send(S, "me", None, payload=0).body) == {"json": 0}
    assert json.loads(calls.send(S, "me", None, text="a", payload=[1]).body) == {"text": "a", "json": [1]}
    assert json.loads(calls.pair(S).body) == {"sessionId": S}


@pytest.mark.parametrize("text", ["Grüße 👍", "line\nline", '"\\', "\x00", "\u2028"])
def test_a_text_arrives_as_it_is(text):
    assert json.loads(calls.send(S, "me", None, text=text).body)["text"] == text


def test_a_payload_that_is_no_json_is_not_sent():
    with pytest.raises(ValueError, match="JSON"):
        calls.send(S, "me", None, payload=float("nan"))


@pytest.mark.parametrize("evil", ["../../admin", "a/b", "a?b=c", "a#b", "a b", "é", "a\r\nX: y"])
def test_nothing_given_can_leave_its_place_in_the_path(evil):
    for call in (
        calls.session(evil),
        calls.claim(evil, "me"),
        calls.leave(S, evil, None),
        calls.poll(S, "me", after=evil),
    ):
        rest = call.path.replace("?after=", "", 1)
        assert not set(rest) & set("?# \r\né")
        assert ".." not in rest.split("/")
        assert rest.count("/") in (3, 4, 5)


def test_a_call_knows_its_secrets_and_does_not_show_them():
    call = calls.send(S, "me", K, text="x")
    assert call.secrets == (S, K)
    assert calls.claim("A-B-C", "me").secrets == ("A-B-C",)
    assert calls.pair(S).secrets == (S,)
    assert S not in repr(call)
    assert K not in repr(call)
