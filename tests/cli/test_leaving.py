"""leave: the decision table. What is kept goes only when the server confirms that we are out."""

from __future__ import annotations

import os

import pytest

SESSION = "c" * 48


@pytest.fixture
def left(nexus, answering):
    """Leave a session on the answering server; gives the run, and whether what was kept is still there."""
    for name, value in {"agent": "me", "key": "k" * 64, "cursor": "5", "server": answering.url}.items():
        nexus.write(f"{value}\n", "sessions", SESSION, name)
    nexus.write(f'{{"room": "{SESSION}"}}', "aliases.json")

    def leave():
        ran = nexus("leave", "room")
        kept = os.path.exists(nexus.path("sessions", SESSION))
        assert kept == ('"room"' in (nexus.file("aliases.json") or ""))
        return ran, kept

    return leave


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"ok": True, "sessionId": SESSION, "agentId": "me", "message": "bye"}),
        (200, {"status": "removed"}),
        (404, {"error": "session_not_found", "message": "gone"}),
        (404, {"error": "agent_not_found", "message": "gone"}),
    ],
)
def test_what_confirms_that_we_are_out_forgets_the_session(left, answering, status, body):
    answering.answer(status, body)
    ran, kept = left()
    assert (ran.status, kept) == (0, False)
    assert ran.json == body | ({} if status == 200 else {"message": "gone"})
    method, path, headers, _ = answering.asked[0]
    assert (method, path) == ("DELETE", f"/v1/sessions/{SESSION}/agents/me")
    assert (headers["x-agent-id"], headers["x-session-key"]) == ("me", "k" * 64)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, {"error": "forbidden", "message": "creators stay"}),
        (401, {"error": "missing_session_key"}),
        (429, {"error": "rate_limit_exceeded"}),
        (500, {"error": "internal_error"}),
        (503, {"error": "session_not_found"}),
        (404, {"error": "something_else"}),
        (404, b"<html>not found</html>"),
        (200, b"<html>welcome</html>"),
        (301, b""),
    ],
)
def test_anything_else_keeps_all_for_another_try(left, answering, status, body):
    answering.answer(status, body)
    ran, kept = left()
    assert (ran.status, kept) == (1, True)
    assert "error" in ran.json
    assert "another try" in ran.err


@pytest.mark.parametrize(
    ("status", "body", "out"),
    [
        (200, {"agents": ["other"]}, True),
        (200, {"agents": []}, True),
        (200, {"agents": [{"agentId": "other"}]}, True),
        (404, {"error": "session_not_found"}, True),
        (200, {"agents": ["other", "me"]}, False),
        (200, {"agents": [{"agentId": "me"}]}, False),
        (200, {}, False),
        (404, b"<html>", False),
        (500, {"error": "internal_error"}, False),
        (200, b"<html>", False),
    ],
)
def test_a_refused_key_counts_only_with_a_look_at_who_is_in(left, answering, status, body, out):
    answering.answer(401, {"error": "invalid_session_key", "message": "no"})
    answering.answer(status, body)
    ran, kept = left()
    assert (ran.status, kept) == (0 if out else 1, not out)
    assert ran.json["error"] == "invalid_session_key"
    assert answering.asked[1][:2] == ("GET", f"/v1/sessions/{SESSION}")


def test_no_connection_keeps_all(left, answering, nexus):
    nexus.write("http://127.0.0.1:1\n", "sessions", SESSION, "server")
    ran, kept = left()
    assert (ran.status, kept) == (1, True)
    assert ran.json["error"] == "server_unreachable"
