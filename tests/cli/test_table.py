"""The contract as one table: every command in a life of two people, its exit status and the keys on stdout."""

from __future__ import annotations

import pytest

# who, what, exit status, keys ("?": may be there; expiresAt always may); {words} are filled from earlier answers
TABLE = [
    ("a", "create --creator-agent-id boss", 0, "sessionId ttl maxAgents state creatorAgentId sessionKey"),
    ("a", "create --join-as x --alias room --max-agents 2", 0, "sessionId ttl maxAgents state agentId sessionKey"),
    ("a", "status room", 0, "sessionId state agents ttl maxAgents createdAt? creatorAgentId?"),
    ("a", "alias room two", 0, "ok alias sessionId"),
    ("a", "unalias two", 0, "ok removed"),
    ("a", "unalias two", 1, "error message"),
    ("a", "pair room", 0, "code url expiresAt"),
    ("b", "pair-status {code}", 0, "state code?"),
    ("b", "claim {code}", 1, "error message"),
    ("b", "claim {code} --agent-id bob --alias r", 0, "sessionId status sessionKey"),
    ("b", "claim {code} --agent-id carol", 1, "error message"),
    ("c", "join {sessionId} --agent-id bob", 1, "error message"),
    ("c", "join {sessionId} --agent-id carol", 1, "error message"),
    ("a", "send room hello", 0, "id cursor expiresAt"),
    ("a", "send room --json {{}}", 0, "id cursor expiresAt"),
    ("a", "send room --json {{bad", 1, "error message"),
    ("a", "send room", 1, "error message"),
    ("c", "send {sessionId} hello --agent-id carol", 1, "error message"),
    ("b", "poll r", 0, "messages nextCursor"),
    ("b", "poll r --members", 0, "messages nextCursor? members"),
    ("b", "poll r --after 1", 0, "messages nextCursor"),
    ("c", "poll {sessionId} --agent-id carol", 1, "error message"),
    ("b", "poll-all", 0, "sessions"),
    ("b", "renew r --ttl 900", 0, "sessionId state ttl expiresAt agents"),
    ("c", "renew {sessionId} --agent-id carol", 1, "error message"),
    ("b", "ls", 0, "sessions"),
    ("b", "bind r", 0, "ok sessionId server"),
    ("b", "poll-status", 0, "processes sessions"),
    ("b", "doctor", 0, "effectiveServer source divergence ok health sessions"),
    ("b", "config show", 0, "serverUrl source configPath"),
    ("b", "config set-url https://x.example", 0, "ok serverUrl"),
    ("b", "config unset", 0, "ok"),
    ("b", "leave r", 0, "ok sessionId agentId message"),
    ("b", "leave r", 1, "error message"),
    ("b", "frob", 2, "error message"),
    ("b", "poll", 2, "error message"),
    ("b", "poll r --nope", 2, "error message"),
]  # fmt: skip


def test_every_command_has_the_status_and_the_keys_of_the_contract(nexus, other, tmp_path):
    third = type(nexus)(tmp_path / "third", nexus.server)
    people = {"a": nexus, "b": other, "c": third}
    known: dict[str, str] = {}
    wrong = []
    for who, command, status, keys in TABLE:
        ran = people[who](*command.format_map(known).split())
        known |= {
            key: value for key, value in ran.json.items() if isinstance(value, str) and key in ("sessionId", "code")
        }
        must = {key for key in keys.split() if not key.endswith("?")}
        may = {key.rstrip("?") for key in keys.split()} | {"expiresAt"}
        print(f"nexus {command:50} {ran.status}  {' '.join(ran.json)}")
        if ran.status != status or not must <= set(ran.json) <= may:
            wrong.append((command, ran.status, ran.out))
    assert wrong == []


@pytest.mark.parametrize("command", ["create", "poll-all", "ls"])
def test_a_command_that_needs_no_session_works_in_a_home_of_nothing(nexus, command):
    assert nexus(command).status == 0
