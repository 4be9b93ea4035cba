"""What the relay decides, without a server round it."""

from __future__ import annotations

import pytest

from nexusd.relay.exchange import Exchange
from nexusd.relay.fields import Creation
from nexusd.timestamps import stamp

from .conftest import entropy, refused


def test_a_session_has_the_public_servers_defaults(exchange) -> None:
    created = exchange.create()
    assert (created["ttl"], created["maxAgents"], created["state"]) == (3660, 50, "active")
    assert len(created["sessionId"]) == 48
    assert set(created["sessionId"]) <= set("0123456789abcdef")
    assert "sessionKey" not in created


def test_a_creator_is_in_at_once_and_holds_a_key(exchange) -> None:
    created = exchange.create(Creation(creator="alice"))
    assert created["creatorAgentId"] == "alice"
    assert len(created["sessionKey"]) == 64
    described = exchange.describe(created["sessionId"])
    assert described["creatorAgentId"] == "alice"
    assert [agent["agentId"] for agent in described["agents"]] == ["alice"]
    assert exchange.send(created["sessionId"], "alice", created["sessionKey"], "hello")["cursor"] == "1"


def test_a_session_tells_when_it_began_and_when_it_ends(exchange, clock, session) -> None:
    described = exchange.describe(session)
    assert described["createdAt"] == "2027-01-15T08:00:00.000Z"
    assert described["expiresAt"] == stamp(clock.now + 3660)
    assert described["agents"][0] == {"agentId": "alice", "joinedAt": "2027-01-15T08:00:00.000Z"}
    assert "creatorAgentId" not in described


@pytest.mark.parametrize("ttl", [59, 86_401, -1, 10**30])
def test_a_ttl_outside_the_range_is_refused_and_the_range_named(exchange, session, ttl) -> None:
    with refused(400, "invalid_request") as caught:
        exchange.create(Creation(ttl=ttl))
    assert "60 to 86400" in caught.value.message
    with refused(400, "invalid_request"):
        exchange.renew(session, "alice", ttl)


@pytest.mark.parametrize("ttl", [60, 86_400])
def test_the_ends_of_the_ttl_range_belong_to_it(exchange, ttl) -> None:
    assert exchange.create(Creation(ttl=ttl))["ttl"] == ttl


def test_every_fault_of_a_creation_is_named_at_once(exchange) -> None:
    with refused(400, "invalid_request") as caught:
        exchange.create(Creation(ttl=1, max_agents=0))
    assert len(caught.value.details) == 2


@pytest.mark.parametrize("agent", ["", None])
def test_who_gives_no_name_is_told_that_it_is_missing(exchange, session, agent) -> None:
    with refused(400, "missing_agent_id"):
        exchange.join(session, agent)


@pytest.mark.parametrize("agent", ["system", "a b", "ä", "x" * 129, "a/b", "a\n"])
def test_a_bad_name_and_the_servers_own_are_refused(exchange, session, agent) -> None:
    with refused(400, "invalid_request"):
        exchange.join(session, agent)
    with refused(400, "invalid_request"):
        exchange.create(Creation(creator=agent))


def test_a_name_is_taken_once_also_in_a_full_session(exchange) -> None:
    session_id = exchange.create(Creation(max_agents=1))["sessionId"]
    joined = exchange.join(session_id, "x" * 128)
    assert (joined["status"], joined["agentsOnline"]) == ("joined", 1)
    with refused(409, "agent_id_taken"):
        exchange.join(session_id, "x" * 128)
    with refused(409, "session_full"):
        exchange.join(session_id, "bob")


def test_each_agent_has_a_key_of_its_own(exchange, session) -> None:
    carol, dave = exchange.join(session, "carol"), exchange.join(session, "dave")
    assert carol["sessionKey"] != dave["sessionKey"]
    with refused(403, "invalid_session_key"):
        exchange.send(session, "carol", dave["sessionKey"], "hello")


def test_cursors_count_from_one_and_everybody_hears_everything(exchange, session) -> None:
    assert [exchange.send(session, who, None, who)["cursor"] for who in ("alice", "bob")] == ["1", "2"]
    heard = exchange.poll(session, "alice")
    assert [(m["agentId"], m["text"], m["cursor"]) for m in heard["messages"]] == [
        ("alice", "alice", "1"),
        ("bob", "bob", "2"),
    ]
    assert heard["nextCursor"] == "2"


def test_a_message_is_verified_only_with_a_key(exchange, session) -> None:
    key = exchange.join(session, "carol")["sessionKey"]
    exchange.send(session, "carol", key, "mine")
    exchange.send(session, "carol", None, "perhaps mine")
    exchange.send(session, "carol", "", "an empty header is none")
    assert [m["verified"] for m in exchange.poll(session, "carol")["messages"]] == [True, False, False]


def test_after_is_exclusive_and_comes_back_where_there_is_nothing_new(exchange, session) -> None:
    for text in ("one", "two", "three"):
        exchange.send(session, "alice", None, text)
    assert [m["text"] for m in exchange.poll(session, "bob", "1")["messages"]] == ["two", "three"]
    assert exchange.poll(session, "bob", "3") == {"messages": [], "nextCursor": "3"}
    assert exchange.poll(session, "bob", "9" * 30) == {"messages": [], "nextCursor": "9" * 30}


def test_an_empty_session_begins_at_cursor_zero(exchange, session) -> None:
    assert exchange.poll(session, "bob") == {"messages": [], "nextCursor": "0"}


@pytest.mark.parametrize("after", ["", "-1", "1_0", "\uff11\uff12", "1" * 31, "x", "1.0", " 1"])
def test_what_is_no_cursor_is_refused(exchange, session, after) -> None:
    with refused(400, "invalid_request"):
        exchange.poll(session, "bob", after)


def test_the_greeting_sits_at_cursor_zero_and_only_a_poll_from_the_beginning_hears_it(exchange, clock) -> None:
    session_id = exchange.create(Creation(greeting="welcome", creator="alice"))["sessionId"]
    first = exchange.poll(session_id, "alice")
    assert [(m["agentId"], m["text"], m["cursor"]) for m in first["messages"]] == [("system", "welcome", "0")]
    assert first["nextCursor"] == "0"
    assert first["messages"][0]["expiresAt"] == stamp(clock.now + 3660)
    assert exchange.poll(session_id, "alice", "0")["messages"] == []
    exchange.send(session_id, "alice", None, "thanks")
    again = exchange.poll(session_id, "alice")
    assert [m["cursor"] for m in again["messages"]] == ["0", "1"]
    assert again["messages"][0]["id"] == first["messages"][0]["id"]
    assert session_id not in first["messages"][0]["id"]


def test_members_are_listed_with_when_they_were_last_seen(exchange, clock, session) -> None:
    clock.pass_by(5)
    listed = exchange.poll(session, "bob", members=True)["members"]
    assert listed == [
        {"agentId": "alice", "lastSeenAt": stamp(clock.now - 5)},
        {"agentId": "bob", "lastSeenAt": stamp(clock.now)},
    ]
    assert "members" not in exchange.poll(session, "bob")


def test_a_stranger_can_neither_poll_nor_send_nor_renew(exchange, session) -> None:
    with refused(403, "agent_not_in_session"):
        exchange.poll(session, "mallory")
    with refused(403, "forbidden"):
        exchange.send(session, "mallory", None, "hello")
    with refused(403, "forbidden"):
        exchange.renew(session, "mallory")


def test_nothing_works_on_an_unknown_session(exchange) -> None:
    for attempt in (
        lambda: exchange.describe("nope"),
        lambda: exchange.join("nope", "alice"),
        lambda: exchange.poll("nope", "alice"),
        lambda: exchange.send("nope", "alice", None, "hello"),
        lambda: exchange.renew("nope", "alice"),
        lambda: exchange.leave("nope", "alice", "alice", "key"),
        lambda: exchange.pair("nope"),
    ):
        with refused(404, "session_not_found"):
            attempt()


def test_polls_and_joins_do_not_keep_a_session_alive(exchange, clock, session) -> None:
    clock.pass_by(3600)
    exchange.poll(session, "alice")
    exchange.join(session, "carol")
    exchange.describe(session)
    clock.pass_by(59.999)
    assert exchange.describe(session)["state"] == "active"
    clock.pass_by(0.001)
    with refused(404, "session_not_found"):
        exchange.describe(session)


def test_a_message_slides_the_expiry_and_itself_expires(exchange, clock, session) -> None:
    clock.pass_by(3600)
    sent = exchange.send(session, "alice", None, "still here")
    assert sent["expiresAt"] == stamp(clock.now + 3660) == exchange.describe(session)["expiresAt"]
    clock.pass_by(3600)
    exchange.renew(session, "alice")
    assert len(exchange.poll(session, "bob")["messages"]) == 1
    clock.pass_by(60)
    assert exchange.poll(session, "bob") == {"messages": [], "nextCursor": "0"}
    assert exchange.send(session, "alice", None, "next")["cursor"] == "2"
    assert [m["cursor"] for m in exchange.poll(session, "bob", "1")["messages"]] == ["2"]


def test_a_renewal_slides_the_expiry_and_may_change_the_ttl_for_good(exchange, clock, session) -> None:
    clock.pass_by(100)
    renewed = exchange.renew(session, "alice", 120)
    assert renewed["sessionId"] == session
    assert (renewed["ttl"], renewed["state"], renewed["expiresAt"]) == (120, "active", stamp(clock.now + 120))
    assert [agent["agentId"] for agent in renewed["agents"]] == ["alice", "bob"]
    clock.pass_by(100)
    assert exchange.renew(session, "bob")["expiresAt"] == stamp(clock.now + 120)
    clock.pass_by(120)
    with refused(404, "session_not_found"):
        exchange.describe(session)


def test_a_message_keeps_its_own_end_when_the_ttl_shrinks(exchange, clock, session) -> None:
    exchange.send(session, "alice", None, "long")
    exchange.renew(session, "alice", 60)
    exchange.send(session, "alice", None, "short")
    clock.pass_by(30)
    exchange.renew(session, "alice", 86_400)
    clock.pass_by(30)
    assert [m["text"] for m in exchange.poll(session, "bob")["messages"]] == ["long"]
    assert exchange.poll(session, "bob", "1")["messages"] == []


def test_the_silent_are_removed_but_never_the_creator(clock) -> None:
    exchange = Exchange(clock, entropy(), inactive_after=100)
    session_id = exchange.create(Creation(creator="alice"))["sessionId"]
    for name in ("bob", "carol", "dave"):
        exchange.join(session_id, name)
    clock.pass_by(99)
    exchange.poll(session_id, "bob")
    exchange.renew(session_id, "carol")
    clock.pass_by(1)
    assert [agent["agentId"] for agent in exchange.describe(session_id)["agents"]] == ["alice", "bob", "carol"]
    with refused(403, "agent_not_in_session"):
        exchange.poll(session_id, "dave")
    assert exchange.join(session_id, "dave")["status"] == "joined"


def test_an_agent_leaves_with_its_own_key(exchange, session) -> None:
    key = exchange.join(session, "carol")["sessionKey"]
    left = exchange.leave(session, "carol", "carol", key)
    assert (left["ok"], left["sessionId"], left["agentId"]) == (True, session, "carol")
    assert left["message"]
    with refused(403, "agent_not_in_session"):
        exchange.poll(session, "carol")
    assert exchange.join(session, "carol")["sessionKey"] != key


def test_nobody_is_let_out_on_anothers_word(exchange, session) -> None:
    carol, dave = (exchange.join(session, name)["sessionKey"] for name in ("carol", "dave"))
    with refused(401, "missing_session_key"):
        exchange.leave(session, "carol", "carol", None)
    with refused(401, "invalid_session_key"):
        exchange.leave(session, "carol", "carol", dave)
    with refused(403, "forbidden"):
        exchange.leave(session, "carol", "dave", dave)
    with refused(404, "agent_not_found"):
        exchange.leave(session, "erin", "erin", carol)
    with refused(400, "missing_agent_id"):
        exchange.leave(session, "carol", None, carol)
    assert len(exchange.describe(session)["agents"]) == 4


def test_the_creator_cannot_leave(exchange) -> None:
    created = exchange.create(Creation(creator="alice"))
    with refused(403, "forbidden"):
        exchange.leave(created["sessionId"], "alice", "alice", created["sessionKey"])


def test_a_claim_joins_and_burns_the_code(exchange, clock, session) -> None:
    offer = exchange.pair(session)
    assert offer["expiresAt"] == stamp(clock.now + 600)
    claimed = exchange.claim(offer["code"], "carol")
    assert (claimed["sessionId"], claimed["status"]) == (session, "claimed")
    assert claimed["expiresAt"] == stamp(clock.now + 3660)
    exchange.send(session, "carol", claimed["sessionKey"], "in")
    with refused(404, "code_expired_or_used"):
        exchange.claim(offer["code"], "dave")


def test_a_claim_that_fails_does_not_burn_the_code(exchange) -> None:
    session_id = exchange.create(Creation(max_agents=2))["sessionId"]
    exchange.join(session_id, "alice")
    code = exchange.pair(session_id)["code"]
    with refused(409, "agent_id_taken"):
        exchange.claim(code, "alice")
    key = exchange.join(session_id, "bob")["sessionKey"]
    with refused(409, "session_full"):
        exchange.claim(code, "carol")
    with refused(400, "missing_agent_id"):
        exchange.claim(code, None)
    exchange.leave(session_id, "bob", "bob", key)
    assert exchange.claim(code, "carol")["status"] == "claimed"


def test_a_code_outlives_no_session(exchange, clock) -> None:
    session_id = exchange.create(Creation(ttl=60))["sessionId"]
    code = exchange.pair(session_id)["code"]
    clock.pass_by(60)
    with refused(404, "session_not_found"):
        exchange.claim(code, "alice")


def test_a_secret_is_replaced_in_text_and_json_and_the_sender_is_told(exchange, session) -> None:
    sent = exchange.send(session, "alice", None, "AKIAABCDEFGHIJKLMNOP", b'{"n":1.10,"k":"xoxb-1234567890-abc"}')
    assert "aws_access_key" in sent["warning"]
    assert "slack_token" in sent["warning"]
    (heard,) = exchange.poll(session, "bob")["messages"]
    assert heard["text"] == "[REDACTED:aws_access_key]"
    assert bytes(heard["json"]) == b'{"n":1.10,"k":"[REDACTED:slack_token]"}'


def test_a_secret_in_a_greeting_is_replaced_too(exchange) -> None:
    session_id = exchange.create(Creation(greeting="use AKIAABCDEFGHIJKLMNOP", creator="alice"))["sessionId"]
    assert exchange.poll(session_id, "alice")["messages"][0]["text"] == "use [REDACTED:aws_access_key]"


def test_a_harmless_message_brings_no_warning(exchange, session) -> None:
    assert set(exchange.send(session, "alice", None, "hello")) == {"id", "cursor", "expiresAt"}


def test_a_session_that_holds_all_it_can_refuses_until_the_oldest_expires(clock) -> None:
    exchange = Exchange(clock, entropy(), session_weight=2000)
    session_id = exchange.create(Creation(ttl=60, creator="alice"))["sessionId"]
    exchange.send(session_id, "alice", None, "x" * 1000)
    with refused(429, "rate_limit_exceeded") as caught:
        exchange.send(session_id, "alice", None, "x" * 1000)
    assert caught.value.retry_after == 61
    clock.pass_by(59)
    exchange.renew(session_id, "alice")
    clock.pass_by(2)
    assert exchange.send(session_id, "alice", None, "x" * 1000)["cursor"] == "2"


def test_the_figures_count_what_is_there_and_what_was_taken(exchange, clock, session) -> None:
    exchange.send(session, "alice", None, "hello")
    clock.pass_by(10)
    assert exchange.stats() == {"activeSessions": 1, "totalAgents": 2, "totalMessages": 1, "uptime": 10.0}
    clock.pass_by(3660)
    assert exchange.stats() == {"activeSessions": 0, "totalAgents": 0, "totalMessages": 1, "uptime": 3670.0}
