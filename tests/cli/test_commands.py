"""Every command with the real relay: exit status and JSON keys."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest

import nexusd

COMMANDS = [
    "create",
    "status",
    "join",
    "leave",
    "pair",
    "claim",
    "pair-status",
    "send",
    "poll",
    "renew",
    "alias",
    "unalias",
    "ls",
    "poll-all",
    "poll-daemon",
    "heartbeat",
    "poll-status",
    "config",
    "bind",
    "doctor",
    "read",
    "wait",
    "ask",
    "tail",
]


def test_version_is_json(nexus):
    assert nexus("--version").json == {"nexus": nexusd.__version__}


@pytest.mark.parametrize("args", [["--help"], ["help"], [], ["help", "poll"], ["poll", "--help"]])
def test_help_goes_to_stderr_and_stdout_stays_empty(nexus, args):
    ran = nexus(*args)
    assert (ran.status, ran.out) == (0, "")
    assert "usage: nexus" in ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_a_server_and_an_agent_id(nexus, command):
    ran = nexus(command, "--help")
    assert (ran.status, ran.out) == (0, "")
    assert "--url URL" in ran.err
    assert "--agent-id ID" in ran.err
    assert command in nexus("--help").err


def test_create_gives_what_the_server_said_and_keeps_nothing(nexus):
    ran = nexus("create", "--max-agents", "3", "--greeting", "hi")
    assert ran.status == 0
    assert set(ran.json) >= {"sessionId", "ttl", "maxAgents", "state"}
    assert ran.json["ttl"] == 3660
    assert ran.json["maxAgents"] == 3
    assert "3660" in ran.err
    assert nexus("ls").json == {"sessions": []}


def test_create_with_a_creator_enters_and_keeps_key_server_and_agent(nexus):
    made = nexus("create", "--creator-agent-id", "boss", "--ttl", "10m").json
    session = made["sessionId"]
    assert made["ttl"] == 600
    assert nexus.file("sessions", session, "agent") == "boss\n"
    assert nexus.file("sessions", session, "key") == made["sessionKey"] + "\n"
    assert nexus.file("sessions", session, "server") == nexus.server + "\n"


def test_create_join_as_pair_is_the_whole_opening_in_one_document(nexus, other):
    ran = nexus("create", "--join-as", "alice", "--pair", "--alias", "room")
    opened = ran.json
    assert (ran.status, opened["agentId"]) == (0, "alice")
    assert opened["sessionKey"]
    assert set(opened["pair"]) >= {"code", "url", "expiresAt"}
    claimed = other("claim", opened["pair"]["url"], "--agent-id", "bob", "--alias", "friend", NEXUS_URL="")
    assert (claimed.status, claimed.json["status"]) == (0, "claimed")
    assert claimed.json["sessionId"] == opened["sessionId"]
    assert other("send", "friend", "hello").status == 0
    assert [m["text"] for m in nexus("poll", "room").json["messages"]] == ["hello"]


def test_status_join_and_renew(nexus, other, room):
    assert nexus("status", "room").json["sessionId"] == room
    joined = other("join", room, "--agent-id", "bob", "--alias", "r")
    assert joined.json["status"] == "joined"
    assert other.file("sessions", room, "key") == joined.json["sessionKey"] + "\n"
    renewed = nexus("renew", "--ttl", "30m", "room")
    assert renewed.json["ttl"] == 1800
    assert nexus.file("sessions", room, "renewed") == "1800\n"
    assert nexus("renew", "room").status == 0


def test_a_session_id_can_be_given_on_stdin(nexus, other, room):
    assert other("join", "-", "--agent-id", "bob", stdin=room.encode() + b"\n").json["status"] == "joined"


def test_pair_claim_and_pair_status(nexus, other, room):
    code = nexus("pair", "room").json["code"]
    assert nexus("pair-status", code).json["state"] == "pending"
    assert other("claim", "-", "--agent-id", "bob", stdin=code.encode() + b"\n").json["status"] == "claimed"
    assert nexus("pair-status", code).json["state"] == "claimed"
    assert other.file("sessions", room, "agent") == "bob\n"


def test_options_stand_before_and_after_the_positionals(nexus, room):
    assert nexus("--agent-id", "alice", "send", "--url", nexus.server, "room", "a").status == 0
    assert nexus("send", "room", "--agent-id", "alice", "b", "--url", nexus.server, "c").status == 0
    assert nexus("send", "room", "--", "-d", "--strict").status == 0
    assert [m["text"] for m in nexus("poll", "room").json["messages"]] == ["a", "b c", "-d --strict"]


def test_send_takes_the_text_from_stdin_and_from_a_file_untouched(nexus, room, tmp_path):
    text = "$HOME `date` 'x' \"y\" \\n\n  zwei Äpfel\n"
    (tmp_path / "note").write_text(text + "\n")
    assert set(nexus("send", "room", "-", stdin=text.encode() + b"\n").json) >= {"id", "cursor", "expiresAt"}
    nexus("send", "room", f"@{tmp_path}/note")
    nexus("send", "room", "@@home")
    nexus("send", "room", "@bob are you there?")
    found = nexus("poll", "room").json["messages"]
    assert [m["text"] for m in found] == [text, text, "@home", "@bob are you there?"]
    assert all(m["verified"] for m in found)


def test_send_json_alone_and_beside_a_text(nexus, room):
    assert nexus("send", "room", "--json", '{"a": [1, null]}', "--strict").status == 0
    assert nexus("send", "room", "look", "--json", "7").status == 0
    first, second = nexus("poll", "room").json["messages"]
    assert first["json"] == {"a": [1, None]}
    assert (second["text"], second["json"]) == ("look", 7)
    caps = json.loads(nexus.file("server-caps.json"))
    assert caps["capabilities"]["messageFormat"] == ["text", "json"]


def test_poll_moves_on_and_a_look_back_does_not(nexus, room):
    nexus("send", "room", "one")
    assert len(nexus("poll", "room", "--after", "0").json["messages"]) == 1
    assert nexus.file("sessions", room, "cursor") is None
    found = nexus("poll", "room").json
    assert nexus.file("sessions", room, "cursor") == found["messages"][-1]["cursor"] + "\n"
    assert nexus("poll", "room").json["messages"] == []
    with_members = nexus("poll", "room", "--after", "0", "--members").json
    assert [m["agentId"] for m in with_members["members"]] == ["alice"]
    assert len(with_members["messages"]) == 1


def test_a_greeting_is_seen_once_and_again_when_looked_back_for(nexus):
    nexus("create", "--join-as", "me", "--greeting", "welcome", "--alias", "g")
    assert [m["text"] for m in nexus("poll", "g").json["messages"]] == ["welcome"]
    assert nexus("poll", "g").json["messages"] == []
    assert nexus("poll-all").json["sessions"][0]["messages"] == []
    assert [m["text"] for m in nexus("poll", "g", "--after", "0").json["messages"]] == ["welcome"]


def test_poll_all_polls_every_session_and_moves_on(nexus):
    for name in ("a", "b", "c"):
        nexus("create", "--join-as", "me", "--alias", name)
        nexus("send", name, f"to {name}")
    found = nexus("poll-all", "--members")
    assert found.status == 0
    by_alias = {entry["alias"]: entry for entry in found.json["sessions"]}
    assert {a: e["messages"][0]["text"] for a, e in by_alias.items()} == {"a": "to a", "b": "to b", "c": "to c"}
    assert by_alias["a"]["members"][0]["agentId"] == "me"
    assert all(e["messages"] == [] for e in nexus("poll-all", "--active").json["sessions"])


def test_alias_unalias_and_ls(nexus, room):
    assert nexus("alias", "room", "second").json == {"ok": True, "alias": "second", "sessionId": room}
    (entry,) = nexus("ls", "--json").json["sessions"]
    assert entry["sessionId"] == room
    assert entry["status"] == "active"
    assert entry["agentId"] == "alice"
    assert nexus("unalias", "room").json == {"ok": True, "removed": "room"}
    assert nexus("ls", "--active").json["sessions"][0]["alias"] == "second"


def test_config_sets_shows_and_unsets_the_server(nexus):
    assert nexus("config", "set-url", "https://Relay.Example/").json == {
        "ok": True,
        "serverUrl": "https://relay.example",
    }
    shown = nexus("config", "show", NEXUS_URL="").json
    assert (shown["serverUrl"], shown["source"]) == ("https://relay.example", "config")
    assert nexus("config", "show").json["source"] == "env NEXUS_URL"
    assert nexus("config", "--url", nexus.server).json["source"] == "--url"
    assert nexus("config", "unset").json == {"ok": True}
    assert nexus("config", NEXUS_URL="").json["serverUrl"] == "https://messaging.md"


def test_bind_notes_the_server_that_knows_the_session(nexus, room):
    nexus.write("https://wrong.example\n", "sessions", room, "server")
    assert nexus("bind", room).json == {"ok": True, "sessionId": room, "server": nexus.server}
    assert nexus.file("sessions", room, "server") == nexus.server + "\n"


def test_a_session_without_a_server_is_bound_where_it_is_found(nexus, room):
    os.unlink(nexus.path("sessions", room, "server"))
    assert nexus("status", "room").status == 0
    assert nexus.file("sessions", room, "server") == nexus.server + "\n"


def test_a_sessions_own_server_outranks_the_environment_and_says_so(nexus, room):
    ran = nexus("status", "room", NEXUS_URL="https://elsewhere.example")
    assert ran.status == 0
    assert "warning: this session is bound to" in ran.err
    assert "(session binding)" in ran.err
    ran = nexus("status", "room", "--url", "http://127.0.0.1:1")
    assert ran.status == 1
    assert "because of --url" in ran.err


def test_an_override_of_the_configured_server_is_said(nexus):
    nexus("config", "set-url", "https://configured.example")
    ran = nexus("create")
    assert "warning: using" in ran.err
    assert "-> server: 127.0.0.1" in ran.err
    assert "(env NEXUS_URL)" in ran.err


def test_doctor_finds_all_well(nexus, room):
    ran = nexus("doctor")
    assert ran.status == 0, ran.out
    report = ran.json
    assert set(report) == {"effectiveServer", "source", "divergence", "ok", "health", "sessions"}
    (session,) = report["sessions"]
    assert session["memberOfSession"] is True
    assert session["keyFile"] == "ok"
    assert 500 < session["timeLeft"] < 660
    assert report["health"][0]["reachable"] is True
    assert abs(report["health"][0]["clockSkew"]) < 30


def test_doctor_tells_a_readable_key_and_a_refused_connection(nexus, room):
    os.chmod(nexus.path("sessions", room, "key"), 0o644)
    nexus.write("http://127.0.0.1:1\n", "sessions", room, "server")
    ran = nexus("doctor")
    assert ran.status == 1
    (session,) = ran.json["sessions"]
    assert (session["keyFile"], session["httpCode"], session["reason"]) == ("insecure", 0, "refused")
    assert ran.json["divergence"] is True
    assert {"reason": "refused", "reachable": False}.items() <= ran.json["health"][0].items()


def test_heartbeat_prints_each_message_as_a_line_and_ends_quietly_on_ctrl_c(nexus, room):
    nexus("send", "room", "one")
    nexus("send", "room", "two")
    process = nexus.start("heartbeat", "room", "--interval", "1")
    lines = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [line["text"] for line in lines] == ["one", "two"]
    nexus("send", "room", "three")
    assert json.loads(process.stdout.readline())["text"] == "three"
    running = nexus("poll-status").json["processes"]
    assert {"pid": process.pid, "command": "heartbeat"} in running
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"")
    assert b"Traceback" not in err
    assert nexus.file("sessions", room, "cursor") == lines[-1]["cursor"][:-1] + "3\n"


def test_poll_daemon_ends_after_its_time_without_asking(nexus, room):
    nexus("send", "room", "one")
    ran = nexus("poll-daemon", "room", "--interval", "1s", "--ttl", "100ms")
    assert (ran.status, [line["text"] for line in ran.lines]) == (0, ["one"])
    assert "(y/n)" not in ran.err


def test_a_stream_waits_out_a_429_and_ends_on_sigterm(nexus, room, answering):
    answering.answer(429, {"error": "rate_limit_exceeded"}, Retry_After="0")
    answering.answer(502, b"<html>")
    answering.answer(200, {"messages": [{"cursor": "1", "text": "hi"}]})
    process = nexus.start("heartbeat", "room", "--interval", "0", "--url", answering.url)
    assert json.loads(process.stdout.readline())["text"] == "hi"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_stream_ends_when_the_session_is_gone(nexus, room, answering):
    answering.answer(404, {"error": "session_not_found", "message": "gone"})
    ran = nexus("poll-daemon", "room", "--url", answering.url)
    assert (ran.status, ran.json["error"]) == (1, "session_not_found")


@pytest.mark.parametrize(("said", "texts"), [(b"n\n", []), (b"\n", []), (b"y\n", ["one"])])
def test_poll_daemon_asks_a_person_at_a_terminal(nexus, room, said, texts):
    nexus("send", "room", "one")
    leader, follower = pty.openpty()
    program = [sys.executable, "-m", "nexusd.cli.nexus", "poll-daemon", "room", "--ttl", "0"]
    with subprocess.Popen(
        program, env=nexus.env, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as ran:
        os.write(leader, said)
        out, err = ran.communicate(timeout=20)
    os.close(leader)
    os.close(follower)
    assert (ran.returncode, [json.loads(line)["text"] for line in out.splitlines()]) == (0, texts)
    assert b"(y/n)" in err


def test_leave_confirms_and_forgets(nexus, room):
    assert nexus("leave", "room").json["ok"] is True
    assert not os.path.exists(nexus.path("sessions", room))
    assert json.loads(nexus.file("aliases.json")) == {}


def test_everything_kept_is_private_even_under_a_loose_umask(nexus):
    nexus("create", "--join-as", "me", "--alias", "x", umask=0o022)
    nexus("send", "x", "--json", "1", umask=0o022)
    nexus("poll", "x", umask=0o022)
    nexus("config", "set-url", nexus.server, umask=0o022)
    for folder, names, files in os.walk(nexus.home):
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o700, name
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name
    assert stat.S_IMODE(os.stat(nexus.home).st_mode) == 0o700


def test_many_at_once_corrupt_no_file(nexus, room):
    running = [nexus.start("alias", room, f"name{n}") for n in range(12)]
    assert [process.wait(60) for process in running] == [0] * 12
    for process in running:
        process.communicate()
    assert set(json.loads(nexus.file("aliases.json"))) == {"room", *(f"name{n}" for n in range(12))}


def test_a_direct_send_without_an_answer_says_that_it_may_have_arrived(nexus):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def lose() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                connection.recv(65536)
                connection.close()

        threading.Thread(target=lose, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ran = nexus("send", "5e" * 24, "hi", "--direct", "--agent-id", "me", "--url", url)
    assert ran.status == 1
    assert "may have arrived" in ran.json["message"]
    assert "nexus poll" in ran.err
